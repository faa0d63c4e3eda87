"""Intent: PostgreSQL knows exactly the users that are asked for."""

import logging
from collections.abc import Iterable, Iterator, Sequence

from app.errors import (
    DatabaseRefused,
    DatabaseUnreachable,
    NoTimeLeft,
)
from app.intents.grant_round import GrantRound, topic_of
from app.outcome import Deferred, Done, Outcome
from app.ports import Clients, Database, Databases, NewPassword, Peers, Secrets
from domain import consent
from domain.facts import BackendLogin, Client, Facts, Ledger
from domain.leadership import may_write_for_app
from domain.status import Level, Problem
from domain.users import (
    AuthMaterial,
    Login,
    auth_user,
    grant_for,
)

logger = logging.getLogger(__name__)


class ReconcileAccess:
    """Gives and takes back access, on the leader.

    - Users that no client asks for any more lose their logins and sessions first. Then PgBouncer's own
      user is made, then new users, and then users whose clients have left are dropped.
    - A client whose database made an earlier hook wait comes last, and is waited for only a moment.
    - PostgreSQL is asked only if something is unfinished, or to be thorough; then anything that
      was lost there is made again, with the passwords that are known already.
    - A refusal for a client does not delay other clients, and the client keeps the access that it has.
    - A role or a database that leads out of a client's own database needs the operator's consent.
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

    def __call__(self, facts: Facts, *, verify: bool) -> Outcome:
        """Users, databases and privileges are as asked for; the ledger says so."""
        if not may_write_for_app(facts) or not facts.configured:
            return Done(facts)
        if not facts.backend.attached:
            return Done(self._let_go(facts))
        backend = facts.backend.credentials
        if backend is None or not (verify or _unfinished(facts, backend)):
            return Done(facts)
        auth = self._auth_for(facts, backend)
        try:
            with self._databases.open(backend, facts.ledger) as database:
                ledger = self._reconcile(facts, backend, auth, database)
        except (DatabaseUnreachable, DatabaseRefused) as error:
            logger.warning("Access stays as it is: %s", error)
            problem = Problem(topic="database", level=Level.BLOCKED, text=str(error))
            facts = self._record(facts, facts.ledger.with_problem(problem))
            # A moment of silence may pass without anybody telling us.
            gone = isinstance(error, DatabaseUnreachable)
            return Deferred(facts, str(error), soon=True) if gone else Done(facts)
        self._secrets.store(auth)
        facts = self._record(facts.model_copy(update={"auth": auth}), ledger)
        if any(problem.untried for problem in ledger.problems):
            return Deferred(facts, "waiting for the next hook to go on in PostgreSQL", soon=True)
        return Done(facts)

    def _auth_for(self, facts: Facts, backend: BackendLogin) -> AuthMaterial:
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
        self, facts: Facts, backend: BackendLogin, auth: AuthMaterial, database: Database
    ) -> Ledger:
        asked = {client.request.username for client in facts.clients}
        kept = [grant for grant in facts.standing if grant.username not in asked]
        wanted = asked.union(grant.username for grant in kept)
        leaving = sorted(database.users() - wanted)
        # Before any wait for a lock, which a session of a client that has left may hold.
        locked_out = _still_in(database.lock_out(leaving))
        database.provision(auth, backend.database)
        for grant in facts.ledger.grants:
            if grant.username not in wanted:
                self._clients.forget(grant)
        problems = [p for p in facts.ledger.problems if p.topic == "service"]
        granting = GrantRound(facts, database, kept)
        for hurried, clients, usernames in _by_trouble(facts.ledger, granting.clients(), leaving):
            if hurried and (clients or usernames):
                database.hurry()
            for client in clients:
                self._grant(granting, database, client)
            for username in usernames:
                problems += self._dropped(facts.ledger, database, username)
        roamed = granting.roamed()
        # The problem of a user that can still log in replaces the problem of the drop of that user.
        told = {problem.topic for problem in locked_out}
        problems = [problem for problem in problems if problem.topic not in told]
        problems += granting.problems
        # The ledger has the order of the requests, and not the order in which clients were served.
        names = [*leaving, *(grant.username for grant in kept)]
        names += [client.request.username for client in facts.clients]
        order = {topic_of(name): index for index, name in enumerate(names)}
        given = sorted(granting.given, key=lambda grant: order[topic_of(grant.username)])
        problems.sort(key=lambda problem: order.get(problem.topic, -1))
        return Ledger(
            provisioned_for=backend.user,
            server=database.server(),
            capacity=database.capacity(),
            grants=tuple(given),
            exposed_ports=facts.ledger.exposed_ports,
            problems=(*problems, *locked_out, *_notes(database.notes())),
            made=granting.made,
            roamed=roamed,
            allowed=consent.consent_of(facts).names,
        )

    def _grant(self, granting: GrantRound, database: Database, client: Client) -> None:
        """Give a client what it asks for, or record the problem."""
        locked = granting.give(client.request)
        # The user is new although its client has a password: the user, or the server, was lost. The client
        # keeps its password.
        if locked and client.told and (password := self._clients.password(client.request)):
            username = client.request.username
            try:
                database.set_password(Login(username=username, password=password))
            except DatabaseRefused as error:
                granting.refuse(client.request, error)

    def _dropped(self, ledger: Ledger, database: Database, username: str) -> list[Problem]:
        """Drop a user that no client asks for any more; return the problem if that fails."""
        logger.info("Dropping user %s, which no client asks for any more", username)
        try:
            database.revoke(username)
        except DatabaseRefused as error:
            text = f"{username} cannot log in any more, and is still in PostgreSQL: {error}"
            return [_problem(ledger, username, Level.WAITING, text, error)]
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
            # Roles that could not be dropped still exist, and stay ours if this PostgreSQL is related again.
            made=facts.ledger.made,
            left=facts.ledger.left,
        )
        clients = tuple(c.model_copy(update={"told": None}) for c in facts.clients)
        return self._record(facts.model_copy(update={"auth": None, "clients": clients}), ledger)

    def _record(self, facts: Facts, ledger: Ledger) -> Facts:
        if ledger != facts.ledger:
            self._peers.record(ledger)
        return facts.model_copy(update={"ledger": ledger})


def _still_in(failures: dict[str, str]) -> list[Problem]:
    return [
        Problem(
            topic=topic_of(username),
            level=Level.BLOCKED,
            text=f"{username} has left and can still log in to PostgreSQL: {reason}",
        )
        for username, reason in failures.items()
    ]


def _by_trouble(
    ledger: Ledger, clients: Sequence[Client], leaving: Sequence[str]
) -> Iterator[tuple[bool, list[Client], list[str]]]:
    """Yield the clients to serve and the users to drop, and whether to wait only a moment for each.

    New clients and other users come first, with the full wait. Clients with a grant come next, and then
    clients and users whose database an earlier hook waited for in vain.
    """
    slow = {p.topic for p in ledger.problems if p.level is Level.WAITING and not p.untried}
    calm = [client for client in clients if topic_of(client.request.username) not in slow]
    new = [client for client in calm if grant_for(client.request) not in ledger.grants]
    given = [client for client in calm if client not in new]
    yield False, new, [name for name in leaving if topic_of(name) not in slow]
    late = [client for client in clients if client not in calm]
    yield True, [*given, *late], [name for name in leaving if topic_of(name) in slow]


def _problem(
    ledger: Ledger, username: str, level: Level, text: str, error: DatabaseRefused
) -> Problem:
    """Return the problem of a user; if there was no time to try, the problem that the ledger has."""
    untried = isinstance(error, NoTimeLeft)
    topic = topic_of(username)
    known = (found for found in ledger.problems if untried and found.topic == topic)
    problem = Problem(topic=topic, level=level, text=text, untried=untried)
    return next(known, problem)


def _notes(texts: Iterable[str]) -> Iterable[Problem]:
    for number, text in enumerate(texts):
        yield Problem(topic=f"left:{number}", level=Level.ACTIVE, text=text)


def _unfinished(facts: Facts, backend: BackendLogin) -> bool:
    asked = [grant_for(client.request) for client in facts.clients]
    return (
        facts.ledger.provisioned_for != backend.user
        or facts.auth is None
        or not facts.ledger.made.cluster
        or facts.roaming
        or facts.ledger.allowed != consent.consent_of(facts).names
        or any(problem.topic != "service" for problem in facts.ledger.troubles)
        or any(grant not in facts.ledger.grants for grant in asked)
        or facts.standing != facts.ledger.grants
    )
