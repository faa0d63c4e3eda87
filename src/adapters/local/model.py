"""What would Juju keep, where there is none? One application's shared state, and the ports over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Self

import pydantic

from domain.budget import UnitBudget
from domain.facts import (
    BackendLogin,
    BackendRelation,
    Client,
    Container,
    Facts,
    Ledger,
    Peer,
)
from domain.instances import Layout
from domain.leadership import misses_something
from domain.pools import Address, Plan, Serving
from domain.settings import settings_from
from domain.users import (
    AccessRequest,
    AuthMaterial,
    Grant,
    Login,
    Offer,
    Refusal,
    request_problem,
)
from domain.value import number_of


class NotLeader(Exception):
    """A unit that does not lead tried to speak for the application."""


class Record(pydantic.BaseModel):
    """Part of the state; what is assigned to it is what the next look finds."""

    model_config = pydantic.ConfigDict(extra="forbid")


# Its number is that of its directory.
UnitName = Annotated[str, pydantic.Field(pattern=r"^[a-z0-9-]{1,60}/(0|[1-9][0-9]{0,8})$")]


class UnitRecord(Record):
    """One unit, as the others see it."""

    address: Address
    serving: Serving | None = None
    stake: UnitBudget = UnitBudget()
    leaving: bool = False
    dying: bool = False  #: the unit is being removed, also before it has announced that
    #: Remote units and relations that a unit that is being removed does not see any more: names of other
    #: units, `servers` (of PostgreSQL), `backend`, and `client <number>`. See adapters.local.departure.
    unseen: frozenset[str] = frozenset()


class ClientRecord(Record):
    """One application that asks for a database, and what it was told."""

    application: str
    database: str = ""
    roles: str = ""  #: separated by commas, as the application wrote them
    told: Offer | None = None
    password: pydantic.SecretStr | None = None


class Model(Record):
    """All that the units of one application share."""

    application: str = "pgbouncer"
    options: dict[str, Any] = {}
    units: dict[UnitName, UnitRecord] = {}
    leader: str = ""  #: one of the units, if there are any
    leader_address: str = ""
    plan: Plan | None = None
    ledger: Ledger = Ledger()
    auth: AuthMaterial | None = None
    clients: dict[int, ClientRecord] = {}
    relations: int = 0  #: numbers given so far
    backend: BackendRelation = BackendRelation()
    service_host: str = ""
    service_ports: tuple[int, ...] = ()  #: where the Service leads, for a platform that has one

    @pydantic.model_validator(mode="after")
    def _led_by_one_of_them(self) -> Self:
        if self.leader not in (self.units or {""}):
            raise ValueError("the leader is no unit")
        return self

    def add_unit(self, address: str) -> str:
        """A new unit, which leads if nobody does; returns its name."""
        numbers = [number_of(name) for name in self.units]
        name = f"{self.application}/{max(numbers, default=-1) + 1}"
        self.units[name] = UnitRecord(address=address)
        self.leader = self.leader or name
        return name

    def remove_unit(self, name: str) -> None:
        """The unit is gone; another leads if it did."""
        del self.units[name]
        if self.leader == name:
            self.leader = next(iter(self.units), "")

    def relate(self, application: str, database: str, roles: str = "") -> int:
        """An application asks for a database; returns the number of the relation."""
        self.relations += 1
        self.clients[self.relations] = ClientRecord(
            application=application, database=database, roles=roles
        )
        return self.relations

    def speak_for_all(self, unit: str) -> None:
        """Raises NotLeader unless this unit leads."""
        if unit != self.leader:
            raise NotLeader(f"{unit} does not lead")


class LocalFacts:
    """The state as one unit sees it."""

    def __init__(
        self, model: Model, unit: str, layout: Layout, container: Callable[[], Container]
    ) -> None:
        self._model = model
        self._unit = unit
        self._layout = layout
        self._container = container

    def read(self) -> Facts:
        """Take one frozen look."""
        facts = self._look()
        if facts.leader and (facts.leaving or misses_something(facts)):
            units = self._model.units
            update = {
                "leaving": facts.leaving or units[self._unit].dying,
                "last_unit": all(unit.dying for unit in units.values()),
            }
            facts = facts.model_copy(update=update)
        return facts

    def _look(self) -> Facts:
        model, leads = self._model, self._model.leader == self._unit
        me = model.units[self._unit]
        settings, problems = settings_from(model.options)
        clients = {
            number: record
            for number, record in model.clients.items()
            if f"client {number}" not in me.unseen
        }
        asked = [_asked(number, record) for number, record in clients.items()]
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
            stake=me.stake,
            peers=self._peers() if leads else (),
            backend=self._backend(me),
            clients=tuple(one for one in asked if isinstance(one, Client)) if leads else (),
            refusals=tuple(one for one in asked if isinstance(one, Refusal)) if leads else (),
            silent=frozenset(n for n, record in clients.items() if not record.database),
            service_host=model.service_host,
            configure_command="pooler config",
        )

    def _backend(self, me: UnitRecord) -> BackendRelation:
        if "backend" in me.unseen:
            return BackendRelation()
        backend = self._model.backend
        return backend.model_copy(update={"present": False}) if "servers" in me.unseen else backend

    def _peers(self) -> tuple[Peer, ...]:
        unseen = self._model.units[self._unit].unseen
        return tuple(
            Peer(
                name=name,
                address=unit.address,
                leaving=unit.leaving,
                serving=unit.serving,
                stake=unit.stake,
            )
            for name, unit in self._model.units.items()
            if name != self._unit and name not in unseen
        )


def _asked(number: int, record: ClientRecord) -> Client | Refusal | None:
    roles = tuple(filter(None, (role.strip().lower() for role in record.roles.split(","))))
    if not record.database:
        return None
    if problem := request_problem(record.database, roles):
        return Refusal(relation_id=number, application=record.application, reason=problem)
    request = AccessRequest(
        relation_id=number, application=record.application, database=record.database, roles=roles
    )
    return Client(request=request, told=record.told)


class LocalPeers:
    """What one unit tells the others."""

    def __init__(self, model: Model, unit: str) -> None:
        self._model = model
        self._unit = unit

    def share(self, plan: Plan) -> bool:
        """All units can read what to do."""
        self._model.speak_for_all(self._unit)
        changed = self._model.plan != plan
        self._model.plan = plan
        return changed

    def record(self, ledger: Ledger) -> bool:
        """The next leader can read what was made."""
        self._model.speak_for_all(self._unit)
        changed = self._model.ledger != ledger
        self._model.ledger = ledger
        return changed

    def name_leader(self, address: str) -> bool:
        """All units can read where the leader is."""
        self._model.speak_for_all(self._unit)
        changed = self._model.leader_address != address
        self._model.leader_address = address
        return changed

    def announce(self, address: str, serving: Serving | None, stake: UnitBudget) -> bool:
        """All units can read where this one is, what it serves, and its part of the connections."""
        me = self._model.units[self._unit]
        changed = (me.address, me.serving, me.stake) != (address, serving, stake)
        me.address, me.serving, me.stake = address, serving, stake
        return changed


class LocalSecrets:
    """The passwords of PgBouncer's own users."""

    def __init__(self, model: Model, unit: str) -> None:
        self._model = model
        self._unit = unit

    def store(self, auth: AuthMaterial) -> bool:
        """All units can read them."""
        self._model.speak_for_all(self._unit)
        changed = self._model.auth != auth
        self._model.auth = auth
        return changed

    def forget(self) -> bool:
        """Nobody can read them any more."""
        self._model.speak_for_all(self._unit)
        had = self._model.auth is not None
        self._model.auth = None
        return had


