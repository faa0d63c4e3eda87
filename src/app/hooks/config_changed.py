"""The config-changed hook."""

import dataclasses

from app.converge import Converge
from app.outcome import Deferred, Done, Outcome
from app.ports import FactsSource
from domain.leadership import may_write_for_app


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigChanged:
    """The config-changed hook.

    - Only the leader reads options. The other units follow the plan that the leader shares. Before a leader has
      taken over from the charm that this charm replaces, every unit reads options.
    - An invalid option changes nothing, and the status names it.
    - Otherwise the leader changes the configuration, shares and renders it, and PgBouncer reloads.
    """

    source: FactsSource
    verify: Converge

    def __call__(self) -> Outcome:
        """Apply the options, if this unit is the leader and has a configuration."""
        facts = self.source.read()
        if not may_write_for_app(facts) and not facts.reference_decides:
            return self.verify(facts) if facts.follows else Done(facts)
        if not facts.configured:
            return Deferred(facts, "waiting for a configuration to change")
        return self.verify(facts)
