"""PostgreSQL in memory, and the way to it. It does what tests/contract/databases.py says."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field

import pydantic

from app.errors import (
    AccessRefused,
    DatabaseBusy,
    DatabaseRefused,
    DatabaseUnreachable,
    NoTimeLeft,
)
from domain.consent import Holding, Reach, reach_of
from domain.facts import BackendLogin, Ledger
from domain.made import AUTH, CLIENT, GROUP, Made, OwnRole
from domain.roles import ATTRIBUTES, GROUPS
from domain.users import AuthMaterial, Grant, Login

HEIR = "heir"  # owns the databases of clients that have left


@dataclass
class Role:
    """A role in the server in memory."""

    ours: bool = True
    password: str = ""
    database: str = ""  #: that it is a client of; '' for all others
    groups: frozenset[str] = frozenset()
    members: set[str] = field(default_factory=set[str])  #: roles that other users have added
    login: bool = True  #: not once it was begun to be dropped

    @property
    def client(self) -> bool:
        """Whether it is a client user that this application made."""
        return self.ours and bool(self.database)


@dataclass
class MemoryServer:
    """A PostgreSQL in memory."""

    roles: dict[str, Role] = field(default_factory=dict[str, Role])
    databases: set[str] = field(default_factory=set[str])
    #: The owner of a database that this application did not make for a client, by the database's name.
    owners: dict[str, str] = field(default_factory=dict[str, str])
    #: The related application that a database was made for, by the database's name, after a withdrawal.
    signed: dict[str, str] = field(default_factory=dict[str, str])
    open: set[str] = field(default_factory=set[str])  #: databases to which PUBLIC may connect
    reaches: dict[str, Reach] = field(default_factory=dict[str, Reach])  #: the reach of groups
    major: int = 16  #: major version
    cluster: str = "7000000000000000001"  #: system identifier
    behind: list[str] = field(default_factory=list[str])  #: sentences on objects that clients left
    functions: set[str] = field(default_factory=set[str])  #: databases with our auth function
    groups: set[str] = field(default_factory=lambda: set(GROUPS))  #: that exist
    password: str = ""  #: of the backend's user; '' lets in whoever comes
    closed: set[str] = field(default_factory=set[str])  #: databases that are not ours to share
    down: str = ""  #: a sentence: why nobody gets an answer
    refuses: str = ""  #: a sentence: why an answer is no
    stuck: str = ""  #: a sentence: why client users cannot be dropped
    # Databases that cannot be entered, each with a sentence that says why, and users whose logins
    # cannot be taken away.
    hung: dict[str, str] = field(default_factory=dict[str, str])
    undying: dict[str, str] = field(default_factory=dict[str, str])
    refuses_passwords: str = ""  #: a sentence: why passwords cannot be set
    lets_in: bool = True  #: whether pg_hba.conf names new users
    connected: set[str] = field(default_factory=set[str])  #: addresses
    capacity: int = 1000  #: connections that the server accepts
    identity: str = "10.1.0.1 since Monday"
    asked: int = 0  #: conversations so far


class MemoryDatabases:
    """The way to a server in memory."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server

    @contextmanager
    def open(
        self, backend: BackendLogin, ledger: Ledger | None = None
    ) -> Generator[MemoryDatabase]:
        """Log in; `ledger` has the roles made before. Raises DatabaseUnreachable or DatabaseRefused."""
        self.server.asked += 1
        if self.server.down:
            raise DatabaseUnreachable(self.server.down)
        if self.server.refuses:
            raise DatabaseRefused(self.server.refuses)
        if self.server.password not in ("", backend.password.get_secret_value()):
            raise DatabaseRefused(f"PostgreSQL refuses user {backend.user}")
        yield MemoryDatabase(self.server, ledger or Ledger())

    def answers(self, backend: BackendLogin) -> bool:
        """Whether the server is up."""
        return not self.server.down

    def admits(self, backend: BackendLogin, credentials: Login, database: str) -> bool:
        """Whether user, password and database go together. Raises DatabaseUnreachable."""
        if self.server.down:
            raise DatabaseUnreachable(self.server.down)
        role = self.server.roles.get(credentials.username)
        if role is None or not (role.login and self.server.lets_in and role.password):
            return False
        home = {role.database} & self.server.databases if role.client else self.server.functions
        known = role.password == credentials.password.get_secret_value()
        return known and database in home and database not in self.server.hung


