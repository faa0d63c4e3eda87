"""What is different for one database, or for one user?

The option `overrides` is a JSON text. It may come from anybody's hand, so whatever is wrong with it is one
sentence that names the culprit by its path.
"""

import json
import re
from collections.abc import Iterable
from typing import Annotated, Literal, NoReturn, cast, get_args

import pydantic

from domain.capabilities import OWN_USERS, Version
from domain.value import Name, Value

PoolMode = Literal["session", "transaction", "statement"]

# PostgreSQL runs no more (MAX_BACKENDS), and PgBouncer can add and double it without an overflow.
MOST_CONNECTIONS = 2**18 - 1

Connections = Annotated[int, pydantic.Field(ge=1, le=MOST_CONNECTIONS)]

LONGEST_TEXT = 64 * 1024
KEYS = ("pool_mode", "pool_size", "max_connections")
SECTIONS = ("databases", "users")

# PgBouncer's parser takes nothing else as a key, and PostgreSQL no longer name.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_LONGEST_QUOTE = 40


class Override(Value):
    """What one database or user has instead of what the options say; None is as they say."""

    name: Name
    pool_mode: PoolMode | None = None
    pool_size: Connections | None = None  #: of the whole application, like all numbers here
    max_connections: Connections | None = None


class Overrides(Value):
    """All overrides, in the order of their names."""

    databases: tuple[Override, ...] = ()
    users: tuple[Override, ...] = ()

    def of_database(self, name: str) -> Override:
        """What is different for this database: nothing, if it has no entry."""
        return _named(name, self.databases)

    def of_user(self, name: str) -> Override:
        """What is different for this user: nothing, if it has no entry."""
        return _named(name, self.users)

    @property
    def modes(self) -> frozenset[PoolMode]:
        """Every pool mode that somebody has for himself."""
        return frozenset(one.pool_mode for one in (*self.databases, *self.users) if one.pool_mode)

    def __str__(self) -> str:
        """The text that stands for these overrides; '' for none."""
        found = {
            section: {
                one.name: one.model_dump(exclude={"name"}, exclude_none=True) for one in entries
            }
            for section, entries in (("databases", self.databases), ("users", self.users))
            if entries
        }
        return json.dumps(found) if found else ""


def _named(name: str, entries: Iterable[Override]) -> Override:
    return next((one for one in entries if one.name == name), Override(name=name))


def usable(overrides: Overrides, version: Version) -> Overrides:
    """The same, less what this PgBouncer cannot do."""
    return overrides if version >= OWN_USERS else overrides.model_copy(update={"users": ()})


def unsupported_by(overrides: Overrides, version: Version) -> tuple[str, ...]:
    """A sentence for each thing that this PgBouncer cannot do."""
    if not overrides.users or version >= OWN_USERS:
        return ()
    return (
        f"option overrides: users need PgBouncer {OWN_USERS.major}.{OWN_USERS.minor} or later:"
        f" {version} runs here",
    )


class _Object(tuple[tuple[str, object], ...]):
    """A JSON object as it was written: a dict would hide a name that stands there twice."""

    __slots__ = ()


def overrides_in(text: str) -> Overrides:
    """The overrides that a text stands for; '' is none. Raises ValueError with a sentence."""
    if not text.strip():
        return Overrides()
    if len(text.encode(errors="replace")) > LONGEST_TEXT:
        _refuse(f"the text is longer than {LONGEST_TEXT} bytes")
    try:
        data: object = json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        _refuse(f"no JSON at line {error.lineno}, column {error.colno}: {error.msg}")
    except RecursionError:
        _refuse("the text is nested too deeply")
    except ValueError:
        _refuse("a number has too many digits")
    found: dict[str, tuple[Override, ...]] = {}
    for section, entries in _members(data, ""):
        path = _known(section, SECTIONS, "")
        named = (_override(path, name, entry) for name, entry in _members(entries, path))
        found[section] = tuple(sorted(named, key=lambda one: one.name))
    return Overrides(databases=found.get("databases", ()), users=found.get("users", ()))


def _override(section: str, name: str, entry: object) -> Override:
    path = f"{section}.{_quoted(name)}"
    if not _NAME.fullmatch(name):
        _refuse(f"{path} is no name: PgBouncer takes 1 to 63 letters, digits, _, . and -")
    found: dict[str, object] = {}
    for key, value in _members(entry, path):
        where = _known(key, KEYS, path)
        if key == "pool_mode":
            _check(value in get_args(PoolMode), where, "session, transaction or statement", value)
        else:
            fits = type(value) is int and 1 <= value <= MOST_CONNECTIONS
            _check(fits, where, f"a whole number from 1 to {MOST_CONNECTIONS}", value)
        found[key] = value
    return Override.model_validate({"name": name, **found})


def _members(value: object, path: str) -> Iterable[tuple[str, object]]:
    """The members of a JSON object, each with another name. Raises ValueError."""
    _check(isinstance(value, _Object), path or "it", "an object in braces", value)
    seen: set[str] = set()
    for name, member in cast("_Object", value):
        if name in seen:
            _refuse(f"{_joined(path, name)} is there twice")
        seen.add(name)
        yield name, member


def _known(name: str, names: tuple[str, ...], path: str) -> str:
    where = _joined(path, name)
    if name not in names:
        _refuse(f"{where} is not known; there are {', '.join(names)}")
    return where


def _check(holds: bool, where: str, wanted: str, value: object) -> None:
    if not holds:
        _refuse(f"{where} must be {wanted}, not {_shown(value)}")


def _refuse(sentence: str) -> NoReturn:
    raise ValueError(sentence)


def _joined(path: str, name: str) -> str:
    return f"{path}.{_quoted(name)}" if path else _quoted(name)


def _quoted(name: str) -> str:
    # Whatever a stranger wrote: on one line, in letters that can travel, never longer than a status.
    return name if _NAME.fullmatch(name) else ascii(name[:_LONGEST_QUOTE])


def _shown(value: object) -> str:
    if isinstance(value, _Object):
        return "an object"
    return "a list" if isinstance(value, list) else ascii(value)[:_LONGEST_QUOTE]
