"""Use case: the unit starts."""

from app.converge import Converge
from app.outcome import Deferred, Outcome
from app.ports import FactsSource, Peers
from domain import planning
from domain.leadership import may_write_for_app


class Start:
    """The start hook, and the first hook of a pod that came back.

    - Without a container there is nothing to configure yet.
    - The first configuration is the leader's to generate and to share; the others wait for it.
    - With a configuration, it is rendered and relations are brought up to date.
    """

    def __init__(self, world: FactsSource, peers: Peers, converge: Converge) -> None:
        self._world = world
        self._peers = peers
        self._converge = converge

    def __call__(self) -> Outcome:
        """PgBouncer has its configuration."""
        facts = self._world.read()
        if not facts.container.reachable:
            return Deferred(facts, "waiting for the pgbouncer container")
        if not facts.configured:
            if not may_write_for_app(facts):
                return Deferred(
                    facts, "waiting for the leader to generate and share a configuration"
                )
            first = planning.plan(facts)
            self._peers.share(first)
            facts = facts.model_copy(update={"plan": first})
        return self._converge(facts, verify=True)
