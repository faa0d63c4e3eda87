"""Read the facts of a unit from the state that all units share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from adapters.local.model import ClientRecord, Model, UnitRecord
from domain.backend import BackendRelation
from domain.facts import Client, Container, Facts, LegacyClient, Peer
from domain.instances import Layout
from domain.leadership import misses_something
from domain.legacy import legacy_problem, legacy_roles
from domain.roles import roles_in
from domain.rotating import with_names
from domain.settings import settings_from
from domain.telemetry import TelemetryFacts
from domain.users import AccessRequest, Refusal


class LocalFacts:
    """The facts of a unit. `container` reads the state of its processes.

    `telemetry` returns what the unit sees of its observers, from the record of them.
    """

    def __init__(
        self,
        model: Model,
        unit: str,
        layout: Layout,
        container: Callable[[], Container],
        telemetry: Callable[[TelemetryFacts], TelemetryFacts] = lambda recorded: recorded,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._model = model
        self._unit = unit
        self._layout = layout
        self._container = container
        self._telemetry = telemetry
        self._clock = clock

    def read(self) -> Facts:
        """Return what the unit sees now."""
        facts = with_names(self._facts())
        if facts.leader and (facts.leaving or misses_something(facts)):
            units = self._model.units
            facts = facts.with_survivors([name for name in units if not units[name].dying])
        return facts

    def _facts(self) -> Facts:
        model, leads = self._model, self._model.leader == self._unit
        me = model.units[self._unit]
        settings, problems = settings_from(model.options)
        clients = {
            number: record
            for number, record in model.clients.items()
            if f"client {number}" not in me.unseen
        }
        backend = model.backend.credentials
        version = backend.version if backend else ""
        requests, refusals = list[Client](), list[Refusal]()
        for number, record in clients.items():
            parsed = _parsed(number, record, version)
            if isinstance(parsed, Refusal):
                refusals.append(parsed)
            known = parsed if isinstance(parsed, Client) else self._kept(number, record)
            requests += filter(None, (known,))
        return Facts(
            unit=self._unit,
            address=me.address,
            leader=leads,
            leaving=me.leaving,
            settings=settings if leads else None,
            settings_problems=problems if leads else (),
            layout=self._layout,
            container=self._container(),
            leader_address=model.leader_address,
            plan=model.plan,
            auth=model.auth,
            ledger=model.ledger,
            serving=me.serving,
            budget=me.stake,
            operations=me.operations,
            peers=self._peers() if leads else (),
            backend=self._backend(me),
            clients=tuple(requests) if leads else (),
            refusals=tuple(refusals) if leads else (),
            relations_without_request=frozenset(
                number for number, record in clients.items() if not record.database
            ),
            legacy=tuple(_legacy(requests, clients, me)),
            service_host=model.service_host,
            configure_command="pooler config",
            certificates=me.certificates,
            received_authorities=model.received_authorities,
            telemetry=self._telemetry(model.telemetry),
            now=self._clock(),
        )

    def _kept(self, number: int, record: ClientRecord) -> Client | None:
        """Return a client whose present request is invalid or missing; None if it has no credentials."""
        grants = self._model.ledger.grants
        granted = next((grant for grant in grants if grant.relation_id == number), None)
        if granted is None or record.told is None:
            return None
        request = granted.kept(record.application, record.endpoint)
        return Client(request=request, published=record.told)

    def _backend(self, me: UnitRecord) -> BackendRelation:
        if "backend" in me.unseen:
            return BackendRelation()
        backend = self._model.backend
        return backend.without_servers() if "servers" in me.unseen else backend

    def _peers(self) -> tuple[Peer, ...]:
        unseen = self._model.units[self._unit].unseen
        return tuple(
            Peer(
                name=name,
                address=unit.address,
                leaving=unit.leaving,
                serving=unit.serving,
                budget=unit.stake,
                operations=unit.operations,
            )
            for name, unit in self._model.units.items()
            if name != self._unit and name not in unseen
        )


def _legacy(
    requests: list[Client], clients: Mapping[int, ClientRecord], me: UnitRecord
) -> Iterator[LegacyClient]:
    """Yield the clients at `db` and `db-admin`, also those that have nothing but an answer of this unit."""
    for client in requests:
        if client.request.endpoint:
            yield LegacyClient(request=client.request, shared=client.published is not None)
    asked = {client.request.relation_id for client in requests}
    for number in me.answers.keys() & clients.keys() - asked:
        record = clients[number]
        request = AccessRequest(
            relation_id=number,
            application=record.application,
            database=record.database,
            endpoint=record.endpoint,
            kept=True,
        )
        yield LegacyClient(request=request)


def _parsed(number: int, record: ClientRecord, version: str) -> Client | Refusal | None:
    """Return the request of an application, or why it is refused; None if it has not asked yet."""
    if not record.database:
        return None
    request = AccessRequest(
        relation_id=number,
        application=record.application,
        database=record.database,
        roles=legacy_roles(record.endpoint, roles_in(record.roles), version),
        endpoint=record.endpoint,
        certificate=record.certificate,
    )
    if problem := legacy_problem(request, record.extensions):
        return Refusal(relation_id=number, application=record.application, reason=problem)
    return Client(request=request, published=record.told)
