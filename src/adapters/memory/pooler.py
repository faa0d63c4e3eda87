"""PgBouncer processes in memory, and their consoles.

The tests of tests/contract hold for them and for the real processes and consoles.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext

from adapters.memory.exporters import MemoryExporters
from app.errors import ConsoleFailed, PoolerFailed, PoolerUnreachable
from domain.applied import AppliedState, Step
from domain.capabilities import PgBouncerRuntime, Version
from domain.change import Change
from domain.console import DatabaseStats, PooledDatabase, PoolState, ServerState
from domain.facts import Container
from domain.ini_lines import IniLine
from domain.instances import Instance, PoolerConfig
from domain.operations import ALL, ClientSession
from domain.pools import Pool
from domain.users import AuthMaterial, Login

RELEASE = Version(1, 26, 1)


class MemoryPooler:
    """The PgBouncer processes of a unit in memory."""

    def __init__(self, version: Version = RELEASE, cpus: int = 2) -> None:
        # The clock of the unit, in seconds.
        self.now = 1_790_000_000.0
        self.reachable = True
        # Whether a container that cannot be reached exists, and timed out.
        self.timed_out = False
        self.release = version
        self.files = 0
        self.cpus = cpus
        # The error of every change, as a sentence; '' if changes succeed.
        self.failure = ""
        # Whether `failure` is a PoolerUnreachable.
        self.passing = False
        # Lines that PgBouncer refuses.
        self.impossible: set[IniLine] = set()
        # Keys that do not fit their certificates.
        self.unfit: set[str] = set()
        # Processes by index: those that run, that do not answer, and whose clients have not left yet.
        self.running: set[int] = set()
        self.hung: set[int] = set()
        self.ending: set[int] = set()
        self.consoles = MemoryConsoles(self)
        self.exporters = MemoryExporters(self.ports)
        self.applied: AppliedState | None = None
        # The configuration that the processes run with.
        self.config: PoolerConfig | None = None
        self.taken: list[Step] = []

    def read(self) -> Container:
        """Return the state of the processes."""
        if not self.reachable:
            return Container(timed_out=self.timed_out)
        return Container(
            reachable=True,
            program=self.applied.program if self.applied else None,
            running=frozenset(self.running - self.hung),
            unresponsive=frozenset(self.hung),
            ending=frozenset(self.ending),
            applied=self.applied,
            exporting=frozenset(self.exporters.running),
            exporters=self.exporters.applied,
        )

    def program(self) -> PgBouncerRuntime:
        """Return the version of PgBouncer, and how many files and CPUs it may use. Raises PoolerFailed."""
        self._reach()
        return PgBouncerRuntime(version=self.release, files=self.files, cpus=self.cpus)

    def apply(self, change: Change) -> None:
        """Take the steps in their order, and store the record last. Raises PoolerFailed."""
        config, steps = change.config, change.steps
        self._reach()
        if self.failure:
            raise (PoolerUnreachable if self.passing else PoolerFailed)(self.failure)
        key = config.client_files[0].text.get_secret_value() if config.client_files else ""
        if key in self.unfit:
            raise PoolerFailed(
                "the certificate for clients cannot be served (KEY_VALUES_MISMATCH)"
            )
        self._refuse(config, steps)
        for step in steps:
            self.take(config, step)
        runs = self.instances()
        self.config = config.with_instances(
            runs.get(instance.index, instance) for instance in config.instances
        )
        self.remember(change.after)

    def _refuse(self, config: PoolerConfig, steps: tuple[Step, ...]) -> None:
        """Raise PoolerFailed for a reload that a process refuses, before any process has reloaded."""
        reloading = {step.index for step in steps if step.action == "reload"}
        for instance in config.instances:
            line = self._refused_line(instance)
            if line and instance.index in reloading:
                raise PoolerFailed(f"PgBouncer refuses the line {line[0]} = {line[1]}")
        if reloading & self.hung:
            raise PoolerUnreachable(
                f"PgBouncer process {min(reloading & self.hung)} cannot be asked after its reload"
            )

    def take(self, config: PoolerConfig, step: Step) -> None:
        """Take a step without storing a state. Raises PoolerFailed."""
        wanted = {instance.index: instance for instance in config.instances}
        runs = self.instances()
        if step.action == "stop":
            self.stop(step.index)
            runs.pop(step.index, None)
        else:
            line = self._refused_line(wanted[step.index])
            if step.action != "reload":
                self.die(step.index)
            if line:
                raise PoolerFailed(f"PgBouncer refuses the line {line[0]} = {line[1]}")
            # The real process starts, and listens nowhere. An error shows that earlier.
            if step.action != "reload" and self.exporters.listens_at(wanted[step.index].port):
                raise PoolerFailed("PgBouncer does not start: its port is in use")
            runs[step.index] = wanted[step.index]
            self.running.add(step.index)
            if step.action != "reload" and config.paused:
                self.consoles.paused[step.index] = {ALL}
        self.config = config.with_instances(runs.values())
        self.taken.append(step)

    def remember(self, applied: AppliedState) -> None:
        """Store this state in place of the state before. Raises PoolerFailed."""
        self._reach()
        self.applied = applied

    def instances(self) -> dict[int, Instance]:
        """Return what each process runs with, or ran with when it died, by index."""
        return (
            {instance.index: instance for instance in self.config.instances} if self.config else {}
        )

    def ports(self) -> set[int]:
        """Return the ports at which processes listen."""
        known = self.instances()
        return {known[index].port for index in self.running if index in known}

    def stop(self, index: int) -> None:
        """Stop a process. Its clients leave at once here."""
        self.die(index)

    def die(self, index: int) -> None:
        """End a process with all its connections."""
        self.running.discard(index)
        self.hung.discard(index)
        self.consoles.forget(index)

    def lose_disk(self) -> None:
        """Replace the container by a new container with an empty disk."""
        for index in list(self.running):
            self.die(index)
        self.applied = self.config = None
        self.exporters.lose_disk()

    def _refused_line(self, instance: Instance) -> IniLine | None:
        return next((line for line in instance.settings if line in self.impossible), None)

    def _reach(self) -> None:
        if not self.reachable:
            raise PoolerUnreachable("the container went away")


class MemoryConsoles:
    """The consoles of the processes of a unit, with the connections that a test gives to clients.

    Without a pooler in memory every console answers, and shows no database.
    """

    def __init__(self, pooler: MemoryPooler | None = None) -> None:
        self.pooler = pooler
        # The number of server connections that clients use, by the index of the process.
        self.busy: dict[int, int] = {}
        # Sessions from the network without TLS, by the index of the process: whether each is in a transaction.
        self.plain: dict[int, list[bool]] = {}
        # Whether no console answers.
        self.silent = False
        # The databases that are paused, with ALL for all of them, by the index of the process.
        self.paused: dict[int, set[str]] = {}
        # The clients of each process, by its index.
        self.sessions: dict[int, list[ClientSession]] = {}
        self.reconnected: set[int] = set()

    def open(
        self, index: int, port: int, auth: AuthMaterial
    ) -> AbstractContextManager[MemoryConsole]:
        """Return the console of a process. Raises ConsoleFailed."""
        if self.silent:
            raise ConsoleFailed(f"process {index} does not answer")
        instance = None
        if self.pooler:
            instance = self._instance(self.pooler, index, port)
            admin = Login(username=auth.admin_user, password=auth.admin_password)
            if self.pooler.config is None or self.pooler.config.admin != admin:
                raise ConsoleFailed(f"process {index} refuses {auth.admin_user}")
        return nullcontext(MemoryConsole(self, index, instance))

    def reload(self, instance: Instance, admin: Login) -> str:
        """Return '': a process reports no error when it reads its files again. Raises ConsoleFailed."""
        if self.silent:
            raise ConsoleFailed(f"PgBouncer process {instance.index} does not answer")
        return ""

    def first_line_not_applied(self, instance: Instance, admin: Login) -> str:
        """Return '': a process runs with every line of its file. Raises ConsoleFailed."""
        return self.reload(instance, admin)

    def forget(self, index: int) -> None:
        """Forget the connections and the pause of a process that has ended."""
        self.busy.pop(index, None)
        self.plain.pop(index, None)
        self.paused.pop(index, None)
        self.sessions.pop(index, None)

    @staticmethod
    def _instance(pooler: MemoryPooler, index: int, port: int) -> Instance:
        instance = pooler.instances().get(index)
        if index in pooler.hung:
            raise ConsoleFailed(f"PgBouncer process {index} does not answer")
        if index in pooler.running and pooler.reachable and instance and instance.port == port:
            return instance
        raise ConsoleFailed(f"process {index} has no socket for port {port}")


class MemoryConsole:
    """The console of a process in memory."""

    def __init__(self, consoles: MemoryConsoles, index: int, instance: Instance | None) -> None:
        self._consoles = consoles
        self._index = index
        self._instance = instance

    def drain_surplus(self, seconds: float, *, reconnect: bool) -> tuple[PooledDatabase, ...]:
        """Return the databases: connections that clients use stay."""
        databases = self.databases()
        if reconnect and any(0 < database.most < database.connections for database in databases):
            self.reconnect()
        return databases

    def databases(self) -> tuple[PooledDatabase, ...]:
        """Return the databases; all connections that clients use belong to the last database."""
        pools = self._pools()
        return tuple(
            PooledDatabase(
                alias=pool.alias,
                database=pool.database or pool.alias,
                connections=self._busy() if pool is pools[-1] else 0,
                most=pool.connections or (self._instance.limit if self._instance else 0),
            )
            for pool in pools
        )

    def pools(self) -> tuple[PoolState, ...]:
        """Return the pool whose connections clients use."""
        if self._instance is None or not (self._busy() and self._pools()):
            return ()
        pool = self._pools()[-1]
        mode = pool.mode or dict(self._instance.settings)["pool_mode"]
        return (
            PoolState(
                alias=pool.alias,
                user="relation_id_1",
                clients_active=self._busy(),
                clients_waiting=0,
                servers_active=self._busy(),
                servers_idle=0,
                longest_wait=0.0,
                mode=mode,
            ),
        )

    def reconnect(self) -> None:
        """Note that the connections were replaced."""
        self._consoles.reconnected.add(self._index)

    def end_plain_sessions(self, *, at_once: bool) -> int:
        """End the sessions without TLS that use no connection, or all; return how many stay."""
        plain = self._consoles.plain.get(self._index, [])
        left = [] if at_once else [busy for busy in plain if busy]
        self._consoles.plain[self._index] = left
        return len(left)

    def paused(self) -> frozenset[str]:
        """Return the databases that are paused."""
        return frozenset(self._consoles.paused.get(self._index, set()))

    def pause(self, alias: str = ALL) -> None:
        """Pause a database of the process."""
        self._consoles.paused.setdefault(self._index, set()).add(alias)

    def resume(self, besides: Collection[str] = ()) -> None:
        """End the pauses of other databases."""
        self._consoles.paused[self._index] = set(self.paused().intersection(besides))

    def sessions(self) -> tuple[ClientSession, ...]:
        """Return the clients."""
        return tuple(self._consoles.sessions.get(self._index, ()))

    def kill(self, number: int) -> None:
        """Disconnect a client."""
        clients = self._consoles.sessions.get(self._index, [])
        clients[:] = [client for client in clients if client.number != number]

    def servers(self) -> tuple[ServerState, ...]:
        """Return the server connections that clients use."""
        pools = self.pools()
        return tuple(
            ServerState(alias=pool.alias, user=pool.user, state="active", address="10.1.0.1:5432")
            for pool in pools
            for _ in range(pool.servers_active)
        )

    def stats(self) -> tuple[DatabaseStats, ...]:
        """Return that no transaction was counted."""
        return tuple(
            DatabaseStats(
                alias=pool.alias, transactions=0, queries=0, transactions_per_second=0,
                queries_per_second=0, transaction_microseconds=0, wait_microseconds=0,
            )
            for pool in self._pools()
        )  # fmt: skip

    def settings(self) -> dict[str, str]:
        """Return the settings that the process runs with."""
        return dict(self._instance.settings) if self._instance else {}

    def _pools(self) -> tuple[Pool, ...]:
        return self._instance.pools if self._instance else ()

    def _busy(self) -> int:
        return self._consoles.busy.get(self._index, 0)
