"""The whole platform in memory: the double of the unit tests, with faults that can be switched on.

    platform = MemoryPlatform(units=2)
    platform.deploy()                                  # every unit: start, pebble-ready
    platform.backend()                                 # PostgreSQL is there
    shop = platform.relate("shop-app", "shop")
    platform.settle()                                  # hooks as Juju would deliver them
    platform.model.clients[shop].told.endpoints        # '10.0.0.1:6432,10.0.0.2:6432'
    platform.unit("pgbouncer/0").update_status()       # one hook of one unit
    platform.server.down = "PostgreSQL does not answer"

Needs nothing but pydantic.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import pydantic

from adapters.local.model import (
    LocalBackend,
    LocalClients,
    LocalDepartures,
    LocalExposure,
    LocalPeers,
    LocalSecrets,
    LocalWorld,
    Model,
    related,
)
from app.backend import BackendBroken, BackendChanged, BackendDeparted, BackendReturned
from app.clients import ClientsBroken, ClientsChanged, ClientsDeparted
from app.config_changed import ConfigChanged
from app.configure_pooler import ConfigurePooler
from app.converge import Converge
from app.errors import (
    AccessRefused,
    ConsoleFailed,
    DatabaseRefused,
    DatabaseUnreachable,
    PoolerFailed,
)
from app.expose import Expose
from app.leader_elected import LeaderElected
from app.pause import Pause, Resume
from app.pebble_ready import PebbleReady
from app.peers import PeersChanged, PeersCreated, PeersDeparted
from app.publish_endpoints import PublishEndpoints
from app.reconcile_access import ReconcileAccess
from app.request_backend import RequestBackend
from app.share_configuration import ShareConfiguration
from app.start import Start
from app.update_status import UpdateStatus
from app.withdraw_access import WithdrawAccess
from domain.applied import Applied, Step
from domain.capabilities import Program, Version
from domain.console import PooledDatabase, PoolState
from domain.facts import Container
from domain.facts import Credentials as BackendCredentials
from domain.instances import Layout, PoolerConfig
from domain.pools import endpoints_in
from domain.users import GROUPS, AuthMaterial, Credentials, Grant

LAYOUT = Layout(root="/var/lib/pgbouncer")
RELEASE = Version(1, 24, 1)


class MemoryPooler:
    """PgBouncer processes that are only remembered."""

    def __init__(self, version: Version = RELEASE, cpus: int = 2) -> None:
        self.reachable = True
        self.release = version
        self.files = 0
        self.cpus = cpus
        self.failure = ""  #: a sentence: what the container refuses with
        self.running: set[int] = set()
        self.ending: set[int] = set()  #: processes whose clients have not left yet
        self.consoles = MemoryConsoles()
        self.applied: Applied | None = None
        self.config: PoolerConfig | None = None
        self.taken: list[Step] = []

    def look(self) -> Container:
        """What is there now."""
        if not self.reachable:
            return Container()
        return Container(
            reachable=True,
            program=self.applied.program if self.applied else None,
            running=frozenset(self.running),
            ending=frozenset(self.ending),
            applied=self.applied,
        )

    def program(self) -> Program:
        """Ask the program itself."""
        return Program(version=self.release, files=self.files, cpus=self.cpus)

    def apply(self, config: PoolerConfig, applied: Applied, steps: tuple[Step, ...]) -> None:
        """Remember all of it. Raises PoolerFailed while `failure` is set."""
        if self.failure:
            raise PoolerFailed(self.failure)
        self.config, self.applied = config, applied
        self.taken += steps
        self.running = {instance.index for instance in config.instances}

    def remember(self, applied: Applied) -> None:
        """Remember this instead."""
        self.applied = applied

    def lose_disk(self) -> None:
        """The container came back with nothing on its disk."""
        self.applied = self.config = None
        self.running.clear()


class MemoryConsoles:
    """The consoles of a unit's processes, with what a test says that clients do there."""

    def __init__(self) -> None:
        self.busy: dict[int, int] = {}  #: connections of a process that clients hold on to
        self.silent = False  #: whether nobody answers
        self.paused: set[int] = set()
        self.reconnected: set[int] = set()

    def open(
        self, index: int, port: int, auth: AuthMaterial
    ) -> AbstractContextManager[MemoryConsole]:
        """The console of one process. Raises ConsoleFailed."""
        if self.silent:
            raise ConsoleFailed(f"process {index} does not answer")
        return nullcontext(MemoryConsole(self, index))


class MemoryConsole:
    """The console of a process that is only remembered."""

    def __init__(self, consoles: MemoryConsoles, index: int) -> None:
        self._consoles = consoles
        self._index = index

    def shed(self, seconds: float, *, reconnect: bool) -> tuple[PooledDatabase, ...]:
        """What clients hold on to stays."""
        return self.databases()

    def databases(self) -> tuple[PooledDatabase, ...]:
        """One database, with the connections that are busy."""
        count = self._consoles.busy.get(self._index, 0)
        return (PooledDatabase(alias="shop", database="shop", connections=count, most=0),)

    def pools(self) -> tuple[PoolState, ...]:
        """Nobody waits."""
        return ()

    def reconnect(self) -> None:
        """Every connection is a new one."""
        self._consoles.reconnected.add(self._index)

    def pause(self, seconds: float) -> bool:
        """Whether nothing is open."""
        self._consoles.paused.add(self._index)
        return not self._consoles.busy.get(self._index)

    def resume(self) -> None:
        """Nothing waits any more."""
        self._consoles.paused.discard(self._index)

    def kill(self, alias: str) -> None:
        """Nothing is open any more."""
        self._consoles.busy.pop(self._index, None)


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


