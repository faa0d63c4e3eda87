"""The ports to PostgreSQL: connections, and what the application does with them."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from domain.backend import BackendLogin
from domain.consent import RoleRights, ServerDatabase
from domain.endpoints import Endpoint
from domain.ledger import Ledger
from domain.made import Made
from domain.reference import InheritedRole
from domain.users import AuthMaterial, Grant, Login


class Database(Protocol):
    """An open connection to PostgreSQL. Every method may raise DatabaseUnreachable and DatabaseRefused."""

    def provision(self, auth: AuthMaterial, database: str) -> None:
        """Make the auth user, and in `database` the function by which it looks passwords up.

        An auth user that this application made, and that is not among `auth.auth_users`, is dropped.
        """
        ...

    def provision_next(self, auth: AuthMaterial, database: str) -> None:
        """Make `auth.next_auth`, and let it look passwords up by the function in `database`."""
        ...

    def server(self) -> str:
        """Return the identity of the server and of its start: a name may lead to another server later."""
        ...

    def capacity(self) -> int:
        """Return the number of connections that PostgreSQL accepts from ordinary users, without reserved slots."""
        ...

    def has_connection_from(self, address: str) -> bool:
        """Return whether there is a connection from this address."""
        ...

    def users(self) -> frozenset[str]:
        """Return the client users that this application made."""
        ...

    def lock_out(self, usernames: Iterable[str]) -> dict[str, str]:
        """Take logins and sessions of client users away, without entering a client's database.

        Returns the users that can still log in, each with the reason.
        """
        ...

    def hurry(self) -> None:
        """Wait only a moment for a client's database from now on."""
        ...

    def made(self) -> Made:
        """Return the roles of this application that exist, and the databases that the ledger has."""
        ...

    def role_rights(self, roles: Iterable[str], database: str) -> tuple[RoleRights, ...]:
        """Return the rights of each of these roles outside of this database. Raises AccessRefused."""
        ...

    def server_databases(self) -> tuple[ServerDatabase, ...]:
        """Return every database of the server with its owner."""
        ...

    def close(self, database: str) -> None:
        """Take the right to connect to a database that a client made away from PUBLIC."""
        ...

    def notes(self) -> tuple[str, ...]:
        """Return sentences for the operator about objects that clients left."""
        ...

    def left(self) -> tuple[str, ...]:
        """Return a sentence for everything that stays in PostgreSQL when this application leaves it."""
        ...

    def grant(self, grant: Grant, oid: int = 0) -> bool:
        """Make the user and its database with the roles of the grant; return whether the user has no password.

        A database that existed before is given only if it has this OID: the decision to give it was
        made for that database. Raises AccessRefused; DatabaseBusy if a lock keeps the database busy;
        NoTimeLeft.
        """
        ...

    def rename(self, former: str, username: str) -> None:
        """Rename a client user, and make a role with its former name and password that acts as the user.

        Nothing changes if the user has been renamed already, or does not exist. Raises AccessRefused.
        """
        ...

    def expire(self, former: str, seconds: float) -> float:
        """Let the role with a former name log in for so many seconds, by the clock of PostgreSQL.

        Returns the time of the end in seconds since the epoch. Raises AccessRefused.
        """
        ...

    def has_sessions(self, username: str) -> bool:
        """Return whether a user has sessions."""
        ...

    def end_sessions(self, username: str) -> None:
        """End the sessions of a client user, which can log in again."""
        ...

    def adopt(self, role: InheritedRole) -> bool:
        """Make the role of a client of Canonical's charm that of this application, with its database.

        Returns whether this application has the role. A role that cannot be taken over stays as it is, and a
        note says why.
        """
        ...

    def drop_inherited_auth_user(self, name: str) -> None:
        """Drop the auth user of Canonical's charm, with its functions in all databases, unless it is gone."""
        ...

    def set_password(self, credentials: Login) -> None:
        """Give a user that this application made this password."""
        ...

    def revoke(self, username: str) -> None:
        """Drop a client user; its objects stay in its database. Raises the errors of `grant`."""
        ...

    def withdraw(self) -> None:
        """Drop everything that this application made, except databases and the objects in them.

        All client users lose their logins first.
        """
        ...


class Databases(Protocol):
    """Connections to PostgreSQL."""

    def open(
        self, backend: BackendLogin, ledger: Ledger | None = None
    ) -> AbstractContextManager[Database]:
        """Log in as the backend's user; `ledger` has the roles that this application made there.

        Raises DatabaseUnreachable or DatabaseRefused.
        """
        ...

    def answers(self, backend: BackendLogin) -> bool:
        """Return whether a server with PostgreSQL's protocol answers. Fast, without a login."""
        ...

    def refusals(self, backend: BackendLogin) -> Mapping[Endpoint, str]:
        """Return the endpoints, with those of replicas, whose servers are not verified, each with the reason.

        The reason is '' if a server does not answer.
        """
        ...

    def admits(self, backend: BackendLogin, credentials: Login, database: str) -> bool:
        """Return whether these credentials can log in; waits as long as this hook may.

        A new user is let in only when PostgreSQL's own charm has named it in pg_hba.conf.
        """
        ...
