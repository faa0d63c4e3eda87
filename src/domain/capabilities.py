"""Versions of PgBouncer and PostgreSQL, and what each version of PgBouncer supports."""

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
    """The version of the installed PgBouncer, and the files and processors that it may use."""

    version: Version
    # Files that a process may open; 0 if the limit is not known.
    files: int = 0
    # Processors that all processes together may use.
    cpus: int = 1


# Earlier releases keep a server connection for ever in its reset after a COPY that failed, if the reset
# runs after each transaction (https://github.com/pgbouncer/pgbouncer/pull/1471).
ALWAYS_RESET = Version(1, 26)

# Earlier releases do not look up the password of a user with a line in [users], so the user cannot log in
# (https://github.com/pgbouncer/pgbouncer/pull/1052).
OWN_USERS = Version(1, 23)

# Earlier releases do not know `server_lifetime` in [databases].
OWN_LIFETIMES = Version(1, 23)

# Earlier releases cannot limit the clients of a user or of a database.
CLIENT_LIMITS = Version(1, 24)

# With earlier releases the login by certificate is not tried. They have no map, or cannot end a session.
CERTIFICATE_LOGINS = Version(1, 24)

# Earlier releases cannot end the session of a client.
KILLS_CLIENTS = Version(1, 24)

# Earlier releases keep the pool of a user that [databases] names apart from the pool of the auth user.
STANDING_LOOK_UPS = Version(1, 24)


# Earlier releases compare the names in a certificate with all hosts of a pool as a single name
# (https://github.com/pgbouncer/pgbouncer/pull/1303).
VERIFIED_HOSTS = Version(1, 25)


class Capabilities(Value):
    """What a release of PgBouncer supports."""

    supported: bool
    # On SIGTERM PgBouncer waits until its clients have disconnected; earlier releases end at once.
    waits_for_clients: bool


def capabilities(pgbouncer: Version) -> Capabilities:
    """Return what this release of PgBouncer supports."""
    return Capabilities(
        supported=pgbouncer >= OLDEST,
        waits_for_clients=pgbouncer >= Version(1, 23),
    )


def version_in(text: str) -> Version | None:
    """Return the first version number in a text such as `PgBouncer 1.24.1` or `16.4 (Ubuntu 16.4-1)`."""
    match = re.search(r"(?<![\d.])(\d{1,5})(?!\d)(?:\.(\d{1,5}))?(?:\.(\d{1,5}))?", text)
    return Version(*(int(part or 0) for part in match.groups())) if match else None
