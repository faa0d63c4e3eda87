"""Observers in memory: what they are told, and where log lines go."""

from __future__ import annotations

from collections.abc import Callable

from app.errors import PoolerFailed
from domain.telemetry import LogTarget, TelemetryFacts, Told


class MemoryObservers:
    """The observers of an application. A test relates them, and lets them answer."""

    def __init__(self) -> None:
        self.loki: tuple[LogTarget, ...] = ()
        self.answers: tuple[str, ...] = ()
        # The endpoint of each relation, by its number.
        self.relations: dict[int, str] = {}
        # What each relation was told, by its number.
        self.told: dict[int, Told] = {}
        # The addresses that units told Prometheus.
        self.addresses: dict[str, str] = {}
        self._numbers = 0

    def relate(self, endpoint: str) -> int:
        """Relate an observer, and return the number of the relation."""
        self._numbers += 1
        self.relations[self._numbers] = endpoint
        return self._numbers

    def unrelate(self, number: int) -> None:
        """End a relation, with everything that was written there."""
        endpoint = self.relations.pop(number)
        self.told.pop(number, None)
        if endpoint == "logging":
            self.loki = ()
        if "metrics-endpoint" not in self.relations.values():
            self.addresses.clear()

    def has(self, endpoint: str) -> bool:
        """Return whether an observer is related at this endpoint."""
        return endpoint in self.relations.values()


class MemoryTelemetry:
    """The port `Telemetry` of a unit."""

    def __init__(
        self,
        observers: MemoryObservers,
        unit: str,
        leads: Callable[[], bool],
        check_leader: Callable[[], None],
    ) -> None:
        self._observers = observers
        self._unit = unit
        self._leads = leads
        self._check_leader = check_leader
        # The Loki units that get the log lines of this unit.
        self.forwarded: tuple[LogTarget, ...] = ()
        # Why the container refuses other targets; '' if it does not.
        self.refuses = ""

    def read(self, recorded: TelemetryFacts) -> TelemetryFacts:
        """Return what the unit sees of the observers. Only the leader reads what applications answer."""
        seen, leads = self._observers, self._leads()
        return TelemetryFacts(
            metrics=recorded.metrics or seen.has("metrics-endpoint"),
            dashboards=leads and seen.has("grafana-dashboard"),
            slo=leads and seen.has("sloth"),
            logs=seen.has("logging"),
            loki=seen.loki if seen.has("logging") else (),
            forwarded=self.forwarded,
            relations=tuple(seen.relations) if leads else (),
            answers=seen.answers if leads else (),
        )

    def tell(self, told: Told) -> None:
        """Let every observer read what the application says."""
        self._check_leader()
        self._observers.told = dict.fromkeys(self._observers.relations, told)

    def announce(self, address: str) -> None:
        """Let Prometheus read the address of this unit."""
        self._observers.addresses[self._unit] = address

    def forward(self, targets: tuple[LogTarget, ...]) -> None:
        """Send log lines to exactly these Loki units."""
        if self.refuses:
            raise PoolerFailed(self.refuses)
        self.forwarded = targets
