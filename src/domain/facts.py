"""The facts that a unit sees in a hook: its options, relations, databags, secrets and processes.

A method that returns a changed value is named after what the unit has just done. No other module copies
these values with changes.
"""

from collections.abc import Callable, Collection

from domain.backend import BackendLogin, BackendRelation
from domain.budget import UnitBudget
from domain.capabilities import capabilities
from domain.commands import argument
from domain.container import Container
from domain.instances import Layout
from domain.ledger import Ledger
from domain.operations import Operations
from domain.plan import Plan, Serving
from domain.reference import Reference
from domain.roles import DATABASE_CREATORS
from domain.rotation import Rotation
from domain.settings import Settings
from domain.system_users import SystemUsers
from domain.telemetry import LogTarget, TelemetryFacts
from domain.tls import Certificate, UnitCertificates
from domain.users import AccessRequest, AuthMaterial, Grant, Offer, Refusal, username_of
from domain.value import Value


class Client(Value):
    """The request of a client application, and what was published to it.

    A client with credentials whose present request is invalid or missing has the request that it was granted.
    """

    request: AccessRequest
    # None until the client has credentials.
    published: Offer | None = None

    def publishing(self, offer: Offer) -> "Client":
        """Return this client with this offer."""
        return self.model_copy(update={"published": offer})

    def withdrawing(self) -> "Client":
        """Return this client without an offer."""
        return self.model_copy(update={"published": None})

    def named(self, rotation: Rotation) -> "Client":
        """Return this client with the name that a rotation gives it."""
        return self.model_copy(update={"request": self.request.named(rotation)})


class LegacyClient(Value):
    """A client at `db` or `db-admin`, as every unit sees it, with a request as that of `Client`."""

    request: AccessRequest
    # Whether the leader has shared the credentials of the client with all units.
    shared: bool = False

    def named(self, rotation: Rotation) -> "LegacyClient":
        """Return this client with the name that a rotation gives it."""
        return self.model_copy(update={"request": self.request.named(rotation)})


class Peer(Value):
    """Another unit of the application."""

    name: str
    address: str = ""
    leaving: bool = False
    serving: Serving | None = None
    budget: UnitBudget = UnitBudget()
    operations: Operations = Operations()


