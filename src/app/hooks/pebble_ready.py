"""The pgbouncer-pebble-ready hook."""

import dataclasses

from app.converge import Converge
from app.outcome import Deferred, Outcome
from app.ports import FactsSource


@dataclasses.dataclass(frozen=True, slots=True)
class PebbleReady:
    """The pgbouncer-pebble-ready hook: the container has started, for the first time or again.

    - Without a configuration there is nothing to run.
    - With a configuration the processes are started and verified.
    """

    source: FactsSource
    verify: Converge

    def __call__(self) -> Outcome:
        """Start the processes if there is a configuration."""
        facts = self.source.read()
        if not facts.configured:
            return Deferred(facts, "waiting for a configuration")
        return self.verify(facts)
