"""The hooks of the relations metrics-endpoint, grafana-dashboard, logging and sloth."""

import dataclasses

from app.converge import Converge
from app.outcome import Done, Outcome
from app.ports import FactsSource


@dataclasses.dataclass(frozen=True, slots=True)
class ObserversChanged:
    """The hooks of relations with observers: created, changed and broken.

    - Observers wait for nothing but a configuration, which every hook makes up for, so no event is deferred.
    - A unit that is being removed does nothing: its relations end while other units keep them.
    """

    source: FactsSource
    converge: Converge

    def __call__(self) -> Outcome:
        """Converge with what observers wrote, unless this unit is being removed."""
        facts = self.source.read()
        return Done(facts) if facts.leaving else self.converge(facts)
