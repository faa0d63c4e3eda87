"""The option `overrides`: settings of single databases and users that differ from the other options.

The option is a JSON text that an operator writes by hand, so an error names the wrong entry by its path.
"""

import json
import re
from collections.abc import Iterable
from typing import Annotated, NoReturn, cast, get_args

import pydantic

from domain import sentences
from domain.capabilities import OWN_USERS, Version
from domain.value import Name, PoolMode, Value

# PostgreSQL runs no more (MAX_BACKENDS), and PgBouncer can add and double it without an overflow.
MOST_CONNECTIONS = 2**18 - 1

Connections = Annotated[int, pydantic.Field(ge=1, le=MOST_CONNECTIONS)]

LONGEST_TEXT = 64 * 1024
KEYS = ("pool_mode", "pool_size", "max_connections")
SECTIONS = ("databases", "users")

# PgBouncer's parser accepts no other characters in a key, and PostgreSQL no longer name.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,63}")
_LONGEST_QUOTE = 40


class Override(Value):
    """The settings of a database or of a user; None means the value of the option."""

    name: Name
    pool_mode: PoolMode | None = None
    # Numbers are those of the whole application.
    pool_size: Connections | None = None
    max_connections: Connections | None = None


class Overrides(Value):
    """All overrides, in the order of their names."""

    databases: tuple[Override, ...] = ()
    users: tuple[Override, ...] = ()

    def of_database(self, name: str) -> Override:
        """Return the override of this database; an empty override if it has no entry."""
        return _named(name, self.databases)

    def of_user(self, name: str) -> Override:
        """Return the override of this user; an empty override if it has no entry."""
        return _named(name, self.users)

    @property
    def modes(self) -> frozenset[PoolMode]:
        """Return every pool mode that an override sets."""
        entries = (*self.databases, *self.users)
        return frozenset(entry.pool_mode for entry in entries if entry.pool_mode)

    def __str__(self) -> str:
        """Return these overrides as a JSON text; '' for none."""
        sections = {
            section: {
                entry.name: entry.model_dump(exclude={"name"}, exclude_none=True)
                for entry in entries
            }
            for section, entries in (("databases", self.databases), ("users", self.users))
            if entries
        }
        return json.dumps(sections) if sections else ""


def _named(name: str, entries: Iterable[Override]) -> Override:
    return next((entry for entry in entries if entry.name == name), Override(name=name))


def supported_by(overrides: Overrides, version: Version) -> Overrides:
    """Return the overrides that this version of PgBouncer supports."""
    return overrides if version >= OWN_USERS else overrides.model_copy(update={"users": ()})


def unsupported_by(overrides: Overrides, version: Version) -> tuple[str, ...]:
    """Return a sentence for each part of the overrides that this version of PgBouncer does not support."""
    if not overrides.users or version >= OWN_USERS:
        return ()
    needed = f"{OWN_USERS.major}.{OWN_USERS.minor}"
    return (sentences.USERS_NOT_SUPPORTED.text(needed=needed, version=version),)


class _Object(tuple[tuple[str, object], ...]):
    """The members of a JSON object as they were written: a dict would hide a duplicate name."""

    __slots__ = ()


def overrides_in(text: str) -> Overrides:
    """Return the overrides in a text; none for an empty text. Raises ValueError with a sentence."""
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
    sections: dict[str, tuple[Override, ...]] = {}
    for section, entries in _members(data, ""):
        path = _known(section, SECTIONS, "")
        named = (_override(path, name, entry) for name, entry in _members(entries, path))
        sections[section] = tuple(sorted(named, key=lambda override: override.name))
    return Overrides(databases=sections.get("databases", ()), users=sections.get("users", ()))


def _override(section: str, name: str, entry: object) -> Override:
    path = f"{section}.{_quoted(name)}"
    if not _NAME.fullmatch(name):
        _refuse(f"{path} is no name: PgBouncer takes 1 to 63 letters, digits, _, . and -")
    settings: dict[str, object] = {}
    for key, value in _members(entry, path):
        where = _known(key, KEYS, path)
        if key == "pool_mode":
            _check(value in get_args(PoolMode), where, "session, transaction or statement", value)
        else:
            fits = type(value) is int and 1 <= value <= MOST_CONNECTIONS
            _check(fits, where, f"a whole number from 1 to {MOST_CONNECTIONS}", value)
        settings[key] = value
    return Override.model_validate({"name": name, **settings})


def _members(value: object, path: str) -> Iterable[tuple[str, object]]:
    """Yield the members of a JSON object. Raises ValueError for another type, and for a duplicate name."""
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
    # A status is a short line of ASCII, whatever text the option holds.
    return name if _NAME.fullmatch(name) else ascii(name[:_LONGEST_QUOTE])


def _shown(value: object) -> str:
    if isinstance(value, _Object):
        return "an object"
    return "a list" if isinstance(value, list) else ascii(value)[:_LONGEST_QUOTE]
