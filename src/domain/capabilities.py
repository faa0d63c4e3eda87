"""What can this PgBouncer do, going by its version?"""

import re
from typing import NamedTuple

from domain.value import Value


class Version(NamedTuple):
    """A release of PgBouncer or PostgreSQL; compares as versions do."""

    major: int
    minor: int = 0
    patch: int = 0

    def __str__(self) -> str:
        return ".".join(map(str, self))


OLDEST = Version(1, 21)


class PgBouncerRuntime(Value):
    """The PgBouncer that is there, and what it may take of its machine."""

    version: Version
    files: int = 0  #: that one process may open; 0 if that is not known
    cpus: int = 1  #: that all processes together may use


# Earlier releases keep a server connection for ever in its reset after a COPY that failed, if the reset
# runs after each transaction (https://github.com/pgbouncer/pgbouncer/pull/1471).
ALWAYS_RESET = Version(1, 26)

# Before, whoever has a line in [users] is not looked up, and cannot log in
# (https://github.com/pgbouncer/pgbouncer/pull/1052).
OWN_USERS = Version(1, 23)


# Earlier releases do not know `server_lifetime` in [databases].
OWN_LIFETIMES = Version(1, 23)


# Earlier releases cannot limit the clients of a user or of a database.
CLIENT_LIMITS = Version(1, 24)


class Capabilities(Value):
    """What a configuration may count on."""

    supported: bool
    #: On SIGTERM it lets its clients finish and leave; earlier releases end at once.
    waits_for_clients: bool


def capabilities(pgbouncer: Version) -> Capabilities:
    """What this release of PgBouncer can do."""
    return Capabilities(
        supported=pgbouncer >= OLDEST,
        waits_for_clients=pgbouncer >= Version(1, 23),
    )


def version_in(text: str) -> Version | None:
    """The first version number in a text such as `PgBouncer 1.24.1` or `16.4 (Ubuntu 16.4-1)`."""
    found = re.search(r"(?<![\d.])(\d{1,5})(?!\d)(?:\.(\d{1,5}))?(?:\.(\d{1,5}))?", text)
    return Version(*(int(part or 0) for part in found.groups())) if found else None