class Facts(Value):
    """What this unit saw when the hook began, and what the hook itself has changed since."""

    # E.g. `pgbouncer/0`.
    unit: str
    address: str
    leader: bool
    # This unit is being removed.
    leaving: bool = False
    # Every unit of the application is being removed. Read only by a leader that is being removed.
    last_unit: bool = False
    # None if an option is invalid.
    settings: Settings | None
    settings_problems: tuple[str, ...] = ()
    layout: Layout
    container: Container = Container()
    # The address that the leader last wrote to the peer databag.
    leader_address: str = ""
    # The plan in the peer databag.
    plan: Plan | None = None
    # The plan that the peers know while this hook has shared another; None if they know `plan`. Juju
    # writes the databag when the hook has ended.
    peers_plan: Plan | None = None
    # The users of PgBouncer itself, from the secret that all units can read.
    auth: AuthMaterial | None = None
    # The passwords that the operator chose, as the leader reads them; None if they cannot be read.
    system_users: SystemUsers | None = None
    # Why they cannot be read, as a sentence; '' if they can, or if this unit does not lead.
    system_users_problem: str = ""
    # This hook has stored `auth`, and the peers do not know it yet.
    auth_unshared: bool = False
    ledger: Ledger = Ledger()
    # Values of the leader that this release cannot read: `plan`, `ledger` or `secret`.
    unreadable: tuple[str, ...] = ()
    # What this unit last announced to the peers.
    serving: Serving | None = None
    budget: UnitBudget = UnitBudget()
    # What this unit last reported of what an operator asks.
    operations: Operations = Operations()
    peers: tuple[Peer, ...] = ()
    backend: BackendRelation = BackendRelation()
    # Only the leader reads the relations of clients.
    clients: tuple[Client, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    # Numbers of the relations of clients that have requested nothing (yet).
    relations_without_request: frozenset[int] = frozenset()
    # Every unit reads these relations, because each unit answers in its own databag.
    legacy: tuple[LegacyClient, ...] = ()
    # The beginning of the command that sets options, e.g. `juju config pgbouncer-k8s`.
    configure_command: str = "juju config pgbouncer-k8s"
    # A name that leads to all units; '' if clients reach each unit by its address.
    service_host: str = ""
    # The certificates of this unit for clients.
    certificates: UnitCertificates = UnitCertificates()
    # Authorities that the operator gave by the relation `receive-ca-certs`.
    received_authorities: tuple[Certificate, ...] = ()
    # The time in seconds.
    now: float = 0.0
    # The relations with observers.
    telemetry: TelemetryFacts = TelemetryFacts()
    # What is left of the charm that this charm replaces; None if nothing is.
    reference: Reference | None = None

    def with_survivors(self, survivors: Collection[str]) -> "Facts":
        """Return these facts with what follows from the names of the units that are not being removed."""
        leaving = self.leaving or self.unit not in survivors
        return self.model_copy(update={"leaving": leaving, "last_unit": not survivors})

    def with_container(self, container: Container) -> "Facts":
        """Return these facts with another state of the container."""
        return self.model_copy(update={"container": container})

    def with_auth(self, auth: AuthMaterial | None) -> "Facts":
        """Return these facts with the users of PgBouncer itself; None if they were removed."""
        unshared = self.auth_unshared or auth != self.auth
        return self.model_copy(update={"auth": auth, "auth_unshared": unshared})

    def with_backend(self, login: BackendLogin) -> "Facts":
        """Return these facts with another login of PostgreSQL."""
        return self.model_copy(update={"backend": self.backend.with_credentials(login)})

    def with_reference(self, reference: Reference | None) -> "Facts":
        """Return these facts with what is left of the charm that this charm replaces."""
        return self.model_copy(update={"reference": reference})

    def with_clients(self, clients: tuple[Client, ...]) -> "Facts":
        """Return these facts with another state of the clients."""
        return self.model_copy(update={"clients": clients})

    def with_certificates(self, certificates: UnitCertificates) -> "Facts":
        """Return these facts with other certificates of this unit."""
        return self.model_copy(update={"certificates": certificates})

    def forwarding(self, targets: tuple[LogTarget, ...]) -> "Facts":
        """Return these facts after the container was told to send its log lines to these targets."""
        return self.model_copy(update={"telemetry": self.telemetry.forwarding(targets)})

    def naming(self, rotation_of: Callable[[str], Rotation]) -> "Facts":
        """Return these facts with the names of clients by their rotations, which their first names identify."""
        return self.model_copy(
            update={
                "clients": tuple(
                    client.named(rotation_of(client.request.first_username))
                    for client in self.clients
                ),
                "legacy": tuple(
                    client.named(rotation_of(client.request.first_username))
                    for client in self.legacy
                ),
            }
        )

    def recording(self, ledger: Ledger) -> "Facts":
        """Return these facts after the leader wrote this ledger."""
        return self.model_copy(update={"ledger": ledger})

    def naming_leader(self) -> "Facts":
        """Return these facts after this unit wrote its address as that of the leader."""
        return self.model_copy(update={"leader_address": self.address})

    def requesting_backend(self) -> "Facts":
        """Return these facts after the leader requested a database of PostgreSQL."""
        return self.model_copy(update={"backend": self.backend.requesting()})

    def starting_with(self, plan: Plan) -> "Facts":
        """Return these facts after the leader shared the first plan: no process runs with another."""
        return self.model_copy(update={"plan": plan})

    def sharing(self, plan: Plan) -> "Facts":
        """Return these facts after the leader shared a plan, of which the peers do not know yet."""
        known = self.peers_plan or self.plan or Plan(settings=plan.settings, members=())
        return self.model_copy(update={"plan": plan, "peers_plan": known})

    def announcing(self, serving: Serving | None, budget: UnitBudget) -> "Facts":
        """Return these facts after this unit announced what it serves, and its part of the connections."""
        return self.model_copy(update={"serving": serving, "budget": budget})

    def reporting(self, operations: Operations) -> "Facts":
        """Return these facts after this unit reported what it has done of what an operator asks."""
        return self.model_copy(update={"operations": operations})

    def at(self, now: float) -> "Facts":
        """Return these facts at a later time."""
        return self.model_copy(update={"now": now})

    @property
    def application(self) -> str:
        """Return the name of this application, e.g. `pgbouncer` of `pgbouncer/0`."""
        return self.unit.partition("/")[0]

    def command(self, action: str, database: str = "") -> str:
        """Return the command by which an operator runs an action."""
        first, _, application = self.configure_command.partition(" config")
        if not application:
            return f"{first} {action} {database}".strip()
        given = f" {argument('database', database)}" if database else ""
        return f"{first} run {application.strip()}/leader {action}{given}"

    @property
    def operated(self) -> bool:
        """Return whether clients wait because of a pause: then every hook looks whether the pause is in force."""
        record = self.container.applied
        return bool(self.plan and self.plan.paused) or bool(record and record.paused)

    @property
    def reports(self) -> dict[str, Operations]:
        """Return what each unit that stays has reported, by its name."""
        peers = {peer.name: peer.operations for peer in self.peers if not peer.leaving}
        return {self.unit: self.operations, **peers}

    @property
    def reference_decides(self) -> bool:
        """Return whether what the charm that this charm replaces has stored counts.

        It counts while a unit runs that charm, and then until the leader has taken over its roles in PostgreSQL.
        """
        reference = self.reference
        if reference is None or not reference.shared:
            return False
        unfinished = self.backend.related and not self.ledger.provisioned_for
        return bool(reference.units) or (unfinished and reference.auth is not None)

    @property
    def awaits_certificate_logins(self) -> bool:
        """Return whether clients have to wait until they can log in by their trusted certificates."""
        record = self.container.applied
        return record is not None and not all(login.admitted(self.now) for login in record.trusted)

    @property
    def notes_certificates(self) -> bool:
        """Return whether the next hook has to note since when certificates are trusted."""
        record = self.container.applied
        return record is not None and not all(login.since for login in record.trusted)

    @property
    def configured(self) -> bool:
        """Return whether a configuration exists in the container or in the peer databag."""
        return self.plan is not None or self.container.applied is not None

    @property
    def follows(self) -> bool:
        """Return whether this unit follows a plan; then each hook says in the status what keeps it from that."""
        return self.configured and not self.leaving

    @property
    def applicable_plan(self) -> Plan | None:
        """Return the plan that the processes can be configured with now; None if there is none.

        A unit that is being removed, and never served, starts nothing: the other units may have its share.
        """
        readable = self.container.reachable and "secret" not in self.unreadable
        serves = not self.leaving or self.container.applied is not None
        return self.plan if readable and serves else None

    @property
    def has_problems(self) -> bool:
        """Return whether there is a problem that may end without an event."""
        return bool(self.ledger.troubles or self.unreadable or self.container.unresponsive)

    @property
    def roaming(self) -> bool:
        """Return whether a client can make databases, which appear without an event."""
        return any(DATABASE_CREATORS.intersection(grant.roles) for grant in self.ledger.grants)

    @property
    def grants_to_keep(self) -> tuple[Grant, ...]:
        """Return the grants of clients that still need them.

        A client whose request cannot be read or served at the moment keeps its grant.
        """
        usernames = {client.request.username for client in self.clients}
        unclear = self._unclear_relations
        return tuple(
            grant
            for grant in self.ledger.grants
            if grant.username in usernames or grant.relation_id in unclear
        )

    @property
    def _unclear_relations(self) -> frozenset[int]:
        """Return the relations of which a request is refused or missing at the moment."""
        refused = (refusal.relation_id for refusal in self.refusals)
        return self.relations_without_request.union(refused)

    def is_unclear(self, first_username: str) -> bool:
        """Return whether a request is refused or missing in the relation of the client with this first name."""
        return any(
            f"{first_username}_".startswith(f"{username_of(relation_id)}_")
            for relation_id in self._unclear_relations
        )

    @property
    def published_offers(self) -> tuple[Offer, ...]:
        """Return what was published to each client that has a user in PostgreSQL.

        A client without a user cannot log in: PostgreSQL is another server, which refuses what the client asks.
        """
        users = {grant.username for grant in self.ledger.grants}
        clients = (client for client in self.clients if client.request.username in users)
        return tuple(client.published for client in clients if client.published)

    @property
    def backend_ready(self) -> bool:
        """Return whether PostgreSQL can be used.

        Its login is known, the users of PgBouncer exist, and PostgreSQL answered when it was last asked.
        """
        provisioned = self.plan is not None and self.plan.upstream is not None
        return (
            self.backend.attached
            and provisioned
            and self.auth is not None
            and not self.ledger.has("database")
        )

    @property
    def supported(self) -> bool:
        """Return whether this PgBouncer is new enough; True if its version is not known."""
        version = self.container.version
        return version is None or capabilities(version).supported
