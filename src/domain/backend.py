"""The relation with PostgreSQL: its login, its endpoints, and the authorities of its certificates."""

import pydantic

from domain.endpoints import Endpoint
from domain.tls import Certificate, ServerMode
from domain.value import Line, Value


class BackendLogin(Value):
    """What the charm of PostgreSQL gave this application: a superuser, and the endpoints of the server."""

    user: Line
    password: pydantic.SecretStr
    database: Line
    endpoints: tuple[Endpoint, ...] = pydantic.Field(min_length=1)
    read_only: tuple[Endpoint, ...] = ()
    version: str = ""
    # PostgreSQL offers TLS, and the certificates that its charm gave to verify it.
    tls: bool = False
    authorities: tuple[Certificate, ...] = ()
    # The authorities include a root. OpenSSL verifies no certificate without its root.
    rooted: bool = False
    # How the server is verified; None before `domain.verification` has decided, unless the operator gave it.
    mode: ServerMode | None = None
    # A file with the authorities, in place of those above, where the operator gave the address; '' if none.
    authority_file: str = ""

    def with_authority_file(self, path: str) -> "BackendLogin":
        """Return this login with another file of authorities."""
        return self.model_copy(update={"authority_file": path})

    def with_authorities(
        self, authorities: tuple[Certificate, ...], *, rooted: bool
    ) -> "BackendLogin":
        """Return this login with these authorities of the server."""
        return self.model_copy(update={"authorities": authorities, "rooted": rooted})

    def verifying(self, mode: ServerMode, authorities: tuple[Certificate, ...]) -> "BackendLogin":
        """Return this login for a server that is verified in this way."""
        return self.model_copy(update={"mode": mode, "authorities": authorities})

    def with_version(self, version: str) -> "BackendLogin":
        """Return this login with the version that PostgreSQL said of itself."""
        return self.model_copy(update={"version": version})

    def with_read_only(self, endpoints: tuple[Endpoint, ...]) -> "BackendLogin":
        """Return this login with these endpoints of replicas."""
        return self.model_copy(update={"read_only": endpoints})


class BackendRelation(Value):
    """The relation with PostgreSQL."""

    related: bool = False
    # The relation has remote units. Without remote units there is no server to use.
    present: bool = False
    # The request of this application stands in the relation.
    requested: bool = False
    credentials: BackendLogin | None = None
    # The reason why there are no credentials yet, as a sentence.
    problem: str = ""

    @property
    def attached(self) -> bool:
        """Return whether there is a server that pools can lead to."""
        return self.related and self.present

    def requesting(self) -> "BackendRelation":
        """Return this relation with the request of this application."""
        return self.model_copy(update={"requested": True})

    def with_credentials(self, credentials: BackendLogin) -> "BackendRelation":
        """Return this relation with another login."""
        return self.model_copy(update={"credentials": credentials})

    def without_servers(self) -> "BackendRelation":
        """Return this relation without remote units."""
        return self.model_copy(update={"present": False})
