"""PgBouncer in memory: processes that are only remembered, and their consoles."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from app.errors import ConsoleFailed, PoolerFailed
from domain.applied import Applied, Step
from domain.capabilities import Program, Version
from domain.console import PooledDatabase, PoolState
from domain.facts import Container
from domain.instances import PoolerConfig
from domain.users import AuthMaterial

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
