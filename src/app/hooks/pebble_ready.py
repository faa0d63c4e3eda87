"""Use case: the workload container came up, for the first time or again."""

from app.converge import Converge
from app.outcome import Deferred, Outcome
from app.ports import FactsSource


class PebbleReady:
    """The pgbouncer-pebble-ready hook.

    - Without a configuration there is nothing to run.
    - With one the processes are started and verified.
    """

    def __init__(self, world: FactsSource, converge: Converge) -> None:
        self._world = world
        self._converge = converge

    def __call__(self) -> Outcome:
        """PgBouncer runs."""
        facts = self._world.read()
        if not facts.configured:
            return Deferred(facts, "waiting for a configuration")
        return self._converge(facts, verify=True)
