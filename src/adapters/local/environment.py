"""The environment of the programs that `pooler` starts, and libpq's variables that its logins ignore."""

from __future__ import annotations

import os
import pathlib
import re
import sys
from collections.abc import Mapping

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# libpq reads its variables for each parameter that a login does not name. `pooler` itself reads
# $PGBOUNCER, $PGBOUNCER_EXPORTER and $PG_BIN_DIR.
_LIBPQ = re.compile(r"PG(?!BOUNCER$|BOUNCER_EXPORTER$|_BIN_DIR$)[A-Z_]+")
_PROXIES = re.compile(r"(?:https?|ftp|all|no)_proxy", re.IGNORECASE)


def for_servers() -> dict[str, str]:
    """Return the environment of PgBouncer and PostgreSQL, which every process of their user can read."""
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


def for_watch(home: pathlib.Path, sources: pathlib.Path) -> dict[str, str]:
    """Return the environment of the process that watches the units in `home`.

    `sources` is the directory of this program. $PYTHONPATH of the user is kept only if this process itself
    uses it: the script `pooler` ignores it.
    """
    path = "" if sys.flags.ignore_environment else os.environ.get("PYTHONPATH")
    return {
        **for_servers(),
        **_known("HOME", "POOLER_CACHE"),
        "POOLER_HOME": str(home),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(sources), path))),
    }


def without_libpq() -> dict[str, str]:
    """Remove libpq's variables from the environment of this process, and return them.

    Every login of `pooler` names the parameters that it needs. A variable would silently add a parameter.
    """
    taken = {name: value for name, value in os.environ.items() if _LIBPQ.fullmatch(name)}
    for name in taken:
        del os.environ[name]
    return taken


def not_used(libpq: Mapping[str, str]) -> list[str]:
    """Return the names of libpq's variables that `pooler` ignores."""
    known = {"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGDATA"}
    known |= {"PGSSLMODE", "PGSSLROOTCERT"}
    return sorted(f"${name}" for name in libpq if name not in known)


def _known(*names: str) -> dict[str, str]:
    return {name: os.environ[name] for name in names if name in os.environ}
