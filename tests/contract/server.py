"""A PostgreSQL server for contract tests: the real server, or its double in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from app.errors import DatabaseBusy
from logins import login, material

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from app.database_ports import Database, Databases
    from domain.backend import BackendLogin
    from domain.users import Grant, Login


class Server(Protocol):
    """A PostgreSQL server, and what other users do there."""

    backend: BackendLogin
    # The connections that the server accepts from ordinary users.
    capacity: int

    def databases(self) -> Databases:
        """Return a new adapter for the server, as each hook has."""

    def has_role(self, name: str) -> None:
        """Create a role with a password, as another user."""

    def roles_of(self, name: str) -> set[str]:
        """Return the roles of a user, of those that a client may ask for."""

    def has_database(self, name: str) -> None:
        """Create a database, as another user."""

    def has_member(self, role: str, member: str) -> None:
        """Add a member to a role, as another user."""

    def has_closed_database(self, name: str) -> None:
        """Create a database on which the backend's user cannot grant rights."""

    def sticks(self, name: str, database: str) -> AbstractContextManager[None]:
        """Keep a client user from being dropped."""

    def hangs(self, database: str) -> AbstractContextManager[None]:
        """Keep sessions from beginning in this database."""

    def connected(self, address: str) -> AbstractContextManager[None]:
        """Keep a connection from this address open."""

    def down(self) -> AbstractContextManager[None]:
        """Stop the server, and start it again as another process."""


class ServerContract:
    """Calls for tests. A subclass has a fixture `server`: a Server without roles of this application."""

    @staticmethod
    def provided(server: Server, *grants: Grant) -> None:
        """Create the auth user, and clients with a password."""
        with server.databases().open(server.backend) as database:
            database.provision(material(), server.backend.database)
            for grant in grants:
                oids = {entry.name: entry.oid for entry in database.server_databases()}
                assert database.grant(grant, oids.get(grant.database, 0))
                database.set_password(login(grant.relation_id))

    @staticmethod
    def admits(server: Server, credentials: Login, database: str = "shop") -> bool:
        return server.databases().admits(server.backend, credentials, database)

    @staticmethod
    def trouble(database: Database, number: int) -> type[Exception]:
        """Return the class of the error that dropping a user raises."""
        with pytest.raises(DatabaseBusy) as caught:
            database.revoke(login(number).username)
        return caught.type

    @staticmethod
    def opened(server: Server):
        return server.databases().open(server.backend)
