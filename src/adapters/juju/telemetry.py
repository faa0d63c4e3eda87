"""The relations with observers: metrics-endpoint, grafana-dashboard, logging and sloth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from adapters.juju import observer_answers
from adapters.juju.names import DASHBOARDS, LOGGING, METRICS, OBSERVERS, SLO
from adapters.juju.topology import Topology, bracketed
from domain import sentences
from domain.telemetry import LogTarget, TelemetryFacts, Told

if TYPE_CHECKING:
    from collections.abc import Iterator

    import ops

    from adapters.juju.state import JujuState

# Loki has fewer units.
_MOST_TARGETS = 32


class Forwarding(Protocol):
    """The log targets of the container."""

    def read(self) -> tuple[LogTarget, ...]:
        """Return the targets that get log lines, by name."""
        ...

    def send(self, targets: tuple[LogTarget, ...]) -> None:
        """Send log lines to exactly these targets. Raises PoolerFailed."""
        ...


class JujuTelemetry:
    """Reads and writes the databags of observers. `host` is the name of this unit in the cluster."""

    def __init__(
        self,
        unit: str,
        state: JujuState,
        topology: Topology,
        forwarding: Forwarding,
        host: str,
    ) -> None:
        self._unit = unit
        self._state = state
        self._topology = topology
        self._forwarding = forwarding
        self._host = host

    def read(self, *, leader: bool, reachable: bool) -> TelemetryFacts:
        """Return what this unit sees of its observers. Only the leader reads what applications answer.

        `reachable` says whether the container has answered in this hook.
        """
        # A follower has nothing to do with Grafana and Sloth.
        endpoints = OBSERVERS if leader else (METRICS, LOGGING)
        found = {endpoint: self._relations(endpoint) for endpoint in endpoints}
        answers: list[str] = []
        loki = tuple(self._loki(found[LOGGING], answers))
        if leader:
            for endpoint, relations in found.items():
                for relation in relations:
                    answers += self._refusals(endpoint, relation)
        return TelemetryFacts(
            metrics=bool(found[METRICS]),
            dashboards=bool(found.get(DASHBOARDS)),
            slo=bool(found.get(SLO)),
            logs=bool(found[LOGGING]),
            loki=loki,
            forwarded=self._forwarding.read() if reachable else (),
            labels=tuple(self._topology.matchers.items()) if leader else (),
            relations=tuple(relation.id for relations in found.values() for relation in relations)
            if leader
            else (),
            answers=tuple(answers),
        )

    def tell(self, told: Told) -> None:
        """Write the databags of this application."""
        # Imported here, because most hooks tell nothing, and lzma takes its time.
        from adapters.juju import observer_fields

        for endpoint, fields in (
            (METRICS, observer_fields.of_prometheus),
            (DASHBOARDS, observer_fields.of_grafana),
            (LOGGING, observer_fields.of_loki),
            (SLO, observer_fields.of_sloth),
        ):
            if relations := self._relations(endpoint):
                texts = fields(told, self._topology)
                for relation in relations:
                    self._state.put_for_app(relation, texts)

    def announce(self, address: str) -> None:
        """Write the address and the name of this unit for Prometheus."""
        for relation in self._relations(METRICS):
            fields = {
                "prometheus_scrape_unit_address": bracketed(address),
                "prometheus_scrape_unit_path": "",
                "prometheus_scrape_unit_name": self._unit,
                "prometheus_scrape_unit_fqdn": self._host,
            }
            self._state.put_for_unit(relation, fields)

    def forward(self, targets: tuple[LogTarget, ...]) -> None:
        """Let Pebble send the log lines of the container to these Loki units."""
        self._forwarding.send(targets)

    def _relations(self, endpoint: str) -> list[ops.Relation]:
        # Juju lists relations in no order.
        relations = sorted(self._state.relations(endpoint), key=lambda relation: relation.id)
        for relation in relations:
            # The ledger shows what Juju has kept of what the leader wrote.
            self._state.only_in_its_hooks(relation)
        return relations

    def _loki(self, relations: list[ops.Relation], answers: list[str]) -> Iterator[LogTarget]:
        """Yield the address of each Loki unit, and add sentences about what cannot be used to `answers`."""
        units = [
            (relation, unit) for relation in relations for unit in self._state.units(relation)
        ]
        if len(units) > _MOST_TARGETS:
            reason = f"it has {len(units)} units: the first {_MOST_TARGETS} get log lines"
            answers.append(_unreadable(LOGGING, relations[0].app.name, reason))
        for relation, unit in units[:_MOST_TARGETS]:
            try:
                url = observer_answers.loki_url(self._state.databag(relation, unit))
            except ValueError as error:
                answers.append(_unreadable(LOGGING, unit.name, error))
            else:
                if url:
                    yield LogTarget(name=unit.name, url=url)

    def _refusals(self, endpoint: str, relation: ops.Relation) -> Iterator[str]:
        """Yield a sentence for everything that an observer refuses."""
        application = relation.app.name
        try:
            for what, reason in observer_answers.refusals(
                self._state.databag(relation, relation.app)
            ):
                kind = sentences.REFUSED_BY_OBSERVER
                yield kind.text(
                    endpoint=endpoint, application=application, what=what, reason=reason
                )
        except ValueError as error:
            yield _unreadable(endpoint, application, error)


def _unreadable(endpoint: str, application: str, reason: ValueError | str) -> str:
    kind = sentences.OBSERVER_NOT_READABLE
    return kind.text(endpoint=endpoint, application=application, reason=reason)
