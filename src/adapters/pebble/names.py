"""Where PgBouncer is to be found on Juju. Light to import, as are the names of the relations."""

import re

CONTAINER = "pgbouncer"  #: as in metadata.yaml
ROOT = "/var/lib/pgbouncer"

# The memory of the last configuration that was applied in full: written after all else.
APPLIED = f"{ROOT}/applied.json"

# The name of the Pebble check that fails after a delay, so that the unit runs again.
ASK_AGAIN = "ask-again"

# An image may have services and checks of its own whose names begin with `pgbouncer-`, too.
_PROCESS = re.compile(r"pgbouncer-(0|[1-9][0-9]?)")


def process_of(name: str) -> int | None:
    """Return the index of the process whose service or check has this name; None for another name."""
    found = _PROCESS.fullmatch(name)
    return int(found[1]) if found else None