class MemoryDatabase:
    """An open conversation with a server in memory."""

    def __init__(self, server: MemoryServer, ledger: Ledger) -> None:
        self._asked = server
        self._left = 8  # quarters of a second that this hook may wait
        self._patience = 4
        self._met: set[str] = set()  # databases that hang, as this hook has seen
        self._ledger = ledger

    @property
    def _server(self) -> MemoryServer:
        """The server, as long as it is there. Raises DatabaseUnreachable."""
        if self._asked.down:
            raise DatabaseUnreachable(self._asked.down)
        return self._asked

    def provision(self, auth: AuthMaterial, database: str) -> None:
        """The auth user and its function are there."""
        role = self._server.roles.get(auth.auth_user, Role())
        if role.client or not role.ours:
            raise _not_ours(auth.auth_user)
        role.password = _ascii(auth.auth_user, auth.auth_password)
        others = {name for name, one in self._server.roles.items() if one.ours and not one.client}
        for name in others - {auth.auth_user}:
            del self._server.roles[name]
        self._server.roles[auth.auth_user] = role
        self._server.functions.add(database)

    def server(self) -> str:
        """The server that a test says it is."""
        return self._server.identity

    def capacity(self) -> int:
        """Return the number of connections that a test has set."""
        return self._server.capacity

    def knows(self, address: str) -> bool:
        """Whether a test says that there is a connection."""
        return address in self._server.connected

    def users(self) -> frozenset[str]:
        """Client users of ours."""
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
        return failures

    def hurry(self) -> None:
        """Wait only a quarter of a second for each database that hangs."""
        self._patience = 1

    def _enter(self, database: str) -> None:
        """Raise DatabaseBusy if a database hangs, and NoTimeLeft if the hook may wait no more."""
        if self._left <= 0:
            raise NoTimeLeft("is tried again soon")
        if database in self._server.hung:
            if database not in self._met:
                self._left -= self._patience
            self._met.add(database)
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
        return before.model_copy(
            update={"roles": tuple(sorted(roles, key=lambda role: role.name))}
        )

    def reaches(self, roles: Iterable[str], database: str) -> tuple[Reach, ...]:
        """Return the reach that a test has set for each role; without it a group has none."""
        major, known = self._server.major, self._server.reaches
        return tuple(known.get(role) or reach_of(role, major) for role in roles)

    def holdings(self) -> tuple[Holding, ...]:
        """Return every database."""
        server = self._server
        return tuple(
            Holding(
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
            *(f"database {found.name}" for found in self.holdings() if found.oid in noted),
        )

    def grant(self, grant: Grant, oid: int = 0) -> bool:
        """The user and its database are there. Raises AccessRefused."""
        if missing := sorted({*grant.roles} - ATTRIBUTES - self._server.groups):
            raise AccessRefused(f"PostgreSQL has no role {missing[0]}")
        role = self._server.roles.get(grant.username)
        if role and not role.client:
            raise _not_ours(grant.username)
        if role and role.members:
            raise AccessRefused(f"role {grant.username} was given to {min(role.members)}")
        if role is None:
            role = self._server.roles[grant.username] = Role(database=grant.database)
        found = {held.name: held for held in self.holdings()}.get(grant.database)
        if found and found.owner != found.group and found.oid != oid:
            raise AccessRefused(f"database {grant.database} appeared just now")
        role.database, role.groups, role.login = grant.database, frozenset(grant.roles), True
        self._enter(grant.database)
        if grant.database in self._server.closed:
            raise AccessRefused(f"nobody can be given access to database {grant.database}")
        self._server.databases.add(grant.database)
        if found and found.owner == HEIR:
            del self._server.owners[grant.database]
        return not role.password

    def set_password(self, credentials: Login) -> None:
        """The user can log in with it. Raises DatabaseRefused."""
        name = credentials.username
        if self._server.refuses_passwords:
            raise DatabaseRefused(self._server.refuses_passwords)
        if name not in self._server.roles:
            raise DatabaseRefused(f"PostgreSQL has no user {name}")
        if not self._server.roles[name].client:
            raise _not_ours(name)
        self._server.roles[name].password = _ascii(name, credentials.password)

    def revoke(self, username: str) -> None:
        """The client user is gone; its database stays. Raises DatabaseRefused."""
        role = self._server.roles.get(username)
        if role and role.client:
            role.login, role.password = False, ""
            if self._server.stuck:
                raise DatabaseRefused(self._server.stuck)
            self._enter(role.database)
            del self._server.roles[username]

    def withdraw(self) -> None:
        """Nothing of ours is left, but for databases. Raises DatabaseRefused if something else is."""
        self.lock_out(self.users())
        self._server.functions.clear()
        for name, role in list(self._server.roles.items()):
            if role.client and (self._server.stuck or role.database in self._server.hung):
                continue
            if role.ours:
                del self._server.roles[name]
        noted = self.made()
        for database in self.holdings():
            if database.owner == database.group:
                self._server.owners[database.name] = HEIR
            if application := noted.owner_of(database.oid):
                self._server.signed[database.name] = application
        if self.users():
            raise DatabaseRefused(self._server.stuck or "a database hangs")


def oid_of(name: str) -> int:
    """Return the OID of a role or database; unlike in PostgreSQL, it depends on the name alone."""
    return 16_384 + zlib.crc32(name.encode()) % 2**31


def _group(database: str) -> str:
    return f"group of {database}"


def _not_ours(name: str) -> AccessRefused:
    return AccessRefused(f"role {name} exists and is not ours")


def _ascii(name: str, password: pydantic.SecretStr) -> str:
    """As the real one, which sends verifiers, takes no other."""
    text = password.get_secret_value()
    if not text.isascii():
        raise DatabaseRefused(f"the password of {name} has other than ASCII letters")
    return text