class LocalBackend:
    """The request to PostgreSQL, where nobody has to be asked."""

    def __init__(self, model: Model, unit: str) -> None:
        self._model = model
        self._unit = unit

    def request(self) -> bool:
        """The request stands."""
        self._model.speak_for_all(self._unit)
        changed = not self._model.backend.requested
        self._model.backend = self._model.backend.model_copy(update={"requested": True})
        return changed


class LocalClients:
    """What the applications are told."""

    def __init__(self, model: Model, unit: str) -> None:
        self._model = model
        self._unit = unit

    def password(self, request: AccessRequest) -> pydantic.SecretStr | None:
        """The password that a client was told."""
        record = self._model.clients.get(request.relation_id)
        return record.password if record else None

    def publish(self, request: AccessRequest, offer: Offer, credentials: Login | None) -> bool:
        """The client can read how to connect."""
        self._model.speak_for_all(self._unit)
        record = self._model.clients[request.relation_id]
        before = (record.told, record.password)
        record.told = offer
        record.password = credentials.password if credentials else record.password
        return before != (record.told, record.password)

    def withdraw(self, request: AccessRequest) -> bool:
        """The client can read nothing of it any more."""
        self._model.speak_for_all(self._unit)
        record = self._model.clients[request.relation_id]
        had = record.told is not None
        record.told = record.password = None
        return had

    def forget(self, grant: Grant) -> bool:
        """What was told stands in the relation, and went with it."""
        self._model.speak_for_all(self._unit)
        return False


class LocalDepartures:
    """The note that a unit is leaving."""

    def __init__(self, model: Model, unit: str) -> None:
        self._model = model
        self._unit = unit

    def flag(self) -> bool:
        """Every unit can read that this one is leaving."""
        me = self._model.units[self._unit]
        changed, me.leaving = not me.leaving, True
        return changed


class LocalExposure:
    """On one machine units are reached one by one; a name for all of them has to be pretended."""

    def __init__(self, model: Model, unit: str) -> None:
        self._model = model
        self._unit = unit

    def expose(self, ports: tuple[int, ...]) -> bool:
        """The name leads to these ports."""
        self._model.speak_for_all(self._unit)
        changed = self._model.service_ports != ports
        self._model.service_ports = ports
        return changed


def related(credentials: BackendLogin | None, problem: str = "") -> BackendRelation:
    """A backend that is there, with what it told so far."""
    return BackendRelation(related=True, present=True, credentials=credentials, problem=problem)
