"""The actions pause and resume, for maintenance of PostgreSQL."""

import dataclasses

from app.ports import Consoles, FactsSource
from domain.facts import Facts
from domain.process import Process

# How long the transactions of a process are waited for, in seconds.
WAIT_SECONDS = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """Pause every process: no transaction begins, and open transactions end.

    - Every process is paused before any process is waited for.
    - Clients wait as long as query_wait_timeout lets them.
    """

    source: FactsSource
    consoles: Consoles

    def __call__(self, seconds: float = WAIT_SECONDS) -> int:
        """Return how many processes still have transactions after so many seconds for each process.

        Raises ConsoleFailed.
        """
        facts = self.source.read()
        running = _running(facts)
        for process in running:
            self._paused(facts, process, 0.0)
        return sum(not self._paused(facts, process, seconds) for process in running)

    def _paused(self, facts: Facts, process: Process, seconds: float) -> bool:
        if facts.auth is None:
            return True
        with self.consoles.open(process.index, process.port, facts.auth) as console:
            return console.pause(seconds)


@dataclasses.dataclass(frozen=True, slots=True)
class Resume:
    """Resume every process, with new server connections: PostgreSQL may be another server now."""

    source: FactsSource
    consoles: Consoles

    def __call__(self) -> None:
        """Reconnect and resume every process. Raises ConsoleFailed."""
        facts = self.source.read()
        for process in _running(facts):
            if facts.auth:
                with self.consoles.open(process.index, process.port, facts.auth) as console:
                    console.reconnect()
                    console.resume()


def _running(facts: Facts) -> list[Process]:
    applied = facts.container.applied
    processes: tuple[Process, ...] = applied.instances if applied else ()
    return [process for process in processes if process.index in facts.container.running]
