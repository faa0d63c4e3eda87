"""PostgreSQL in memory, and the ports that reach it.

The tests of tests/contract/databases.py hold for it and for the real server.
"""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field

import pydantic

from adapters.memory.roles import FormerNames, MemoryRole, not_ours
from app.errors import (
    AccessRefused,
    DatabaseBusy,
    DatabaseRefused,
    DatabaseUnreachable,
    NoTimeLeft,
)
from domain import sentences
from domain.backend import BackendLogin
from domain.consent import RoleRights, ServerDatabase, rights_of
from domain.endpoints import Endpoint
from domain.ledger import Ledger
from domain.made import AUTH, CLIENT, GROUP, Made, OwnRole
from domain.reference import InheritedRole
from domain.roles import ATTRIBUTES, GROUPS
from domain.rotation import twin
from domain.users import AuthMaterial, Grant, Login

# The role that owns the databases of clients that have left.
NEW_OWNER = "heir"


@dataclass
class MemoryServer:
    """A PostgreSQL server in memory."""

    roles: dict[str, MemoryRole] = field(default_factory=dict[str, MemoryRole])
    databases: set[str] = field(default_factory=set[str])
    # The owner of a database that this application did not make for a client, by the database's name.
    owners: dict[str, str] = field(default_factory=dict[str, str])
    # The related application that a database was made for, by the database's name, after a withdrawal.
    signed: dict[str, str] = field(default_factory=dict[str, str])
    # Databases to which PUBLIC may connect.
    open: set[str] = field(default_factory=set[str])
    # The rights of groups.
    role_rights: dict[str, RoleRights] = field(default_factory=dict[str, RoleRights])
    # The major version.
    major: int = 16
    # The system identifier.
    cluster: str = "7000000000000000001"
    # Sentences about objects that clients left.
    behind: list[str] = field(default_factory=list[str])
    # Databases with the auth function of this application.
    functions: set[str] = field(default_factory=set[str])
    # The groups that exist.
    groups: set[str] = field(default_factory=lambda: set(GROUPS))
    # The password of the backend's user; with '' every password is accepted.
    password: str = ""
    # Databases to which this application may give no user access.
    closed: set[str] = field(default_factory=set[str])
    # Why the server does not answer, why it refuses everything, and why client users cannot be dropped:
    # a sentence each, or ''.
    down: str = ""
    refuses: str = ""
    stuck: str = ""
    # Databases that cannot be entered, each with a sentence that says why, and users whose logins
    # cannot be taken away.
    hung: dict[str, str] = field(default_factory=dict[str, str])
    undying: dict[str, str] = field(default_factory=dict[str, str])
    # Why passwords cannot be set, as a sentence, or ''.
    refuses_passwords: str = ""
    # Whether pg_hba.conf names new users.
    lets_in: bool = True
    # The addresses that are connected.
    connected: set[str] = field(default_factory=set[str])
    # The number of connections that the server accepts.
    capacity: int = 1000
    # The server's address and the time of its start.
    identity: str = "10.1.0.1 since Monday"
    # The authority of the server's certificate, and of hosts that have another; '' without TLS.
    authority: str = ""
    authorities: dict[str, str] = field(default_factory=dict[str, str])
    # Hosts that their certificates do not name, and hosts that do not answer a handshake.
    misnamed: set[str] = field(default_factory=set[str])
    silent: set[str] = field(default_factory=set[str])
    # The number of logins so far.
    asked: int = 0


