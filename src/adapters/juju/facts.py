"""Read the facts of a unit from Juju and from its container."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import ops
import pydantic
from ops import hookcmds

from adapters.juju import databags
from adapters.juju.certificates import JujuCertificates
from adapters.juju.legacy import JujuLegacyClients
from adapters.juju.names import (
    BACKEND,
    CLIENTS,
    LEAVING,
    PEERS,
    REFERENCE_APP_KEYS,
    REFERENCE_UNIT_KEYS,
)
from adapters.juju.peers import REQUEST
from adapters.juju.secrets import JujuSecrets, content_of, secret_id
from adapters.juju.state import JujuState
from adapters.juju.telemetry import JujuTelemetry
from domain import sentences
from domain.backend import BackendLogin, BackendRelation
from domain.budget import UnitBudget
from domain.endpoints import address_in, endpoints_in
from domain.facts import Container, Facts, Peer
from domain.instances import Layout
from domain.leadership import misses_something
from domain.ledger import Ledger
from domain.operations import Operations
from domain.plan import Plan, Serving
from domain.rotating import with_names
from domain.settings import Settings, settings_from
from domain.system_users import SystemUsers, system_users_in
from domain.users import Grant

if TYPE_CHECKING:
    from adapters.connections.authorities import Authorities
    from domain.reference import Reference
    from domain.tls import Certificate


class JujuFacts:
    """Reads options, databags, secrets, leadership and the container in a single pass."""

    def __init__(
        self,
        charm: ops.CharmBase,
        state: JujuState,
        container: Callable[[], Container],
        secrets: JujuSecrets,
        certificates: JujuCertificates,
        layout: Layout,
        service_host: str,
        legacy: JujuLegacyClients,
        telemetry: JujuTelemetry,
    ) -> None:
        self._charm = charm
        self._state = state
        self._container = container
        self._secrets = secrets
        self._certificates = certificates
        self._layout = layout
        self._service_host = service_host
        self._legacy = legacy
        self._telemetry = telemetry

    def read(self) -> Facts:
        """Return the facts. Only the leader reads the databags of clients.

        Juju is asked which units are being removed only where the answer matters, because `goal-state`
        is a call of a hook tool.
        """
        facts = _with_roots(self._read())
        if facts.reference:
            from domain.replacement import following

            facts = following(facts)
        facts = with_names(facts)
        if facts.awaits_certificate_logins:
            self._state.incomparable()  # The wait ends without an event.
        if facts.leader and (facts.leaving or misses_something(facts)):
            facts = facts.with_survivors(self._alive())
        return facts

    def _alive(self) -> frozenset[str]:
        """Return the units of the application that are not being removed."""
        units = hookcmds.goal_state().units
        return frozenset(name for name, goal in units.items() if goal.status != "dying")

    def _read(self) -> Facts:
        charm, state, leader = self._charm, self._state, self._state.is_leader()
        peers = state.relation(PEERS)
        shared: databags.Databag = state.app_databag(peers) if peers else {}
        mine: databags.Databag = state.unit_databag(peers) if peers else {}
        reference = self._reference(peers, shared, mine)
        # A unit decides by itself while no leader shares a plan that it can read.
        alone = reference is not None and reference.shared
        settings, problems = settings_from(state.options()) if leader or alone else (None, ())
        plan = databags.read_peer_value(shared, "plan", Plan)
        ledger = databags.read_peer_value(shared, "ledger", Ledger)
        auth = self._secrets.read()
        if auth is None and plan and plan.upstream:
            # No event tells that a secret becomes readable. Before there is an upstream no unit needs the
            # secret, and the plan in which the upstream appears is compared.
            state.incomparable()
        unreadable = [
            key
            for key, value in (("plan", plan), ("ledger", ledger))
            if shared.get(key) and not value
        ]
        # A leader completes a secret in which something is missing.
        if self._secrets.unreadable and not leader and not alone:
            unreadable.append("secret")
        backend = self._backend(reads=leader or alone)
        known = backend.credentials or (plan.upstream if plan else None)
        version = known.version if known else ""
        grants = ledger.grants if ledger else ()
        legacy = tuple(self._legacy.relations(version, grants, leader=leader))
        requests = tuple(self._requests(grants)) if leader else ()
        if leader:
            requests += tuple((known.relation_id, known.parsed) for known in legacy)
        users, users_problem = self._system_users(
            settings or (plan and plan.settings), leader=leader
        )
        certificates, received = self._certificates.read(former=alone)
        container = self._container()
        return Facts(
            unit=charm.unit.name,
            address=self._address(mine),
            leader=leader,
            leaving=mine.get(LEAVING) == "true",
            settings=settings,
            settings_problems=problems,
            layout=self._layout,
            container=container,
            leader_address=shared.get("leader", ""),
            plan=plan,
            auth=auth,
            system_users=users,
            system_users_problem=users_problem,
            ledger=ledger or Ledger(),
            unreadable=tuple(unreadable),
            serving=databags.read_peer_value(mine, "serving", Serving),
            budget=databags.read_peer_value(mine, "stake", UnitBudget) or UnitBudget(),
            operations=_operations(mine),
            peers=tuple(self._peers(peers)) if peers and (leader or alone) else (),
            backend=backend,
            clients=tuple(client for _, parsed in requests for client in parsed.clients),
            refusals=tuple(refusal for _, parsed in requests for refusal in parsed.refusals),
            relations_without_request=frozenset(
                relation_id for relation_id, parsed in requests if parsed.silent
            ),
            legacy=tuple(known.client for known in legacy if known.client),
            service_host=self._service_host,
            configure_command=f"juju config {charm.app.name}",
            certificates=certificates,
            received_authorities=received,
            now=time.time(),
            telemetry=self._telemetry.read(leader=leader, reachable=container.reachable),
            reference=reference,
        )

    def _reference(
        self, peers: ops.Relation | None, shared: databags.Databag, mine: databags.Databag
    ) -> Reference | None:
        """Return what is left of the charm that this charm replaces; None if there is nothing."""
        if peers is None or not (
            any(key in shared for key in REFERENCE_APP_KEYS)
            or any(key in mine for key in REFERENCE_UNIT_KEYS)
        ):
            return None
        # Imported here, because most units never run beside that charm.
        from adapters.juju import reference

        return reference.read(self._charm, self._state, peers, shared, mine)

    def _address(self, mine: databags.Databag) -> str:
        """Return the address of the pod; the address that Juju writes to databags may be that of a Service.

        While the pod has the address that this unit announced, Juju is not asked.
        """
        announced = address_in(mine.get("address", ""))
        if announced and _is_own(announced):
            return announced
        binding = self._charm.model.get_binding(PEERS)
        address = binding.network.bind_address if binding else None
        return address_in(str(address)) if address else ""

    def _peers(self, relation: ops.Relation) -> Iterable[Peer]:
        for unit in self._state.units(relation):
            databag = self._state.databag(relation, unit)
            yield Peer(
                name=unit.name,
                address=address_in(databag.get("address", "")),
                leaving=databag.get(LEAVING) == "true",
                serving=databags.read_peer_value(databag, "serving", Serving),
                budget=databags.read_peer_value(databag, "stake", UnitBudget) or UnitBudget(),
                operations=_operations(databag),
            )

    def _backend(self, *, reads: bool) -> BackendRelation:
        relation = self._state.relation(BACKEND)
        if relation is None:
            return BackendRelation()
        present = bool(self._state.units(relation))
        if not reads:
            return BackendRelation(related=True, present=present)
        # A follower may not read the databag of its own application.
        requested = self._state.is_leader() and (
            self._state.app_databag(relation).get("database") == REQUEST["database"]
        )
        try:
            credentials = self._credentials(relation)
        except ValueError as error:
            text = f"backend-database: {error}"
            return BackendRelation(
                related=True, present=present, requested=requested, problem=text
            )
        return BackendRelation(
            related=True, present=present, requested=requested, credentials=credentials
        )

    def _credentials(self, relation: ops.Relation) -> BackendLogin:
        """Return what the PostgreSQL charm wrote. Raises ValueError with what is missing or wrong."""
        fields = databags.size_checked(self._state.databag(relation, relation.app))
        if uri := fields.get("secret-user"):
            fields |= self._secret(uri)
        if uri := fields.get("secret-tls"):
            fields |= self._secret(uri)
        needed = ("username", "password", "endpoints")
        if missing := [key for key in needed if not fields.get(key)]:
            raise ValueError(f"{relation.app.name} has not given {', '.join(missing)} yet")
        for key in ("username", "password", "database", "version"):
            databags.check_line(fields, key)
        endpoints = endpoints_in(fields["endpoints"])
        if not endpoints:
            raise ValueError(f"{relation.app.name} has not given endpoints yet")
        tls = databags.switch(fields, "tls")
        told = databags.certificates(fields, "tls-ca") if tls else ()
        found = _authorities(told) if told else None
        return BackendLogin(
            user=fields["username"],
            password=pydantic.SecretStr(fields["password"]),
            database=fields.get("database") or REQUEST["database"],
            endpoints=endpoints,
            read_only=endpoints_in(fields.get("read-only-endpoints", "")),
            version=fields.get("version", ""),
            tls=tls,
            authorities=found.certificates if found else (),
            rooted=found.rooted if found else False,
        )

    def _secret(self, uri: str) -> dict[str, str]:
        """Return the content of a secret of another application. Raises ValueError.

        The secret gets no label: Juju 3 refuses a label that another secret of this unit has or had.
        """
        content = content_of(uri=uri)
        if content is None:
            self._state.incomparable()  # No event tells that a secret becomes readable.
            raise ValueError("its secret is not readable yet")
        return content

    def _system_users(
        self, settings: Settings | None, *, leader: bool
    ) -> tuple[SystemUsers | None, str]:
        """Return the passwords that the operator chose; None, and a sentence, if they cannot be read."""
        if not leader or settings is None:
            return None, ""
        if not (uri := settings.system_users):
            return SystemUsers(), ""
        application = self._charm.app.name
        content = content_of(uri=uri)
        if content is None:
            self._state.incomparable()  # No event tells that a secret becomes readable.
            kind = sentences.SYSTEM_USERS_UNREADABLE
            return None, kind.text(secret=uri, application=application)
        try:
            return system_users_in(content), ""
        except ValueError as error:
            return None, sentences.SYSTEM_USERS_INVALID.text(secret=uri, reason=error)

    def _requests(self, grants: Iterable[Grant]) -> Iterable[tuple[int, databags.ParsedRelation]]:
        for relation in self._state.relations(CLIENTS):
            remote = self._state.databag(relation, relation.app)
            local = self._state.app_databag(relation)
            parsed = databags.asked(
                relation.id, relation.app.name, remote, local, self._client_secret, grants
            )
            for client in parsed.clients:
                if client.request.certificate and (ends := client.request.certificate.ends):
                    self._state.comparable_before(ends)
            yield relation.id, parsed

    def _client_secret(self, uri: str) -> dict[str, str]:
        """Return a secret that a client gave. Raises ValueError, also for a secret of this application."""
        for relation in self._state.relations(CLIENTS):
            given = databags.given_secrets(self._state.app_databag(relation))
            if secret_id(uri) in map(secret_id, given):
                raise ValueError("its secret belongs to this application")
        return self._secret(uri)


def _is_own(address: str) -> bool:
    """Return whether an interface of this pod has an IP address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        # It is no name, which bind() would look up.
        socket.inet_pton(family, address)
        with socket.socket(family, socket.SOCK_DGRAM) as endpoint:
            endpoint.bind((address, 0))
    except OSError:
        return False
    return True


def _operations(databag: databags.Databag) -> Operations:
    return databags.read_peer_value(databag, "operations", Operations) or Operations()


def _with_roots(facts: Facts) -> Facts:
    """Return the facts with the authorities that the operator gave and that lead to the root of PostgreSQL's."""
    login = facts.backend.credentials
    if login is None or not login.authorities or not facts.received_authorities:
        return facts
    found = _authorities(login.authorities, facts.received_authorities)
    return facts.with_backend(login.with_authorities(found.certificates, rooted=found.rooted))


def _authorities(
    told: tuple[Certificate, ...], given: tuple[Certificate, ...] = ()
) -> Authorities:
    # Imported here, because only a server that offers TLS needs it.
    from adapters.connections.authorities import authorities

    try:
        return authorities(told, given)
    except ValueError as error:
        raise ValueError(f"tls-ca: {error}") from None
