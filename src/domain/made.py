"""The roles and databases that this application made in PostgreSQL, and how it recognizes them.

A role or a database is recognized by its OID in its cluster. PostgreSQL commits at once, and Juju keeps
the ledger only if the hook succeeds. So a role also has a signature in its comment. A signature takes the
backend user's password and is valid for a single OID, so that a copied comment proves nothing.
"""

import functools
import hashlib
import hmac
from typing import Annotated

import pydantic

from domain.value import Value

# The OID of a role or a database.
Oid = Annotated[int, pydantic.Field(ge=1, le=2**32 - 1)]

# The kinds of roles.

# A user with which an application logs in.
CLIENT = "client"

# A user that looks passwords up for PgBouncer.
AUTH = "auth"

# A role that owns a database; its members are the clients of that database.
GROUP = "group"

# A role without rights that owns the objects of clients that have left.
NEW_OWNER = "heir"

# Every user can read comments. So an attempt to guess a weak password from a signature has to take long.
_ITERATIONS = 100_000


class OwnRole(Value):
    """A role that this application made."""

    kind: str
    name: str
    oid: Oid


class OwnDatabase(Value):
    """A database that was made for a related application, and belongs to it."""

    name: str
    oid: Oid
    application: str


class Made(Value):
    """The roles and databases that this application made in a cluster."""

    # The system identifier of PostgreSQL; '' if no OID is recorded yet.
    cluster: str = ""
    roles: tuple[OwnRole, ...] = ()
    databases: tuple[OwnDatabase, ...] = ()

    def here(self, cluster: str) -> "Made":
        """Return the roles and databases of this cluster: none if the OIDs are those of another cluster."""
        return self if self.cluster == cluster else Made(cluster=cluster)

    def names(self, kind: str) -> frozenset[str]:
        """Return the names of the roles of this kind."""
        return frozenset(role.name for role in self.roles if role.kind == kind)

    def with_roles(self, roles: tuple[OwnRole, ...]) -> "Made":
        """Return these databases with other roles."""
        return self.model_copy(update={"roles": roles})

    def with_databases(self, databases: tuple[OwnDatabase, ...]) -> "Made":
        """Return these roles with other databases."""
        return self.model_copy(update={"databases": databases})

    def owner_of(self, oid: int) -> str:
        """Return the application to which a database belongs; '' if that is not known."""
        return next((entry.application for entry in self.databases if entry.oid == oid), "")


@functools.lru_cache(maxsize=4)
def signing_key(password: str, owner: str) -> bytes:
    """Return the key of all signatures of this application. The first call takes about 50 ms."""
    # Comments in PostgreSQL have signatures with this salt: keep it.
    salt = b"seals of " + owner.encode()
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)


def signature(key: bytes, kind: str, oid: int, name: str) -> str:
    """Return the signature of a role or database, as 32 hexadecimal digits."""
    return hmac.digest(key, f"{kind}\0{oid}\0{name}".encode(), "sha256").hex()[:32]


def digest_of(password: str) -> str:
    """Return a digest by which another password of the backend's user is noticed. Only secrets may contain it."""
    return hashlib.sha256(b"signed for " + password.encode()).hexdigest()[:32]