class MemoryDatabases:
    """The port `Databases` over a server in memory."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server

    @contextmanager
    def open(
        self, backend: BackendLogin, ledger: Ledger | None = None
    ) -> Generator[MemoryDatabase]:
        """Log in; `ledger` has the roles that were made before. Raises DatabaseUnreachable or DatabaseRefused."""
        self.server.asked += 1
        if self.server.down:
            raise DatabaseUnreachable(self.server.down)
        if self.server.refuses:
            raise DatabaseRefused(self.server.refuses)
        for endpoint, reason in self.refusals(backend).items():
            if reason and endpoint in backend.endpoints:
                raise DatabaseUnreachable(
                    sentences.SERVER_NOT_VERIFIED.text(endpoint=endpoint, reason=reason)
                )
        if self.server.password not in ("", backend.password.get_secret_value()):
            raise DatabaseRefused(f"PostgreSQL refuses user {backend.user}")
        yield MemoryDatabase(self.server, ledger or Ledger())

    def answers(self, backend: BackendLogin) -> bool:
        """Return whether the server answers."""
        return not self.server.down

    def refusals(self, backend: BackendLogin) -> dict[Endpoint, str]:
        """Return the endpoints whose authority is not among those of the login, or that have a wrong name."""
        server, found = self.server, dict[Endpoint, str]()
        for endpoint in (*backend.endpoints, *backend.read_only):
            authority = server.authorities.get(endpoint.host, server.authority)
            if endpoint.host in server.silent:
                found[endpoint] = ""
            elif not authority:
                found[endpoint] = "it offers no TLS"
            elif authority not in backend.authorities:
                found[endpoint] = "its certificate is refused: it has another authority"
            elif backend.mode == "verify-full" and endpoint.host in server.misnamed:
                found[endpoint] = "its certificate is refused: it has another name"
        return found if backend.mode in ("verify-ca", "verify-full") else {}

    def admits(self, backend: BackendLogin, credentials: Login, database: str) -> bool:
        """Return whether these credentials can log in to a database. Raises DatabaseUnreachable."""
        if self.server.down:
            raise DatabaseUnreachable(self.server.down)
        role = self.server.roles.get(credentials.username)
        if role is None or not (role.lets_in and self.server.lets_in):
            return False
        own = {role.database} & self.server.databases if role.client else self.server.functions
        known = role.password == credentials.password.get_secret_value()
        return known and database in own and database not in self.server.hung


class MemoryDatabase(FormerNames):
    """An open connection with a server in memory."""

    def __init__(self, server: MemoryServer, ledger: Ledger) -> None:
        self._memory = server
        # The quarters of a second that this hook may still wait, and that it waits for a database that hangs.
        self._left = 8
        self._wait = 4
        # Databases that hang, as this hook has seen.
        self._hung: set[str] = set()
        self._ledger = ledger

    @property
    def _server(self) -> MemoryServer:
        if self._memory.down:
            raise DatabaseUnreachable(self._memory.down)
        return self._memory

    def provision(self, auth: AuthMaterial, database: str) -> None:
        """Make the auth user and its function; auth users that no unit uses are dropped."""
        self._make_auth_user(auth.look_ups[0])
        for name, role in list(self._server.roles.items()):
            if role.ours and not role.client and name not in auth.auth_users:
                del self._server.roles[name]
        self._server.functions.add(database)

    def provision_next(self, auth: AuthMaterial, database: str) -> None:
        """Make the auth user that takes the place of the auth user."""
        if auth.next_auth:
            self._make_auth_user(auth.next_auth)

    def _make_auth_user(self, login: Login) -> None:
        role = self._server.roles.get(login.username, MemoryRole())
        if role.client or not role.ours:
            raise not_ours(login.username)
        role.password = _ascii(login.username, login.password)
        self._server.roles[login.username] = role

    def server(self) -> str:
        """Return the identity that a test has set."""
        return self._server.identity

    def capacity(self) -> int:
        """Return the number of connections that a test has set."""
        return self._server.capacity

    def has_connection_from(self, address: str) -> bool:
        """Return whether a test has set a connection from this address."""
        return address in self._server.connected

    def users(self) -> frozenset[str]:
        """Return the client users of this application."""
        return frozenset(name for name, role in self._server.roles.items() if role.client)

    def lock_out(self, usernames: Iterable[str]) -> dict[str, str]:
        """Take the login away from client users; return the users that can still log in, and why."""
        failures: dict[str, str] = {}
        for name in sorted(self.users().intersection(usernames)):
            if name in self._server.undying:
                failures[name] = self._server.undying[name]
                continue
            self._server.roles[name].login = False
            self._server.roles[name].password = ""
            self.end_sessions(name)
        return failures

    def hurry(self) -> None:
        """Wait only a quarter of a second for each database that hangs."""
        self._wait = 1

    def _enter(self, database: str) -> None:
        """Raise DatabaseBusy if a database hangs, and NoTimeLeft if the hook may wait no more."""
        if self._left <= 0:
            raise NoTimeLeft("is tried again soon")
        if database in self._server.hung:
            if database not in self._hung:
                self._left -= self._wait
            self._hung.add(database)
            raise DatabaseBusy(self._server.hung[database])

    def made(self) -> Made:
        """Return the roles of this application, each with an OID, and the databases of the ledger."""
        roles = [
            OwnRole(kind=CLIENT if role.client else AUTH, name=name, oid=oid_of(name))
            for name, role in self._server.roles.items()
            if role.ours
        ]
        groups = {role.database for role in self._server.roles.values() if role.client}
        owned = self._server.databases - self._server.owners.keys()
        names = map(_group, groups | owned)
        roles += [OwnRole(kind=GROUP, name=name, oid=oid_of(name)) for name in names]
        before = self._ledger.made.here(self._server.cluster)
        return before.with_roles(tuple(sorted(roles, key=lambda role: role.name)))

    def role_rights(self, roles: Iterable[str], database: str) -> tuple[RoleRights, ...]:
        """Return the rights that a test has set for each role; without them a group has none."""
        major, known = self._server.major, self._server.role_rights
        return tuple(known.get(role) or rights_of(role, major) for role in roles)

    def server_databases(self) -> tuple[ServerDatabase, ...]:
        """Return every database."""
        server = self._server
        return tuple(
            ServerDatabase(
                name=name,
                oid=oid_of(f"database {name}"),
                owner=server.owners.get(name, _group(name)),
                group=_group(name),
                open=name in server.open,
                application=server.signed.get(name, ""),
            )
            for name in sorted(server.databases | server.owners.keys())
        )

    def close(self, database: str) -> None:
        """Take the right to connect to a database from PUBLIC."""
        self._server.open.discard(database)

    def notes(self) -> tuple[str, ...]:
        """Return the sentences that a test has set."""
        return tuple(self._server.behind)

    def left(self) -> tuple[str, ...]:
        """Return the notes, and a sentence for each database of the ledger."""
        noted = {database.oid for database in self.made().databases}
        return (
            *self.notes(),
            *(
                f"database {database.name}"
                for database in self.server_databases()
                if database.oid in noted
            ),
        )

    def grant(self, grant: Grant, oid: int = 0) -> bool:
        """Make the user and its database; return whether the user has no password. Raises AccessRefused."""
        if missing := sorted({*grant.roles} - ATTRIBUTES - self._server.groups):
            raise AccessRefused(f"PostgreSQL has no role {missing[0]}")
        role = self._server.roles.get(grant.username)
        if role and not role.client:
            raise not_ours(grant.username)
        if role and (foreign := role.members - {twin(grant.username)}):
            raise AccessRefused(f"role {grant.username} was given to {min(foreign)}")
        if role is None:
            role = self._server.roles[grant.username] = MemoryRole(database=grant.database)
        if role.acts_as:
            role.acts_as, role.until, role.password = "", 0.0, ""
        role.groups &= frozenset(grant.roles)
        databases = {database.name: database for database in self.server_databases()}
        known = databases.get(grant.database)
        if known and known.owner != known.group and known.oid != oid:
            raise AccessRefused(f"database {grant.database} appeared just now")
        role.database, role.groups, role.login = grant.database, frozenset(grant.roles), True
        self._enter(grant.database)
        if grant.database in self._server.closed:
            raise AccessRefused(f"no user can be given access to database {grant.database}")
        self._server.databases.add(grant.database)
        if known and known.owner == NEW_OWNER:
            del self._server.owners[grant.database]
        return not role.password

    def adopt(self, role: InheritedRole) -> bool:
        """Make a client's role that a test has set as foreign that of this application."""
        known = self._server.roles.get(role.username)
        if known is None or known.ours:
            return known is not None and known.client
        if known.members or (role.password and role.password.get_secret_value() != known.password):
            self._server.behind.append(f"role {role.username} stays")
            return False
        known.ours, known.database = True, role.database
        self._server.owners.pop(role.database, None)
        self._server.databases.add(role.database)
        return True

    def drop_inherited_auth_user(self, name: str) -> None:
        """Drop a foreign role."""
        if (role := self._server.roles.get(name)) and not role.ours:
            if self._server.stuck:
                raise DatabaseRefused(self._server.stuck)
            del self._server.roles[name]

    def set_password(self, credentials: Login) -> None:
        """Set the password of a client user. Raises DatabaseRefused."""
        name = credentials.username
        if self._server.refuses_passwords:
            raise DatabaseRefused(self._server.refuses_passwords)
        if name not in self._server.roles:
            raise DatabaseRefused(f"PostgreSQL has no user {name}")
        if not self._server.roles[name].client:
            raise not_ours(name)
        self._server.roles[name].password = _ascii(name, credentials.password)

    def revoke(self, username: str) -> None:
        """Drop a client user; its database stays. Raises DatabaseRefused."""
        role = self._server.roles.get(username)
        if role and role.client:
            role.login, role.password = False, ""
            if self._server.stuck:
                raise DatabaseRefused(self._server.stuck)
            self._enter(role.database)
            del self._server.roles[username]
            for other in self._server.roles.values():
                other.members.discard(username)

    def withdraw(self) -> None:
        """Drop everything that this application made, except databases. Raises DatabaseRefused if a user stays."""
        self.lock_out(self.users())
        self._server.functions.clear()
        for name, role in list(self._server.roles.items()):
            if role.client and (self._server.stuck or role.database in self._server.hung):
                continue
            if role.ours:
                del self._server.roles[name]
        noted = self.made()
        for database in self.server_databases():
            if database.owner == database.group:
                self._server.owners[database.name] = NEW_OWNER
            if application := noted.owner_of(database.oid):
                self._server.signed[database.name] = application
        if self.users():
            raise DatabaseRefused(self._server.stuck or "a database hangs")


def oid_of(name: str) -> int:
    """Return the OID of a role or database; unlike in PostgreSQL, it depends on the name alone."""
    return 16_384 + zlib.crc32(name.encode()) % 2**31


def _group(database: str) -> str:
    return f"group of {database}"


def _ascii(name: str, password: pydantic.SecretStr) -> str:
    """Return the password. Raises DatabaseRefused for other characters, as the adapter of PostgreSQL does."""
    text = password.get_secret_value()
    if not text.isascii():
        raise DatabaseRefused(f"the password of {name} has other than ASCII letters")
    return text
