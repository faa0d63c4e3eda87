"""Environment variables that programs are started with, and that our own logins must not obey."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# libpq reads any of its variables for what a login does not name. $PGBOUNCER and $PG_BIN_DIR are ours.
_LIBPQ = re.compile(r"PG(?!BOUNCER$|_BIN_DIR$)[A-Z_]+")
_PROXIES = re.compile(r"(?:https?|ftp|all|no)_proxy", re.IGNORECASE)

# The values of $PGSSLMODE that are satisfied by a connection that is not encrypted.
UNENCRYPTED = ("disable", "allow", "prefer")


def for_servers() -> dict[str, str]:
    """Return the environment of PgBouncer and PostgreSQL, which any process of their user can read."""
    return {
        "PATH": os.environ.get("PATH") or _PATH,
        "LANG": "C.UTF-8",
        "HOME": "/",
        **_known("TZ"),
    }


def for_tools() -> dict[str, str]:
    """Return the environment of apt and other tools that fetch and unpack programs."""
    proxies = {name: value for name, value in os.environ.items() if _PROXIES.fullmatch(name)}
    return for_servers() | _known("HOME", "TMPDIR") | proxies


def without_libpq() -> dict[str, str]:
    """Take libpq's variables out of our own environment, and return them.

    Every login of ours names what it needs. Any other variable would change silently what it does.
    """
    taken = {name: value for name, value in os.environ.items() if _LIBPQ.fullmatch(name)}
    for name in taken:
        del os.environ[name]
    return taken


def not_used(libpq: Mapping[str, str]) -> list[str]:
    """Return the names of variables that would have changed a login, but do not."""
    named_by_the_address = {"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGDATA"}
    return sorted(f"${name}" for name in libpq if name not in named_by_the_address)


def _known(*names: str) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}
