"""Render values as text that PgBouncer reads back as exactly these values.

Formats: https://www.pgbouncer.org/config.html, sections [databases] and "Authentication file format".
"""

from __future__ import annotations

import functools
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from domain.hba import Rule
from domain.ini_lines import IniLine
from domain.instances import RESTART, CancelPeer, ConsoleUser, Instance
from domain.pools import Pool, PoolUser

if TYPE_CHECKING:
    import jinja2

TEMPLATES = pathlib.Path(__file__).parents[3] / "templates"

T = TypeVar("T")

# The parameters whose values may differ between the processes of a unit.
PER_PROCESS = frozenset(
    {
        *RESTART,
        *("max_client_conn", "max_user_client_connections", "max_db_client_connections"),
        *("max_db_connections", "default_pool_size", "min_pool_size", "reserve_pool_size"),
    }
)

_BARE = re.compile(r"[A-Za-z0-9_.-]+")
_NEVER = re.compile(r"[\x00-\x1f\x7f]")


class Lines(NamedTuple):
    """The lines of a configuration file of PgBouncer, by section."""

    settings: tuple[IniLine, ...]
    pools: tuple[Pool, ...]
    users: tuple[PoolUser, ...]
    peers: tuple[CancelPeer, ...]


def pgbouncer_ini(instance: Instance | Lines, include: str = "") -> str:
    """Return the text of a configuration file, which may include another file."""
    template = _environment().get_template("pgbouncer.ini.j2")
    return template.render(instance=instance, include=include)


def split(instances: Sequence[Instance]) -> tuple[Lines, dict[int, Lines]]:
    """Return the lines that all processes have in common, and by index the lines that differ.

    A parameter of PER_PROCESS never is in the common file, also if its values are equal: a process that
    starts while the files are written must not miss a limit.
    """
    if not instances:
        return Lines((), (), (), ()), {}
    settings = {
        line for line in _shared(i.settings for i in instances) if line[0] not in PER_PROCESS
    }
    pools = _shared(instance.pools for instance in instances)
    users = _shared(instance.users for instance in instances)
    peers = _shared(instance.peers for instance in instances)
    first = instances[0]
    common = Lines(
        settings=tuple(line for line in first.settings if line in settings),
        pools=tuple(pool for pool in first.pools if pool in pools),
        users=tuple(user for user in first.users if user in users),
        peers=tuple(peer for peer in first.peers if peer in peers),
    )
    alone = {
        instance.index: Lines(
            settings=tuple(line for line in instance.settings if line not in settings),
            pools=tuple(pool for pool in instance.pools if pool not in pools),
            users=tuple(user for user in instance.users if user not in users),
            peers=tuple(peer for peer in instance.peers if peer not in peers),
        )
        for instance in instances
    }
    return common, alone


def _shared(sections: Iterable[tuple[T, ...]]) -> frozenset[T]:
    """Return the lines that a section has in every process."""
    every = [frozenset(section) for section in sections]
    return every[0].intersection(*every)


def userlist(users: tuple[ConsoleUser, ...]) -> str:
    """Return the text of the auth file of all processes."""
    return _environment().get_template("userlist.txt.j2").render(users=users)


def hba(rules: tuple[Rule, ...]) -> str:
    """Return the text of the HBA file of all processes."""
    return _environment().get_template("hba.conf.j2").render(rules=rules)


def script(name: str) -> str:
    """Return the text of a shell script for the machine of PgBouncer: `drain.sh` or `alive.sh`."""
    return (TEMPLATES / name).read_text()


def alias(name: str) -> str:
    """Return the name of a database as a key, which cannot be quoted. Raises ValueError for other names."""
    if not _BARE.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a name in PgBouncer's configuration")
    return name


def quoted(value: str) -> str:
    """Return a value of a connection string, in quotes."""
    return "'" + line(value).replace("'", "''") + "'"


def doubled(text: str) -> str:
    """Return a text in double quotes, with double quotes inside doubled."""
    return '"' + line(text).replace('"', '""') + '"'


def line(text: str) -> str:
    """Return the text itself. Raises ValueError if the text could end its line of the file."""
    if _NEVER.search(text):
        raise ValueError("control characters cannot be written to a configuration")
    return text


@functools.cache
def _environment() -> jinja2.Environment:
    # Imported here, because the import is slow and a hook with nothing to do renders nothing.
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 — no HTML: each value passes a filter of its format
    )
    for quote in (alias, quoted, doubled, line):
        environment.filters[quote.__name__] = quote
    return environment
