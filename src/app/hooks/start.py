"""The start hook."""

import dataclasses

from app.converge import Converge
from app.outcome import Deferred, Outcome
from app.ports import FactsSource, Peers
from domain import planning
from domain.leadership import may_write_for_app


@dataclasses.dataclass(frozen=True, slots=True)
class Start:
    """The start hook, also of a pod that was replaced.

    - Without a container there is nothing to configure yet.
    - Without a configuration the leader makes the first one and shares it. The other units wait for it.
    - With a configuration, it is rendered and the relations are updated.
    """

    source: FactsSource
    peers: Peers
    verify: Converge

    def __call__(self) -> Outcome:
        """Make the first configuration if there is none, and converge."""
        facts = self.source.read()
        if not facts.container.reachable:
            return Deferred(facts, "waiting for the pgbouncer container")
        if not facts.configured:
            if not may_write_for_app(facts):
                reason = "waiting for the leader to generate and share a configuration"
                return Deferred(facts, reason)
            first = planning.plan(facts)
            self.peers.share(first)
            facts = facts.starting_with(first)
        return self.verify(facts)
