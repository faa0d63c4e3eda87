"""The ports that write to the state that all units share. What Juju lets only a leader write raises NotLeader."""

from __future__ import annotations

from collections.abc import Callable

import pydantic

from adapters.local.model import Answer, Model
from domain.budget import UnitBudget
from domain.exporters import ExporterChange, ExporterProgram
from domain.facts import LegacyClient
from domain.ledger import Ledger
from domain.operations import Operations
from domain.plan import Plan, Serving
from domain.refresh import Decide, RollingUpdate
from domain.service import Service, ServiceState, UnitNode
from domain.settings import RotationPeriod
from domain.telemetry import LogTarget, Told
from domain.tls import CertificateNames, ServedPair
from domain.users import AccessRequest, AuthMaterial, Grant, Login, Offer
from domain.value import number_of


class _LocalPort:
    def __init__(self, model: Model, unit: str) -> None:
        self._model = model
        self._unit = unit


class LocalPeers(_LocalPort):
    """The port `Peers`."""

    def share(self, plan: Plan) -> None:
        """Let all units read this plan."""
        self._model.check_leader(self._unit)
        self._model.plan = plan

    def record(self, ledger: Ledger) -> None:
        """Keep the ledger for the next leader."""
        self._model.check_leader(self._unit)
        self._model.ledger = ledger

    def name_leader(self, address: str) -> None:
        """Let all units read the address of the leader."""
        self._model.check_leader(self._unit)
        self._model.leader_address = address

    def announce(self, address: str, serving: Serving | None, budget: UnitBudget) -> None:
        """Let all units read the address of this unit, what it serves, and its server connections."""
        me = self._model.units[self._unit]
        me.address, me.serving, me.stake = address, serving, budget

    def report(self, operations: Operations) -> None:
        """Let all units read what this unit has done of what an operator asks."""
        self._model.units[self._unit].operations = operations


class LocalSecrets(_LocalPort):
    """The port `Secrets`: the passwords of PgBouncer's own users."""

    def store(self, auth: AuthMaterial) -> None:
        """Let all units read these passwords."""
        self._model.check_leader(self._unit)
        self._model.auth = auth

    def forget(self) -> None:
        """Remove the passwords."""
        self._model.check_leader(self._unit)
        self._model.auth = None

    def publish_console(self, auth: AuthMaterial) -> str:
        """Return where the login is kept: the state of the application has it."""
        self._model.check_leader(self._unit)
        return "state"

    def withdraw_console(self) -> None:
        """Do nothing: no secret has the login."""
        self._model.check_leader(self._unit)

    def ask_to_rotate(self, period: RotationPeriod) -> None:
        """Do nothing: no process of this machine waits for the end of a period."""
        self._model.check_leader(self._unit)


class LocalBackend(_LocalPort):
    """The port `Backend`, where the server is given and no charm has to be asked."""

    def request(self) -> None:
        """Note the request."""
        self._model.check_leader(self._unit)
        self._model.backend = self._model.backend.requesting()


class LocalClients(_LocalPort):
    """The port `Clients`: what each application can read."""

    def password(self, request: AccessRequest) -> pydantic.SecretStr | None:
        """Return the password that was published to a client with its present name; None if none was."""
        record = self._model.clients.get(request.relation_id)
        if record is None or (record.username or request.first_username) != request.username:
            return None
        return record.password

    def knows(self, request: AccessRequest) -> bool:
        """Return whether the record of a client has a password for its present name."""
        return self.password(request) is not None

    def publish(
        self,
        request: AccessRequest,
        offer: Offer,
        credentials: Login | None,
        *,
        granted: bool,
    ) -> None:
        """Let a client read how to connect; without credentials its password stays.

        The answer of this platform does not repeat the request, whether that was `granted` or not.
        """
        self._model.check_leader(self._unit)
        record = self._model.clients[request.relation_id]
        record.told = offer
        if credentials:
            record.password, record.username = credentials.password, credentials.username

    def withdraw(self, request: AccessRequest) -> None:
        """Remove everything that was published to a client, with the answer of this unit."""
        self._model.check_leader(self._unit)
        number, me = request.relation_id, self._model.units[self._unit]
        record = self._model.clients[number]
        record.told = record.password = None
        record.username = ""
        me.answers = {other: answer for other, answer in me.answers.items() if other != number}

    def forget(self, grant: Grant) -> None:
        """Do nothing: the record of a client has everything that was published, and is removed with it."""
        self._model.check_leader(self._unit)

    def repeat(self, client: LegacyClient, *, granted: bool) -> None:
        """Let a client read the answer of this unit, or remove it."""
        number, me = client.request.relation_id, self._model.units[self._unit]
        record = self._model.clients[number]
        if not granted and number not in me.answers:
            return
        answers = {other: answer for other, answer in me.answers.items() if other != number}
        if record.told and record.password:
            answers[number] = Answer(
                told=record.told, password=record.password, username=record.username
            )
        me.answers = answers


