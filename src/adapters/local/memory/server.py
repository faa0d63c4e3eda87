"""PostgreSQL in memory, and the way to it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.errors import AccessRefused, DatabaseRefused, DatabaseUnreachable
from domain.facts import Credentials as BackendCredentials
from domain.users import GROUPS, AuthMaterial, Credentials, Grant


@dataclass
class Role:
    """A role in the server in memory."""

    ours: bool = True
    password: str = ""
    database: str = ""
    groups: frozenset[str] = frozenset()


@dataclass
class MemoryServer:
    """A PostgreSQL in memory."""

    roles: dict[str, Role] = field(default_factory=dict[str, Role])
    databases: set[str] = field(default_factory=set[str])
    functions: set[str] = field(default_factory=set[str])  #: databases with our auth function
    groups: set[str] = field(default_factory=lambda: set(GROUPS))  #: that exist
    down: str = ""  #: a sentence: why nobody gets an answer
    refuses: str = ""  #: a sentence: why an answer is no
    stuck: str = ""  #: a sentence: why users cannot be dropped
    refuses_passwords: str = ""  #: a sentence: why passwords cannot be set
    lets_in: bool = True  #: whether pg_hba.conf names new users
    connected: set[str] = field(default_factory=set[str])  #: addresses
    identity: str = "10.1.0.1 since Monday"
    asked: int = 0  #: conversations so far


class MemoryDatabases:
    """The way to a server in memory."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server

    @contextmanager
    def open(self, backend: BackendCredentials) -> Generator[MemoryDatabase]:
        """Log in. Raises DatabaseUnreachable or DatabaseRefused."""
        self.server.asked += 1
        if self.server.down:
            raise DatabaseUnreachable(self.server.down)
        if self.server.refuses:
            raise DatabaseRefused(self.server.refuses)
        yield MemoryDatabase(self.server)

    def answers(self, backend: BackendCredentials) -> bool:
        """Whether the server is up."""
        return not self.server.down

    def admits(self, backend: BackendCredentials, credentials: Credentials, database: str) -> bool:
        """Whether the password is right and pg_hba.conf names the user."""
        role = self.server.roles.get(credentials.username)
        right = role is not None and role.password == credentials.password.get_secret_value()
        return right and self.server.lets_in and database in self.server.databases


class MemoryDatabase:
    """An open conversation with a server in memory."""

    def __init__(self, server: MemoryServer) -> None:
        self._server = server

    def provision(self, auth: AuthMaterial, database: str) -> None:
        """The auth user and its function are there."""
        role = self._server.roles.setdefault(auth.auth_user, Role())
        if not role.ours:
            raise DatabaseRefused(f"role {auth.auth_user} exists and is not ours")
        role.password = auth.auth_password.get_secret_value()
        self._server.functions.add(database)

    def server(self) -> str:
        """The server that a test says it is."""
        return self._server.identity

    def knows(self, address: str) -> bool:
        """Whether a test says that there is a connection."""
        return address in self._server.connected

    def users(self) -> frozenset[str]:
        """Client users of ours."""
        return frozenset(
            name for name, role in self._server.roles.items() if role.ours and role.database
        )

    def grant(self, grant: Grant) -> bool:
        """The user and its database are there. Raises AccessRefused."""
        role = self._server.roles.get(grant.username)
        if role and not role.ours:
            raise AccessRefused(f"role {grant.username} exists and is not ours")
        if missing := sorted(GROUPS.intersection(grant.roles) - self._server.groups):
            raise AccessRefused(f"PostgreSQL has no role {missing[0]}")
        self._server.databases.add(grant.database)
        password = role.password if role else ""
        self._server.roles[grant.username] = Role(
            password=password, database=grant.database, groups=frozenset(grant.roles)
        )
        return not password

    def set_password(self, credentials: Credentials) -> None:
        """The user can log in with it."""
        if self._server.refuses_passwords:
            raise DatabaseRefused(self._server.refuses_passwords)
        password = credentials.password.get_secret_value()
        self._server.roles[credentials.username].password = password

    def revoke(self, username: str) -> None:
        """The user is gone; its database stays."""
        if self._server.stuck:
            raise DatabaseRefused(self._server.stuck)
        self._server.roles.pop(username, None)

    def withdraw(self) -> None:
        """Nothing of ours is left, but for databases."""
        self._server.roles = {n: r for n, r in self._server.roles.items() if not r.ours}
        self._server.functions.clear()
