"""PgBouncer in memory: processes that are only remembered, and their consoles.

It does what tests/contract/pooler.py says.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from app.errors import ConsoleFailed, PoolerFailed, PoolerUnreachable
from domain.applied import AppliedState, Step
from domain.capabilities import PgBouncerRuntime, Version
from domain.console import PooledDatabase, PoolState
from domain.facts import Container
from domain.instances import IniLine, Instance, PoolerConfig
from domain.pools import Pool
from domain.users import AuthMaterial, Login

RELEASE = Version(1, 26, 1)


class MemoryPooler:
    """PgBouncer processes that are only remembered."""

    def __init__(self, version: Version = RELEASE, cpus: int = 2) -> None:
        self.reachable = True
        self.timed_out = False  #: whether a container that cannot be reached exists, and timed out
        self.release = version
        self.files = 0
        self.cpus = cpus
        self.failure = ""  #: a sentence: what the container refuses with
        self.passing = False  #: whether `failure` is a PoolerUnreachable
        self.impossible: set[IniLine] = set()  #: lines that PgBouncer refuses
        self.running: set[int] = set()
        self.hung: set[int] = set()  #: processes, by index, that do not answer
        self.ending: set[int] = set()  #: processes whose clients have not left yet
        self.consoles = MemoryConsoles(self)
        self.applied: AppliedState | None = None
        self.config: PoolerConfig | None = None  #: of each process what it runs with
        self.taken: list[Step] = []

    def read(self) -> Container:
        """What is there now."""
        if not self.reachable:
            return Container(timed_out=self.timed_out)
        return Container(
            reachable=True,
            program=self.applied.program if self.applied else None,
            running=frozenset(self.running - self.hung),
            unresponsive=frozenset(self.hung),
            ending=frozenset(self.ending),
            applied=self.applied,
        )

    def program(self) -> PgBouncerRuntime:
        """Ask the program itself. Raises PoolerFailed."""
        self._reach()
        return PgBouncerRuntime(version=self.release, files=self.files, cpus=self.cpus)

    def apply(self, config: PoolerConfig, applied: AppliedState, steps: tuple[Step, ...]) -> None:
        """Each process that is told to does as it is told. Raises PoolerFailed."""
        self._reach()
        if self.failure:
            raise (PoolerUnreachable if self.passing else PoolerFailed)(self.failure)
        self._refuse(config, steps)
        for step in steps:
            self.take(config, step)
        runs = self.instances()
        instances = tuple(runs.get(one.index, one) for one in config.instances)
        self.config = config.model_copy(update={"instances": instances})
        self.remember(applied)

    def _refuse(self, config: PoolerConfig, steps: tuple[Step, ...]) -> None:
        """Raise PoolerFailed for a reload that a process refuses, before any process has reloaded."""
        reloading = {step.index for step in steps if step.action == "reload"}
        for instance in config.instances:
            line = next(
                (setting for setting in instance.settings if setting in self.impossible), None
            )
            if line and instance.index in reloading:
                raise PoolerFailed(f"PgBouncer refuses the line {line[0]} = {line[1]}")
        if reloading & self.hung:
            raise PoolerUnreachable(
                f"PgBouncer process {min(reloading & self.hung)} cannot be asked after its reload"
            )

    def take(self, config: PoolerConfig, step: Step) -> None:
        """One process does as it is told, and nothing is remembered. Raises PoolerFailed."""
        told = {one.index: one for one in config.instances}
        runs = self.instances()
        if step.action == "stop":
            self.stop(step.index)
            runs.pop(step.index, None)
        else:
            line = next((one for one in told[step.index].settings if one in self.impossible), None)
            if step.action != "reload":
                self.die(step.index)
            if line:
                raise PoolerFailed(f"PgBouncer refuses the line {line[0]} = {line[1]}")
            runs[step.index] = told[step.index]
            self.running.add(step.index)
        self.config = config.model_copy(update={"instances": tuple(runs.values())})
        self.taken.append(step)

    def remember(self, applied: AppliedState) -> None:
        """Remember this instead. Raises PoolerFailed."""
        self._reach()
        self.applied = applied

    def instances(self) -> dict[int, Instance]:
        """What each process runs with, or ran with when it died."""
        return {one.index: one for one in self.config.instances} if self.config else {}

    def stop(self, index: int) -> None:
        """It has ended when its clients have: here that is at once."""
        self.die(index)

    def die(self, index: int) -> None:
        """The process has gone, and all that was connected."""
        self.running.discard(index)
        self.hung.discard(index)
        self.consoles.forget(index)

    def lose_disk(self) -> None:
        """The container came back with nothing on its disk."""
        for index in list(self.running):
            self.die(index)
        self.applied = self.config = None

    def _reach(self) -> None:
        if not self.reachable:
            raise PoolerUnreachable("the container went away")


class MemoryConsoles:
    """The consoles of a unit's processes, with what a test says that clients do there.

    Those of a pooler that is not in memory all answer, and tell of no database.
    """

    def __init__(self, pooler: MemoryPooler | None = None) -> None:
        self.pooler = pooler
        self.busy: dict[int, int] = {}  #: connections of a process that clients hold on to
        self.silent = False  #: whether nobody answers
        self.paused: set[int] = set()
        self.killed: set[tuple[int, str]] = set()  #: pools, by process and alias
        self.reconnected: set[int] = set()

    def open(
        self, index: int, port: int, auth: AuthMaterial
    ) -> AbstractContextManager[MemoryConsole]:
        """The console of one process. Raises ConsoleFailed."""
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
        """The process has gone, and with it all that it was told."""
        self.busy.pop(index, None)
        self.paused.discard(index)
        self.killed = {one for one in self.killed if one[0] != index}

    @staticmethod
    def _instance(pooler: MemoryPooler, index: int, port: int) -> Instance:
        instance = pooler.instances().get(index)
        if index in pooler.hung:
            raise ConsoleFailed(f"PgBouncer process {index} does not answer")
        if index in pooler.running and pooler.reachable and instance and instance.port == port:
            return instance
        raise ConsoleFailed(f"process {index} has no socket for port {port}")


class MemoryConsole:
    """The console of a process that is only remembered."""

    def __init__(self, consoles: MemoryConsoles, index: int, instance: Instance | None) -> None:
        self._consoles = consoles
        self._index = index
        self._instance = instance

    def shed(self, seconds: float, *, reconnect: bool) -> tuple[PooledDatabase, ...]:
        """What clients hold on to stays."""
        found = self.databases()
        if reconnect and any(0 < one.most < one.connections for one in found):
            self.reconnect()
        return found

    def databases(self) -> tuple[PooledDatabase, ...]:
        """What it was told of; connections that are busy are to the last."""
        pools = self._pools()
        return tuple(
            PooledDatabase(
                alias=one.alias,
                database=one.database or one.alias,
                connections=self._busy() if one is pools[-1] else 0,
                most=one.connections or (self._instance.limit if self._instance else 0),
                paused=(self._index, one.alias) in self._consoles.killed,
            )
            for one in pools
        )

    def pools(self) -> tuple[PoolState, ...]:
        """The one that is busy."""
        if self._instance is None or not (self._busy() and self._pools()):
            return ()
        pool = self._pools()[-1]
        mode = pool.mode or dict(self._instance.settings)["pool_mode"]
        return (
            PoolState(
                alias=pool.alias,
                user="somebody",
                clients_active=self._busy(),
                clients_waiting=0,
                servers_active=self._busy(),
                servers_idle=0,
                longest_wait=0.0,
                mode=mode,
            ),
        )

    def reconnect(self) -> None:
        """Every connection is a new one."""
        self._consoles.reconnected.add(self._index)

    def pause(self, seconds: float) -> bool:
        """Whether nothing is open."""
        self._consoles.paused.add(self._index)
        return not self._busy()

    def resume(self) -> None:
        """Nothing waits any more."""
        self._consoles.paused.discard(self._index)
        self._consoles.killed = {one for one in self._consoles.killed if one[0] != self._index}

    def kill(self, alias: str) -> None:
        """Nothing is open any more. Raises ConsoleFailed."""
        if self._index in self._consoles.paused:
            raise ConsoleFailed("already suspended/paused")
        self._consoles.killed.add((self._index, alias))
        if self._pools()[-1:] and self._pools()[-1].alias == alias:
            self._consoles.busy.pop(self._index, None)

    def _pools(self) -> tuple[Pool, ...]:
        return self._instance.pools if self._instance else ()

    def _busy(self) -> int:
        return self._consoles.busy.get(self._index, 0)
