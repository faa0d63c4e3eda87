"""Use case: the operator changed an option."""

from app.converge import Converge
from app.outcome import Deferred, Done, Outcome
from app.ports import FactsSource
from domain.leadership import may_write_for_app


class ConfigChanged:
    """The config-changed hook.

    - Options are the leader's to read: the others follow what it shares.
    - An option that cannot be honoured changes nothing, and the status names it.
    - Otherwise the configuration is made to match, shared, rendered and reloaded.
    """

    def __init__(self, world: FactsSource, converge: Converge) -> None:
        self._world = world
        self._converge = converge

    def __call__(self) -> Outcome:
        """The pooler runs with the options, if they are valid."""
        facts = self._world.read()
        if not may_write_for_app(facts):
            return Done(facts)
        if not facts.configured:
            return Deferred(facts, "waiting for a configuration to change")
        return self._converge(facts, verify=True)
