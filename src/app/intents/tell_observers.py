"""Intent: observers such as Prometheus, Grafana and Loki know what they need of this application."""

import dataclasses

from app.outcome import Done
from app.ports import Telemetry
from domain.facts import Facts


@dataclasses.dataclass(frozen=True, slots=True)
class TellObservers:
    """Tells observers of this unit and, on the leader, of the application."""

    telemetry: Telemetry

    def __call__(self, facts: Facts) -> Done:
        """Write what is missing, unless this unit is being removed."""
        if facts.telemetry.metrics and facts.address and not facts.leaving:
            self.telemetry.announce(facts.address)
        return Done(facts)
