"""What Juju keeps for an application, as records: units, relations, options and the leader."""

from __future__ import annotations

from typing import Annotated, Any, Self

import pydantic

from domain.backend import BackendLogin, BackendRelation
from domain.budget import UnitBudget
from domain.certificate_logins import ClientCertificate
from domain.endpoints import Address
from domain.ledger import Ledger
from domain.operations import Operations
from domain.plan import Plan, Serving
from domain.telemetry import TelemetryFacts
from domain.tls import Certificate, UnitCertificates
from domain.users import AuthMaterial, Offer, username_of
from domain.value import number_of


class NotLeader(Exception):
    """A unit that does not lead tried to write for the application."""


class StoredModel(pydantic.BaseModel):
    """A part of the state. Its fields can be assigned, and every unit reads the new value."""

    model_config = pydantic.ConfigDict(extra="forbid")


# The number in the name of a unit is the number of its directory, too.
UnitName = Annotated[str, pydantic.Field(pattern=r"^[a-z0-9-]{1,60}/(0|[1-9][0-9]{0,8})$")]


class Answer(StoredModel):
    """What a unit writes in its own databag for a client."""

    told: Offer
    password: pydantic.SecretStr
    # The user of this password; '' for the first name of the client.
    username: str = ""


class UnitRecord(StoredModel):
    """What a unit tells the other units."""

    address: Address
    serving: Serving | None = None
    stake: UnitBudget = UnitBudget()
    operations: Operations = Operations()
    # Whether the unit has announced that it is being removed.
    leaving: bool = False
    # Whether the unit is being removed, also before it has announced that.
    dying: bool = False
    # Remote units and relations that a unit that is being removed does not see any more: names of other
    # units, `servers` (of PostgreSQL), `backend`, and `client <number>`. See adapters.local.departure.
    unseen: frozenset[str] = frozenset()
    # The certificates of the unit for clients.
    certificates: UnitCertificates = UnitCertificates()
    # What this unit answers to clients at `db` and `db-admin`, by the number of the relation.
    answers: dict[int, Answer] = {}


class ClientRecord(StoredModel):
    """A relation with an application that asks for a database."""

    application: str
    # '' if the application has not asked yet.
    database: str = ""
    # Separated by commas, as the application wrote them.
    roles: str = ""
    # `db` or `db-admin`, where only a client in memory is related; '' for `database`.
    endpoint: str = ""
    extensions: str = ""
    # A certificate by which the application logs in, which only a client in memory gives.
    certificate: ClientCertificate | None = None
    # What was published to the application; None if nothing was.
    told: Offer | None = None
    password: pydantic.SecretStr | None = None
    # The user of this password; '' for the first name of the client.
    username: str = ""

    def user(self, number: int) -> str:
        """Return the user that the application of relation `number` was told, or will be told first."""
        return self.username or username_of(number)


class Model(StoredModel):
    """The state that all units of an application share."""

    application: str = "pgbouncer"
    # Tells the roles of this state from those of another state in the same PostgreSQL; '' in a state of an earlier
    # release.
    identity: str = ""
    options: dict[str, Any] = {}
    units: dict[UnitName, UnitRecord] = {}
    # The name of a unit; '' if there is no unit.
    leader: str = ""
    leader_address: str = ""
    plan: Plan | None = None
    ledger: Ledger = Ledger()
    auth: AuthMaterial | None = None
    clients: dict[int, ClientRecord] = {}
    # The number of the newest relation. No number is used twice.
    relations: int = 0
    backend: BackendRelation = BackendRelation()
    # Authorities that the operator gave beside those of the backend.
    received_authorities: tuple[Certificate, ...] = ()
    # The relations with observers.
    telemetry: TelemetryFacts = TelemetryFacts()
    # The name and the ports of the Service, on a platform that has a Service.
    service_host: str = ""
    service_ports: tuple[int, ...] = ()

    @pydantic.model_validator(mode="after")
    def _is_led_by_a_unit(self) -> Self:
        if self.leader not in (self.units or {""}):
            raise ValueError("the leader is no unit")
        return self

    def add_unit(self, address: str) -> str:
        """Add a unit, which leads if it is the first, and return its name."""
        numbers = [number_of(name) for name in self.units]
        name = f"{self.application}/{max(numbers, default=-1) + 1}"
        self.units[name] = UnitRecord(address=address)
        self.leader = self.leader or name
        return name

    def remove_unit(self, name: str) -> None:
        """Remove a unit; if it was the leader, another unit leads."""
        del self.units[name]
        if self.leader == name:
            self.leader = next(iter(self.units), "")

    def relate(
        self,
        application: str,
        database: str,
        roles: str = "",
        *,
        endpoint: str = "",
        extensions: str = "",
    ) -> int:
        """Add a relation with an application that asks for a database, and return its number."""
        self.relations += 1
        self.clients[self.relations] = ClientRecord(
            application=application,
            database=database,
            roles=roles,
            endpoint=endpoint,
            extensions=extensions,
        )
        return self.relations

    def check_leader(self, unit: str) -> None:
        """Raise NotLeader unless this unit leads."""
        if unit != self.leader:
            raise NotLeader(f"{unit} does not lead")


def related(credentials: BackendLogin | None, problem: str = "") -> BackendRelation:
    """Return a relation with a PostgreSQL that has a unit, and has answered with these credentials."""
    return BackendRelation(related=True, present=True, credentials=credentials, problem=problem)
