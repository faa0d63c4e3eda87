"""The names of the container, its directory, services and checks. Every hook imports this module."""

import re

# The container in metadata.yaml.
CONTAINER = "pgbouncer"
ROOT = "/var/lib/pgbouncer"
# The user and group of PgBouncer in a container where Pebble runs as root.
USER = "postgres"

# The name of the Pebble check that fails after a delay, so that a hook of the unit runs again.
ASK_AGAIN = "ask-again"

# An image may have services and checks of its own whose names begin with `pgbouncer-`, too.
_PROCESS = re.compile(r"pgbouncer-(0|[1-9][0-9]?)")
_EXPORTER = re.compile(r"exporter-(0|[1-9][0-9]?)")


def process_of(name: str) -> int | None:
    """Return the index of the process whose service or check has this name; None for another name."""
    found = _PROCESS.fullmatch(name)
    return int(found[1]) if found else None


def exporter_of(name: str) -> int | None:
    """Return the index of the process whose exporter is the service of this name; None for another name."""
    found = _EXPORTER.fullmatch(name)
    return int(found[1]) if found else None
