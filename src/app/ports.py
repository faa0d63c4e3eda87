"""The ports: what the application needs from a platform, named by role.

All effects are idempotent.
"""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import pydantic

from app.database_ports import Databases
from domain.applied import AppliedState
from domain.budget import UnitBudget
from domain.capabilities import PgBouncerRuntime
from domain.change import Change
from domain.console import DatabaseStats, PooledDatabase, PoolState, ServerState
from domain.exporters import ExporterChange, ExporterProgram
from domain.facts import Facts, LegacyClient
from domain.ledger import Ledger
from domain.operations import ALL, ClientSession, Operations
from domain.plan import Plan, Serving
from domain.refresh import Decide, RollingUpdate
from domain.service import Service, ServiceState, UnitNode
from domain.settings import RotationPeriod
from domain.telemetry import LogTarget, Told
from domain.tls import CertificateNames, ServedPair
from domain.users import AccessRequest, AuthMaterial, Grant, Login, Offer

NewPassword = Callable[[], pydantic.SecretStr]


class FactsSource(Protocol):
    """The source of facts."""

    def read(self) -> Facts:
        """Return what this unit sees now."""
        ...


class Pooler(Protocol):
    """The PgBouncer processes of this unit. Every method may raise PoolerFailed."""

    def program(self) -> PgBouncerRuntime:
        """Return the version of PgBouncer, and the processors and open files that it may use."""
        ...

    def apply(self, change: Change) -> None:
        """Write the files, take the steps in their order, and then keep the record of the change.

        If PgBouncer refuses a configuration, the configuration before is restored, and the error names the
        line.
        """
        ...

    def remember(self, applied: AppliedState) -> None:
        """Replace the record of what was applied."""
        ...


class Exporters(Protocol):
    """The exporters of the processes of this unit. Every method may raise ExportersFailed."""

    def program(self) -> ExporterProgram:
        """Return the exporter that the image has, or that it has none."""
        ...

    def apply(self, change: ExporterChange) -> None:
        """Take the steps, without waiting for exporters that start, and then keep the record of the change."""
        ...


class Console(Protocol):
    """The console of a process. Every method may raise ConsoleFailed."""

    def databases(self) -> tuple[PooledDatabase, ...]:
        """Return what the process has of each database."""
        ...

    def pools(self) -> tuple[PoolState, ...]:
        """Return the state of each pool."""
        ...

    def drain_surplus(self, seconds: float, *, reconnect: bool) -> tuple[PooledDatabase, ...]:
        """Close server connections above the limits, wait for at most so many seconds, and return the databases.

        With `reconnect` connections that are never idle close, too, each after its transaction, or session.
        """
        ...

    def reconnect(self) -> None:
        """Replace every server connection when its transaction ends."""
        ...

    def end_plain_sessions(self, *, at_once: bool) -> int:
        """End sessions from the network without TLS that use no server connection; return how many stay.

        With `at_once` all of them end, also in a transaction.
        """
        ...

    def paused(self) -> frozenset[str]:
        """Return the names of the databases that are paused, with ALL for all databases."""
        ...

    def pause(self, alias: str = ALL) -> None:
        """Let no transaction begin on a database. The console takes no command after this."""
        ...

    def resume(self, besides: Collection[str] = ()) -> None:
        """End every pause but those of these databases."""
        ...

    def sessions(self) -> tuple[ClientSession, ...]:
        """Return the clients that have logged in, without those of the console."""
        ...

    def kill(self, number: int) -> None:
        """Disconnect a client; do nothing if it has left."""
        ...

    def servers(self) -> tuple[ServerState, ...]:
        """Return the server connections."""
        ...

    def stats(self) -> tuple[DatabaseStats, ...]:
        """Return the statistics of each database."""
        ...

    def settings(self) -> dict[str, str]:
        """Return the settings of the section [pgbouncer] that the process runs with."""
        ...


class Consoles(Protocol):
    """The consoles of the processes of this unit; each process has its own socket."""

    def open(self, index: int, port: int, auth: AuthMaterial) -> AbstractContextManager[Console]:
        """Log in as the admin user. Raises ConsoleFailed."""
        ...


class Peers(Protocol):
    """The peer relation. Only the leader calls the first three methods, for the application."""

    def share(self, plan: Plan) -> None:
        """Write the plan for all units."""
        ...

    def record(self, ledger: Ledger) -> None:
        """Write the ledger, which the next leader reads."""
        ...

    def name_leader(self, address: str) -> None:
        """Write the address of the leader."""
        ...

    def announce(self, address: str, serving: Serving | None, budget: UnitBudget) -> None:
        """Write the address of this unit, what it serves, and its part of max_db_connections."""
        ...

    def report(self, operations: Operations) -> None:
        """Write what this unit has done of what an operator asks."""
        ...


class Secrets(Protocol):
    """The secret with the passwords of PgBouncer's own users, which all units can read."""

    def store(self, auth: AuthMaterial) -> None:
        """Write the users and their passwords."""
        ...

    def forget(self) -> None:
        """Remove the secret."""
        ...

    def publish_console(self, auth: AuthMaterial) -> str:
        """Keep the login of the admin user in a secret for the operator, and return its identifier.

        `store` keeps that secret current from then on, and removes it when the operator chooses the password.
        `forget` removes it, too.
        """
        ...

    def withdraw_console(self) -> None:
        """Remove the secret with the login of the admin user, if it exists."""
        ...

    def ask_to_rotate(self, period: RotationPeriod) -> None:
        """Ask the platform to run the hook secret-rotate after each period."""
        ...


