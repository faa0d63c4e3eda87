"""Intent: every client knows how to connect, as soon as it could and not before."""

import logging

from app.errors import DatabaseRefused, DatabaseUnreachable
from app.outcome import Deferred, Done, Outcome
from app.ports import Clients, Databases, NewPassword
from domain import planning
from domain.facts import BackendLogin, Client, Facts, Ledger
from domain.leadership import may_write_for_app
from domain.users import Login, Offer

logger = logging.getLogger(__name__)


class PublishEndpoints:
    """The leader tells clients what has changed for them.

    - A client gets credentials once every unit serves its database and PostgreSQL lets them in.
    - One that has credentials keeps them; it is only told new endpoints.
    """

    def __init__(self, databases: Databases, clients: Clients, new_password: NewPassword) -> None:
        self._databases = databases
        self._clients = clients
        self._new_password = new_password

    def __call__(self, facts: Facts, *, verify: bool) -> Outcome:
        """What can be told was told."""
        if not may_write_for_app(facts):
            return Done(facts)
        outcome = self._published(facts) if facts.backend_ready else Done(facts)
        plan = facts.plan
        if (
            isinstance(outcome, Done)
            and plan
            and plan.former_port
            and planning.port_is_told(outcome.facts)
        ):
            # What is told now reaches clients when this hook has ended.
            return Deferred(outcome.facts, f"about to close port {plan.former_port}", soon=True)
        return outcome

    def _published(self, facts: Facts) -> Outcome:
        offers = [planning.offer(facts, client.request) for client in facts.clients]
        clients = tuple(
            client if offer is None or offer == client.told else self._told(facts, client, offer)
            for client, offer in zip(facts.clients, offers, strict=True)
        )
        facts = facts.model_copy(update={"clients": clients})
        waiting = [
            client.request.username
            for client, offer in zip(clients, offers, strict=True)
            if offer and not client.told
        ]
        # That it lets them in nobody will tell us; of its credentials Juju does.
        if waiting and facts.backend.credentials:
            reason = f"waiting for PostgreSQL to let in {', '.join(waiting)}"
            return Deferred(facts, reason, soon=True)
        return Done(facts)

    def _told(self, facts: Facts, client: Client, offer: Offer) -> Client:
        """The client as it is once it was told, or could not be."""
        if client.told:
            self._clients.publish(client.request, offer, None)
        elif facts.backend.credentials is None or not self._welcome(
            client, offer, facts.backend.credentials, facts.ledger
        ):
            return client
        return client.model_copy(update={"told": offer})

    def _welcome(
        self, client: Client, offer: Offer, backend: BackendLogin, ledger: Ledger
    ) -> bool:
        """Give a client its first credentials, if they work."""
        credentials = Login(username=client.request.username, password=self._new_password())
        try:
            with self._databases.open(backend, ledger) as database:
                database.set_password(credentials)
            if not self._databases.admits(backend, credentials, offer.database):
                return False
        except (DatabaseUnreachable, DatabaseRefused) as error:
            logger.warning("%s gets no credentials yet: %s", client.request.application, error)
            return False
        self._clients.publish(client.request, offer, credentials)
        return True
