"""Intent: every client has the connection information of its database, once the client can connect."""

import dataclasses
import logging

from app.errors import DatabaseBusy, DatabaseRefused, DatabaseUnreachable
from app.outcome import AskAgain, Done
from app.ports import Clients, Databases, NewPassword, Peers
from domain import exposure, planning
from domain.backend import BackendLogin
from domain.facts import Client, Facts
from domain.leadership import admitted_everywhere, may_write_for_app
from domain.rotating import begun_here, ending_at_once, rotation_for
from domain.rotation import Rotation
from domain.tls_told import told_tls
from domain.users import Login, Offer
from domain.verification import verified_login

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class PublishEndpoints:
    """Publishes connection information to clients, on the leader.

    - A client gets credentials once every unit serves its database and PostgreSQL lets its user log in.
    - A client that has credentials keeps them, and only gets new endpoints, also while its present request
      is refused, invalid or missing.
    - A client with a new name gets new credentials once they work. A later hook lets its former name expire: Juju
      tells the client nothing of a hook that fails.
    """

    databases: Databases
    clients: Clients
    peers: Peers
    new_password: NewPassword

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Publish what has changed for each client that can connect."""
        if not may_write_for_app(facts):
            return Done(facts)
        waiting, told = list[str](), list[str]()
        facts = self._tell_tls(facts)
        if facts.backend_ready:
            facts, waiting = self._publish(facts)
            facts, renamed, told = self._tell_renamed(facts)
            waiting += renamed
        # PostgreSQL lets a user log in without an event; the credentials of the backend come with an event.
        if waiting and facts.backend.credentials:
            return AskAgain(facts, f"waiting for PostgreSQL to let in {', '.join(waiting)}")
        plan = facts.plan
        if plan and plan.former_port and planning.port_is_published(facts):
            # Clients get what this hook publishes when the hook has ended.
            return AskAgain(facts, f"about to close port {plan.former_port}")
        if exposure.has_surplus(facts):
            return AskAgain(facts, "about to take what no client uses away from the Service")
        reason = _next_step(facts, told)
        return AskAgain(facts, reason) if reason else Done(facts)

    def _tell_tls(self, facts: Facts) -> Facts:
        """Tell every client that has credentials what the plan says of TLS, if clients know something else.

        The ledger records what they were told, because the answer may be in secrets, which are slow to read.
        """
        told = told_tls(facts.plan)
        if facts.plan is None or told == facts.ledger.told_tls:
            return facts
        clients: list[Client] = []
        for known in facts.clients:
            client = known
            # The interface of `db` and `db-admin` has no fields for TLS.
            if known.published and not known.request.endpoint:
                offer = known.published.telling(facts.plan)
                client = known.publishing(offer)
                self._write(facts, client, offer)
            clients.append(client)
        ledger = facts.ledger.telling(told)
        self.peers.record(ledger)
        return facts.with_clients(tuple(clients)).recording(ledger)

    def _publish(self, facts: Facts) -> tuple[Facts, list[str]]:
        """Publish all offers; return the facts after that, and the users that cannot log in yet."""
        offers = [planning.offer_to(facts, client) for client in facts.clients]
        clients = tuple(
            client
            if offer is None or offer == _as_told(client, facts)
            else self._published(facts, client, offer)
            for client, offer in zip(facts.clients, offers, strict=True)
        )
        waiting = [
            client.request.username
            for client, offer in zip(clients, offers, strict=True)
            if offer and not client.published
        ]
        return facts.with_clients(clients), waiting

    def _tell_renamed(self, facts: Facts) -> tuple[Facts, list[str], list[str]]:
        """Give new credentials to clients with new names; the former names of clients that know them expire.

        Returns the facts after that, the new names that do not work yet, and those that this hook has told.
        """
        waiting, told, backend = list[str](), list[str](), verified_login(facts)
        for client in facts.clients:
            rotation, offer = rotation_for(facts, client.request), client.published
            if rotation is None or rotation.stage != "renamed" or offer is None:
                continue
            if not admitted_everywhere(facts, client.request.username):
                # Another unit reports that it admits the name, or update-status finds that this unit does.
                continue
            username = client.request.username
            if backend is None:
                waiting.append(username)
            elif not self.clients.knows(client.request):
                offer = planning.offer_to(facts, client) or offer
                works = self._issue_credentials(client, offer, backend, facts)
                (told if works else waiting).append(username)
            elif (expiring := self._expire(facts, rotation, backend)) is None:
                waiting.append(username)
            else:
                ledger = facts.ledger.rotating(expiring)
                self.peers.record(ledger)
                facts = facts.recording(ledger)
        return facts, waiting, told

    def _expire(self, facts: Facts, rotation: Rotation, backend: BackendLogin) -> Rotation | None:
        """Let the former name of a client expire in PostgreSQL; return None if PostgreSQL does not answer.

        A session of the client can lock its role for as long as it wants. Then the time runs all the same, and
        `ReconcileAccess` ends the former name after it.
        """
        try:
            with self.databases.open(backend, facts.ledger) as database:
                return rotation.telling(database.expire(rotation.former, rotation.seconds))
        except DatabaseBusy as error:
            logger.warning("PostgreSQL does not let user %s expire: %s", rotation.former, error)
            return rotation.telling(facts.now + rotation.seconds)
        except (DatabaseUnreachable, DatabaseRefused) as error:
            logger.warning("User %s does not expire yet: %s", rotation.former, error)
            return None

    def _published(self, facts: Facts, client: Client, offer: Offer) -> Client:
        """Publish an offer to a client, and return the client; it is unchanged if it cannot log in yet."""
        if client.published:
            self._write(facts, client, offer)
        elif (backend := verified_login(facts)) is None or not self._issue_credentials(
            client, offer, backend, facts
        ):
            return client
        return client.publishing(offer)

    def _issue_credentials(
        self, client: Client, offer: Offer, backend: BackendLogin, facts: Facts
    ) -> bool:
        """Give a client new credentials; return whether they work and were published."""
        username = client.request.username
        # Units have the new password of a client that logs in by certificate already.
        shared = facts.auth.clients if facts.auth else ()
        known = next((login for login in shared if login.username == username), None)
        credentials = known or Login(username=username, password=self.new_password())
        try:
            with self.databases.open(backend, facts.ledger) as database:
                database.set_password(credentials)
            if not self.databases.admits(backend, credentials, offer.database):
                return False
        except (DatabaseUnreachable, DatabaseRefused) as error:
            logger.warning("%s gets no credentials yet: %s", client.request.application, error)
            return False
        self._write(facts, client, offer, credentials)
        return True

    def _write(
        self, facts: Facts, client: Client, offer: Offer, credentials: Login | None = None
    ) -> None:
        granted = planning.is_granted(facts, client.request)
        self.clients.publish(client.request, offer, credentials, granted=granted)


def _next_step(facts: Facts, told: list[str]) -> str:
    """Return what the next hook does in a rotation, because Juju keeps what this hook has written; else ''.

    `told` has the new names that this hook has told.
    """
    if told:
        return f"about to let the former names of {', '.join(told)} expire"
    if begun := begun_here(facts):
        return f"about to give new credentials to {', '.join(begun)}"
    ending = ending_at_once(facts)
    return f"about to end the sessions of {', '.join(ending)}" if ending else ""


def _as_told(client: Client, facts: Facts) -> Offer | None:
    """Return what a client knows; what it knows of TLS is in the ledger, and is not read again."""
    # A client at `db` and `db-admin` is told nothing of TLS.
    if client.published is None or facts.plan is None or client.request.endpoint:
        return client.published
    return client.published.telling(facts.plan)