class Backend(Protocol):
    """The relation with PostgreSQL."""

    def request(self) -> None:
        """Request a database and a superuser."""
        ...


class Clients(Protocol):
    """The relations with client applications."""

    def password(self, request: AccessRequest) -> pydantic.SecretStr | None:
        """Return the password that was published to a client with its present name; None if there is none."""
        ...

    def knows(self, request: AccessRequest) -> bool:
        """Return whether a client can read credentials with its present name, also if this hook fails."""
        ...

    def publish(
        self, request: AccessRequest, offer: Offer, credentials: Login | None, *, granted: bool
    ) -> None:
        """Publish connection information to a client; without `credentials` the client keeps those that it has.

        `granted` says whether the client has what it requests now. If so, the answer repeats this request; if not,
        it repeats the request that the answer before repeated.
        """
        ...

    def withdraw(self, request: AccessRequest) -> None:
        """Remove all that was published to a client."""
        ...

    def forget(self, grant: Grant) -> None:
        """Remove what was kept for a client that has left."""
        ...

    def repeat(self, client: LegacyClient, *, granted: bool) -> None:
        """Write what the leader published to a client at `db` or `db-admin` as the answer of this unit.

        If nothing is published any more, remove the answer of this unit. A unit that has no answer writes none
        before the request is `granted`.
        """
        ...


class Certificates(Protocol):
    """The certificates of this unit for clients.

    A pair is kept where it outlives the disk of the unit. Every method may raise CertificatesFailed.
    """

    def request(self, names: CertificateNames) -> None:
        """Request a certificate with these names from the authority, in place of an earlier request."""
        ...

    def rotate(self, names: CertificateNames, key: pydantic.SecretStr | None) -> None:
        """Request a certificate with these names for another private key; for a new key if `key` is None.

        The pair that is kept stays. Raises CertificatesFailed, without the key, if the key cannot be used.
        """
        ...

    def keep(self, pair: ServedPair) -> None:
        """Keep a pair in place of the pair before, at once and as a whole."""
        ...

    def discard(self) -> None:
        """Remove the pair that is kept."""
        ...

    def receive(self) -> None:
        """Ask the applications that give authorities for them. Only the leader may do that."""
        ...


class Telemetry(Protocol):
    """The relations with observers, such as Prometheus, Grafana and Loki."""

    def tell(self, told: Told) -> None:
        """Write what every observer reads of the application. Only the leader may do that."""
        ...

    def announce(self, address: str) -> None:
        """Write the address at which Prometheus scrapes the exporters of this unit."""
        ...

    def forward(self, targets: tuple[LogTarget, ...]) -> None:
        """Send the log lines of the container to exactly these Loki units. Raises PoolerFailed."""
        ...


class Departures(Protocol):
    """The announcement that this unit is being removed."""

    def flag(self) -> bool:
        """Note in this unit's databag of every relation that the unit leaves; return whether a note is new."""
        ...

    def leaves(self) -> bool:
        """Return whether this unit is being removed, in the hook stop, too."""
        ...


class Replaced(Protocol):
    """The charm that this charm replaces, whose units run beside those of this charm during a refresh."""

    def answer(self, digest: str, auth_user: str, state: str) -> None:
        """Write the digest of what this unit serves, its auth user, and the state of its refresh.

        '' leaves a value as it is.
        """
        ...

    def forget_unit(self) -> None:
        """Remove what that charm stored for this unit."""
        ...

    def forget_application(self) -> None:
        """Remove what that charm stored for the application, except what stays in use.

        Only the leader may do that.
        """
        ...


class Reminder(Protocol):
    """Runs this unit again after a delay, without an event of Juju."""

    def remind(self, topic: str) -> bool:
        """Run this unit again soon; return whether the platform will do that.

        While `topic` does not change, each delay is longer than the delay before.
        """
        ...

    def stop(self) -> None:
        """Forget the last reminder."""
        ...


class Exposure(Protocol):
    """The Service by which clients reach all units.

    Every method may raise ExposureForbidden and ExposureFailed.
    """

    def expose(self, service: Service) -> ServiceState:
        """Make the Service lead to exactly these ports of every unit that is ready, and return its state.

        Juju's own Service is used if this application may not create a Service.
        """
        ...

    def nodes(self) -> tuple[UnitNode, ...]:
        """Return the nodes where units run, a node for each unit."""
        ...

    def protect(self) -> None:
        """Let Kubernetes stop one unit at a time, unless another object limits that already."""
        ...

    def release(self) -> None:
        """Take everything that this application applied out of Juju's own Service."""
        ...


class Rollout(Protocol):
    """The refresh of the pods by Kubernetes, each pod in turn."""

    def adjust(self, decide: Decide, seconds: float = 2.0) -> RollingUpdate:
        """Set the partition that `decide` returns for the current state, and return the state as it was.

        If the state changes meanwhile, `decide` is asked again. Raises RolloutForbidden, and RolloutFailed also if
        Kubernetes takes longer than `seconds` in all.
        """
        ...


class Ports(NamedTuple):
    """All ports of a unit. Each platform fills them."""

    facts: FactsSource
    pooler: Pooler
    exporters: Exporters
    consoles: Consoles
    peers: Peers
    secrets: Secrets
    backend: Backend
    clients: Clients
    certificates: Certificates
    telemetry: Telemetry
    departures: Departures
    replaced: Replaced
    exposure: Exposure
    rollout: Rollout
    databases: Databases
    reminder: Reminder
    new_password: NewPassword