class MemoryUnit:
    """The hooks of one unit, composed by hand."""

    def __init__(
        self,
        model: Model,
        name: str,
        pooler: MemoryPooler,
        databases: MemoryDatabases,
        exposure: LocalExposure,
        new_password: Callable[[], pydantic.SecretStr],
    ) -> None:
        world = LocalWorld(model, name, LAYOUT, pooler.look)
        peers, clients = LocalPeers(model, name), LocalClients(model, name)
        departures, secrets = LocalDepartures(model, name), LocalSecrets(model, name)
        converge = Converge(
            RequestBackend(LocalBackend(model, name)),
            ReconcileAccess(databases, secrets, clients, peers, new_password),
            ShareConfiguration(peers, databases),
            ConfigurePooler(pooler, pooler.consoles, peers),
            ShareConfiguration(peers, databases),
            Expose(exposure, peers),
            PublishEndpoints(databases, clients, new_password),
        )
        withdraw = WithdrawAccess(databases, peers)
        self.name = name
        self.pooler = pooler
        self.look = world.look
        self.start = Start(world, peers, converge)
        self.pebble_ready = PebbleReady(world, converge)
        self.config_changed = ConfigChanged(world, converge)
        self.update_status = UpdateStatus(world, databases, peers, converge)
        self.leader_elected = LeaderElected(world, converge)
        self.peers_created = PeersCreated(world, peers, converge)
        self.peers_changed = PeersChanged(world, converge)
        self.peers_departed = PeersDeparted(world, departures, withdraw, converge)
        self.backend_changed = BackendChanged(world, converge)
        self.backend_departed = BackendDeparted(world, departures, withdraw, converge)
        self.backend_broken = BackendBroken(world, converge)
        self.backend_returned = BackendReturned(world, converge)
        self.clients_changed = ClientsChanged(world, converge)
        self.clients_departed = ClientsDeparted(world, departures, converge)
        self.clients_broken = ClientsBroken(world, converge)
        self.pause = Pause(world, pooler.consoles)
        self.resume = Resume(world, pooler.consoles)


class MemoryPlatform:
    """Units of one application on a platform that only remembers."""

    def __init__(self, units: int = 2, *, service_host: str = "", cpus: int = 2) -> None:
        self.model = Model(service_host=service_host)
        self.server = MemoryServer()
        self.databases = MemoryDatabases(self.server)
        self._cpus = cpus
        self._passwords = itertools.count(1)
        self.units: dict[str, MemoryUnit] = {}
        for _ in range(units):
            self.add_unit()

    def add_unit(self) -> MemoryUnit:
        """One more unit, of which no hook has run."""
        name = self.model.add_unit(f"10.0.0.{len(self.model.units) + 1}")
        self.units[name] = MemoryUnit(
            self.model,
            name,
            MemoryPooler(cpus=self._cpus),
            self.databases,
            self.exposure(name),
            self._new_password,
        )
        return self.units[name]

    def exposure(self, name: str) -> LocalExposure:
        """How a unit exposes the application; a test may put a failing one here."""
        return LocalExposure(self.model, name)

    def remove_unit(self, name: str) -> None:
        """The unit leaves, with the hooks that Juju gives it and the others."""
        last = len(self.units) == 1
        leaver = self.units[name]
        leaver.peers_departed(name, last_unit=last)
        if self.model.backend.related:
            leaver.backend_departed(name, last_unit=last)
            leaver.backend_broken()
        self.model.remove_unit(name)
        del self.units[name]
        for unit in self.units.values():
            unit.peers_departed(name)
        if not last:
            self.units[self.model.leader].leader_elected()

    def unit(self, name: str) -> MemoryUnit:
        """A unit by its name."""
        return self.units[name]

    @property
    def leader(self) -> MemoryUnit:
        """The unit that leads."""
        return self.units[self.model.leader]

    @property
    def followers(self) -> list[MemoryUnit]:
        """The units that do not."""
        return [unit for name, unit in self.units.items() if name != self.model.leader]

    def deploy(self) -> None:
        """Every unit has started."""
        for unit in [self.leader, *self.followers]:
            unit.peers_created()
        self.leader.leader_elected()
        for unit in [self.leader, *self.followers]:
            unit.config_changed()
            unit.start()
            unit.pebble_ready()
        self.settle()

    def backend(
        self, user: str = "relation_id_1", endpoints: str = "10.1.0.1:5432", readers: str = ""
    ) -> None:
        """PostgreSQL was related and has answered."""
        self.model.backend = related(
            BackendCredentials(
                user=user,
                password=pydantic.SecretStr("backend"),
                database="pgbouncer",
                endpoints=endpoints_in(endpoints),
                read_only=endpoints_in(readers),
                version="16.4",
            )
        )
        for unit in self.units.values():
            unit.backend_changed()
        self.settle()

    def relate(self, application: str, database: str, roles: str = "") -> int:
        """An application asked; its hooks ran on every unit. Returns the relation's number."""
        number = self.model.relate(application, database, roles)
        for unit in self.units.values():
            unit.clients_changed()
        self.settle()
        return number

    def unrelate(self, number: int) -> None:
        """The application has gone."""
        for unit in self.units.values():
            unit.clients_departed("application/0")
        del self.model.clients[number]
        for unit in self.units.values():
            unit.clients_broken()
        self.settle()

    def settle(self, rounds: int = 10) -> None:
        """Every unit hears of the others until nobody has news. Raises RuntimeError if none ends."""
        for _ in range(rounds):
            before = self.model.model_dump_json()
            for unit in [self.leader, *self.followers]:
                unit.peers_changed()
            if self.model.model_dump_json() == before:
                return
        raise RuntimeError(f"not settled after {rounds} rounds")

    def _new_password(self) -> pydantic.SecretStr:
        return pydantic.SecretStr(f"password{next(self._passwords)}")