class LocalCertificates(_LocalPort):
    """The port `Certificates`. The record of the unit has the request and the pairs.

    `save` writes the records at once: a process must not serve a pair that a killed command has lost.
    """

    def __init__(self, model: Model, unit: str, save: Callable[[], None] | None = None) -> None:
        super().__init__(model, unit)
        self._save = save

    def request(self, names: CertificateNames) -> None:
        """Note the names of the request."""
        me = self._model.units[self._unit]
        me.certificates = me.certificates.requesting(names)

    def rotate(self, names: CertificateNames, key: pydantic.SecretStr | None) -> None:
        """Note the names of the request; no key is kept beside that of the pair."""
        self.request(names)

    def keep(self, pair: ServedPair) -> None:
        """Keep a pair in place of the pair before."""
        me = self._model.units[self._unit]
        me.certificates = me.certificates.keeping(pair)
        if self._save:
            self._save()

    def discard(self) -> None:
        """Remove the pair that is kept."""
        me = self._model.units[self._unit]
        me.certificates = me.certificates.keeping(None)

    def receive(self) -> None:
        """Do nothing: the record of the application has the authorities that the operator gave."""
        self._model.check_leader(self._unit)


class LocalTelemetry(_LocalPort):
    """The port `Telemetry`, where no observer is related: nothing is told."""

    def tell(self, told: Told) -> None:
        """Do nothing but check that this unit leads."""
        self._model.check_leader(self._unit)

    def announce(self, address: str) -> None:
        """Do nothing."""

    def forward(self, targets: tuple[LogTarget, ...]) -> None:
        """Do nothing: the log of each process is a file."""


class LocalDepartures(_LocalPort):
    """The port `Departures`."""

    def flag(self) -> bool:
        """Let all units read that this unit is being removed; return whether they could not read it yet."""
        me = self._model.units[self._unit]
        changed, me.leaving = not me.leaving, True
        return changed

    def leaves(self) -> bool:
        """Return whether this unit is being removed."""
        return self._model.units[self._unit].dying


class LocalExposure(_LocalPort):
    """The port `Exposure`, where clients reach each unit by its address: nothing is exposed."""

    def expose(self, service: Service) -> ServiceState:
        """Note the ports of the Service."""
        self._model.check_leader(self._unit)
        self._model.service_ports = service.ports
        return ServiceState(host=self._model.service_host)

    def nodes(self) -> tuple[UnitNode, ...]:
        """Return no nodes."""
        return ()

    def protect(self) -> None:
        """Do nothing: nothing stops units on this machine but the operator."""

    def release(self) -> None:
        """Do nothing: there is no other Service."""


class LocalRollout(_LocalPort):
    """The port `Rollout`, where the operator replaces the code of all units at once."""

    def adjust(self, decide: Decide, seconds: float = 2.0) -> RollingUpdate:
        """Return that no refresh is under way."""
        return RollingUpdate(number=number_of(self._unit), replicas=len(self._model.units))


class LocalExporters:
    """The port `Exporters`, where no relation asks for exporters."""

    def program(self) -> ExporterProgram:
        """Return that there is no exporter."""
        return ExporterProgram()

    def apply(self, change: ExporterChange) -> None:
        """Do nothing: there is no exporter."""


class LocalReminder:
    """The port `Reminder`: the loop of the command runs the hooks of a unit that asks again."""

    def remind(self, topic: str) -> bool:
        """Return True: the loop runs the unit again, whatever is missing."""
        return True

    def stop(self) -> None:
        """Do nothing: the loop ends when no unit waits."""


class NothingReplaced:
    """The port `Replaced` where no other charm ran before."""

    def answer(self, digest: str, auth_user: str, state: str) -> None:
        """Do nothing, because there is no other charm."""

    def forget_unit(self) -> None:
        """Remove nothing."""

    def forget_application(self) -> None:
        """Remove nothing."""
