"""Find the directory with the state of `pooler`."""

from __future__ import annotations

import os
import pathlib


def home() -> pathlib.Path:
    """Return $POOLER_HOME, or the default directory if it is not set."""
    return pathlib.Path(os.environ.get("POOLER_HOME") or default_home()).absolute()


def default_home() -> pathlib.Path:
    """Return the directory of the state if $POOLER_HOME is not set."""
    if os.geteuid() == 0:
        # PgBouncer and PostgreSQL do not run as root, and could not enter root's home.
        return pathlib.Path("/var/lib/pgbouncer-k8s")
    state = os.environ.get("XDG_STATE_HOME") or pathlib.Path.home() / ".local" / "state"
    return pathlib.Path(state, "pgbouncer-k8s")
