"""How are decided values written down? As text that PgBouncer reads back as exactly those values.

Formats: https://www.pgbouncer.org/config.html, sections [databases] and "Authentication file format".
"""

from __future__ import annotations

import functools
import pathlib
import re
from typing import TYPE_CHECKING

from domain.hba import Rule
from domain.instances import ConsoleUser, Instance

if TYPE_CHECKING:
    import jinja2

TEMPLATES = pathlib.Path(__file__).parents[3] / "templates"

_BARE = re.compile(r"[A-Za-z0-9_.-]+")
_NEVER = re.compile(r"[\x00-\x1f\x7f]")


def pgbouncer_ini(instance: Instance) -> str:
    """The configuration file of one process."""
    return _environment().get_template("pgbouncer.ini.j2").render(instance=instance)


def userlist(users: tuple[ConsoleUser, ...]) -> str:
    """The auth file of all processes."""
    return _environment().get_template("userlist.txt.j2").render(users=users)


def hba(rules: tuple[Rule, ...]) -> str:
    """Return the text of the HBA file of all processes."""
    return _environment().get_template("hba.conf.j2").render(rules=rules)


def script(name: str) -> str:
    """Return the text of a shell script for the machine of PgBouncer: `drain.sh` or `alive.sh`."""
    return (TEMPLATES / name).read_text()


def alias(name: str) -> str:
    """A database's name as a key, which cannot be quoted. Raises ValueError if it would have to be."""
    if not _BARE.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a name in PgBouncer's configuration")
    return name


def quoted(value: str) -> str:
    """A value of a connection string."""
    return "'" + line(value).replace("'", "''") + "'"


def doubled(text: str) -> str:
    """A text in double quotes, in which they are doubled."""
    return '"' + line(text).replace('"', '""') + '"'


def line(text: str) -> str:
    """The text itself. Raises ValueError if it could end the line that it stands in."""
    if _NEVER.search(text):
        raise ValueError("control characters cannot be written to a configuration")
    return text


@functools.cache
def _environment() -> jinja2.Environment:
    # Imported here: a quiet hook renders nothing, and the import is slow.
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
