"""Intent: PostgreSQL knows exactly the users that are asked for."""

import logging

from app.errors import AccessRefused, DatabaseRefused, DatabaseUnreachable
from app.outcome import Deferred, Done, Outcome
from app.ports import Clients, Database, Databases, NewPassword, Peers, Secrets
from domain.facts import Credentials as BackendCredentials
from domain.facts import Facts, Ledger
from domain.leadership import decides
from domain.status import Level, Problem
from domain.users import (
    AuthMaterial,
    Credentials,
    Grant,
    auth_user,
    grant_for,
)

logger = logging.getLogger(__name__)


class ReconcileAccess:
    """Gives and takes back access, on the leader.

    - PgBouncer's own user comes first; then users that nobody asks for go; then new ones come.
    - PostgreSQL is asked only if something is unfinished, or to be thorough; then anything that
      was lost there is made again, with the passwords that are known already.
    - What cannot be given to one client does not keep another from what it asked for.
    - While PostgreSQL refuses, the backend is not ready, and every later hook tries again.
    - A backend that has gone takes with it all that was given.
    """

    def __init__(
        self,
        databases: Databases,
        secrets: Secrets,
        clients: Clients,
        peers: Peers,
        new_password: NewPassword,
    ) -> None:
        self._databases = databases
        self._secrets = secrets
        self._clients = clients
        self._peers = peers
        self._new_password = new_password

    def __call__(self, facts: Facts, *, thorough: bool) -> Outcome:
        """Users, databases and privileges are as asked for; the ledger says so."""
        if not decides(facts) or not facts.configured:
            return Done(facts)
        if not facts.backend.attached:
            return Done(self._let_go(facts))
        backend = facts.backend.credentials
        if backend is None or not (thorough or _unfinished(facts, backend)):
            return Done(facts)
        auth = self._auth_for(facts, backend)
        try:
            with self._databases.open(backend) as database:
                ledger = self._reconcile(facts, backend, auth, database)
        except (DatabaseUnreachable, DatabaseRefused) as error:
            logger.warning("Access stays as it is: %s", error)
            problem = Problem(topic="database", level=Level.BLOCKED, text=str(error))
            facts = self._record(facts, facts.ledger.with_problem(problem))
            # A moment of silence may pass without anybody telling us.
            gone = isinstance(error, DatabaseUnreachable)
            return Deferred(facts, str(error), soon=True) if gone else Done(facts)
        self._secrets.store(auth)
        return Done(self._record(facts.model_copy(update={"auth": auth}), ledger))

    def _auth_for(self, facts: Facts, backend: BackendCredentials) -> AuthMaterial:
        name = auth_user(backend.user)
        if facts.auth and facts.auth.auth_user == name:
            return facts.auth
        application = facts.unit.partition("/")[0].replace("-", "_")
        return AuthMaterial(
            auth_user=name,
            auth_password=self._new_password(),
            stats_user=f"pgbouncer_stats_{application}",
            stats_password=self._new_password(),
            admin_user=f"pgbouncer_admin_{application}",
            admin_password=self._new_password(),
        )

    def _reconcile(
        self, facts: Facts, backend: BackendCredentials, auth: AuthMaterial, database: Database
    ) -> Ledger:
        database.provision(auth, backend.database)
        asked = {client.request.username for client in facts.clients}
        kept = [grant for grant in facts.standing if grant.username not in asked]
        wanted = asked.union(grant.username for grant in kept)
        others = [p for p in facts.ledger.problems if p.topic == "service"]
        for username in sorted(database.users() - wanted):
            others += self._dropped(database, username)
        for grant in facts.ledger.grants:
            if grant.username not in wanted:
                self._clients.forget(grant)
        given: list[Grant] = kept
        for client in facts.clients:
            grant = grant_for(client.request)
            try:
                locked = database.grant(grant)
            except AccessRefused as error:
                text = f"{client.request.application} (relation {grant.relation_id}): {error}"
                topic = f"client:{grant.username}"
                others.append(Problem(topic=topic, level=Level.BLOCKED, text=text))
                continue
            given.append(grant)
            # A user that was lost, or whose server was: its client keeps the password it has.
            if locked and client.told and (password := self._clients.password(client.request)):
                database.set_password(Credentials(username=grant.username, password=password))
        return Ledger(
            provisioned_for=backend.user,
            server=database.server(),
            capacity=database.capacity(),
            grants=tuple(given),
            exposed_ports=facts.ledger.exposed_ports,
            problems=tuple(others),
        )

    def _dropped(self, database: Database, username: str) -> list[Problem]:
        """A user that nobody asks for any more is gone; or why not, which keeps nobody waiting."""
        logger.info("Dropping user %s, which nobody asks for any more", username)
        try:
            database.revoke(username)
        except DatabaseRefused as error:
            text = f"{username} is still in PostgreSQL: {error}"
            return [Problem(topic=f"client:{username}", level=Level.WAITING, text=text)]
        return []

    def _let_go(self, facts: Facts) -> Facts:
        """Nothing is left here of what belonged to a backend that has gone."""
        if facts.auth:
            self._secrets.forget()
        for client in facts.clients:
            if client.told:
                self._clients.withdraw(client.request)
        for grant in facts.ledger.grants:
            self._clients.forget(grant)
        ledger = Ledger(
            exposed_ports=facts.ledger.exposed_ports,
            problems=tuple(p for p in facts.ledger.problems if p.topic == "service"),
        )
        clients = tuple(c.model_copy(update={"told": None}) for c in facts.clients)
        return self._record(facts.model_copy(update={"auth": None, "clients": clients}), ledger)

    def _record(self, facts: Facts, ledger: Ledger) -> Facts:
        if ledger != facts.ledger:
            self._peers.record(ledger)
        return facts.model_copy(update={"ledger": ledger})


def _unfinished(facts: Facts, backend: BackendCredentials) -> bool:
    asked = [grant_for(client.request) for client in facts.clients]
    return (
        facts.ledger.provisioned_for != backend.user
        or facts.auth is None
        or any(problem.topic != "service" for problem in facts.ledger.problems)
        or any(grant not in facts.ledger.grants for grant in asked)
        or facts.standing != facts.ledger.grants
    )
