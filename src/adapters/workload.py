"""Where PgBouncer is to be found on Juju. Light to import, as are the names of the relations."""

import re

CONTAINER = "pgbouncer"  #: as in metadata.yaml
ROOT = "/var/lib/pgbouncer"

# The memory of the last configuration that was applied in full: written after all else.
APPLIED = f"{ROOT}/applied.json"

# A Pebble check that fails once, after the delay for which it was set.
ASK_AGAIN = "ask-again"

# An image may have services and checks of its own, with names that begin like ours.
_PROCESS = re.compile(r"pgbouncer-(0|[1-9][0-9]?)")


def process_of(name: str) -> int | None:
    """The process whose service, or check, has this name; None if the name is not that of a process."""
    found = _PROCESS.fullmatch(name)
    return int(found[1]) if found else None
