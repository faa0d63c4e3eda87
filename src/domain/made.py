"""What did this application make in PostgreSQL, and how does it know that again?

A role or a database is known by its OID, in the cluster that gave the OID. PostgreSQL commits at once
and the ledger is kept only when the hook succeeds, so a role also carries a seal in its comment: only
who knows the backend user's password can make a seal, and a seal fits a single OID. A comment that was
copied to another role proves nothing.
"""

import functools
import hashlib
import hmac
from typing import Annotated

import pydantic

from domain.value import Value

#: Of a role or a database.
Oid = Annotated[int, pydantic.Field(ge=1, le=2**32 - 1)]

# Kinds of roles.
CLIENT = "client"  #: logs in for an application
AUTH = "auth"  #: looks passwords up for PgBouncer
GROUP = "group"  #: owns a database; its members are the clients of that database
HEIR = "heir"  #: has no rights, and owns what clients left behind

# Everyone can read a comment, so a seal must not let a weak password be guessed quickly.
_ITERATIONS = 100_000


class OwnRole(Value):
    """A role that this application made."""

    kind: str
    name: str
    oid: Oid


class OwnDatabase(Value):
    """A database that was made for an application, and belongs to it."""

    name: str
    oid: Oid
    application: str


class Made(Value):
    """What this application made in one cluster."""

    cluster: str = ""  #: PostgreSQL's system identifier; '' if no OID was noted yet
    roles: tuple[OwnRole, ...] = ()
    databases: tuple[OwnDatabase, ...] = ()

    def here(self, cluster: str) -> "Made":
        """What of it is in this cluster: the OIDs of another cluster mean nothing here."""
        return self if self.cluster == cluster else Made(cluster=cluster)

    def names(self, kind: str) -> frozenset[str]:
        """The roles of this kind."""
        return frozenset(role.name for role in self.roles if role.kind == kind)

    def owner_of(self, oid: int) -> str:
        """The application to which a database belongs; '' if that is not known."""
        return next((one.application for one in self.databases if one.oid == oid), "")


@functools.lru_cache(maxsize=4)
def seal_key(password: str, owner: str) -> bytes:
    """The key of all seals of this application. Takes about 50 ms, once for each process."""
    salt = b"seals of " + owner.encode()
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)


def seal(key: bytes, kind: str, oid: int, name: str) -> str:
    """What proves that the role of this OID was made by who has the key: 32 hexadecimal digits."""
    return hmac.digest(key, f"{kind}\0{oid}\0{name}".encode(), "sha256").hex()[:32]
