"""The hooks of the relations with certificate authorities and with observers."""

import dataclasses

from app.converge import Converge
from app.outcome import Done, Outcome
from app.ports import FactsSource


@dataclasses.dataclass(frozen=True, slots=True)
class RelationChanged:
    """The hooks of certificates, receive-ca-certs, metrics-endpoint, grafana-dashboard, logging and sloth.

    - Each unit does what follows from what the remote side wrote. What is missing then, every later hook does, so
      no event is deferred.
    - A unit that is being removed does nothing: its relations end while other units keep them.
    """

    source: FactsSource
    converge: Converge

    def __call__(self) -> Outcome:
        """Converge, unless this unit is being removed."""
        facts = self.source.read()
        return Done(facts) if facts.leaving else self.converge(facts)
