"""Use cases: an operator is about to do something to PostgreSQL, and has done it."""

from app.ports import Consoles, FactsSource
from domain.applied import AppliedInstance
from domain.facts import Facts

# How long one process may keep us waiting for its transactions, in seconds.
PATIENCE = 5.0


class Pause:
    """No transaction begins, and those that are open end; whoever wants one waits.

    - All processes hear of it before any is waited for.
    - Clients wait as long as query_wait_timeout lets them.
    """

    def __init__(self, world: FactsSource, consoles: Consoles) -> None:
        self._world = world
        self._consoles = consoles

    def __call__(self, seconds: float = PATIENCE) -> int:
        """How many processes still have transactions after so long each. Raises ConsoleFailed."""
        facts = self._world.read()
        running = _running(facts)
        for one in running:
            self._paused(facts, one, 0.0)
        return sum(not self._paused(facts, one, seconds) for one in running)

    def _paused(self, facts: Facts, process: AppliedInstance, seconds: float) -> bool:
        if facts.auth is None:
            return True
        with self._consoles.open(process.index, process.port, facts.auth) as console:
            return console.pause(seconds)


class Resume:
    """What waits goes on, on new connections: those that were open may lead to another server now."""

    def __init__(self, world: FactsSource, consoles: Consoles) -> None:
        self._world = world
        self._consoles = consoles

    def __call__(self) -> None:
        """Nothing is paused. Raises ConsoleFailed."""
        facts = self._world.read()
        for one in _running(facts):
            if facts.auth:
                with self._consoles.open(one.index, one.port, facts.auth) as console:
                    console.reconnect()
                    console.resume()


def _running(facts: Facts) -> list[AppliedInstance]:
    known = facts.container.applied
    processes = known.instances if known else ()
    return [one for one in processes if one.index in facts.container.running]
