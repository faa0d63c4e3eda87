"""Intent: PostgreSQL knows exactly the users that are asked for."""

import logging
from collections.abc import Iterable

from app.errors import AccessRefused, DatabaseRefused, DatabaseUnreachable
from app.outcome import Deferred, Done, Outcome
from app.ports import Clients, Database, Databases, NewPassword, Peers, Secrets
from domain import consent
from domain.facts import Client, Facts, Ledger
from domain.facts import Credentials as BackendCredentials
from domain.leadership import decides
from domain.made import CLIENT
from domain.status import Level, Problem
from domain.users import (
    AccessRequest,
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
    - What cannot be given to a client does not keep another from what it asked for, and the client
      keeps what was given to it before.
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
        round_ = _Round(facts, database, kept)
        for client in round_.clients():
            grant = grant_for(client.request)
            if (locked := round_.give(client.request, grant)) is None:
                continue
            # A user that was lost, or whose server was: its client keeps the password it has.
            if locked and client.told and (password := self._clients.password(client.request)):
                database.set_password(Credentials(username=grant.username, password=password))
        roamed = round_.roamed()
        return Ledger(
            provisioned_for=backend.user,
            server=database.server(),
            grants=tuple(round_.given),
            exposed_ports=facts.ledger.exposed_ports,
            problems=(*others, *round_.problems, *_notes(database.notes())),
            made=round_.made,
            roamed=roamed,
            allowed=consent.consent_of(facts).names,
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
            # What could not be dropped is still there, and ours if the same PostgreSQL comes back.
            made=facts.ledger.made,
            left=facts.ledger.left,
        )
        clients = tuple(c.model_copy(update={"told": None}) for c in facts.clients)
        return self._record(facts.model_copy(update={"auth": None, "clients": clients}), ledger)

    def _record(self, facts: Facts, ledger: Ledger) -> Facts:
        if ledger != facts.ledger:
            self._peers.record(ledger)
        return facts.model_copy(update={"ledger": ledger})


class _Round:
    """What the clients are given in one conversation with PostgreSQL, and what is noted of it."""

    def __init__(self, facts: Facts, database: Database, kept: Iterable[Grant]) -> None:
        self._facts = facts
        self._database = database
        self._consent = consent.consent_of(facts)
        self.made = database.made()
        # What was given in another server means nothing in this server.
        here = facts.ledger.made.cluster in ("", self.made.cluster)
        self._before = {one.username: one for one in facts.ledger.grants} if here else {}
        self._pending = dict(self._before)
        self._over_budget = consent.over_budget(facts.clients, self._before)
        self._applications: dict[str, str] = {}
        self._holdings: dict[str, consent.Holding] = {}
        self._noted_before = {one.oid for one in self.made.databases}
        self.given = list(kept)
        self.problems: list[Problem] = []
        self._note()
        # A release that noted no databases gave them; in whatever order clients are served now.
        for client in self.clients():
            if before := self._before.get(client.request.username):
                self._belongs(before, client.request.application)
        self._note()

    def clients(self) -> list[Client]:
        """The clients in the order in which they are served: what was given before goes first."""
        return consent.in_order(self._facts.clients, self._before)

    def give(self, request: AccessRequest, grant: Grant) -> bool | None:
        """Give a client what it asks for: whether it has no password yet; None if it was refused."""
        who = f"{request.application} (relation {grant.relation_id})"
        before = self._before.get(grant.username)
        self._pending.pop(grant.username, None)
        holding = self._holdings.get(grant.database)
        try:
            verdict = self._verdict(request, grant, holding, before)
            if verdict.problem:
                return self._refused(grant, f"{who} {verdict.problem}", before)
            locked = self._database.grant(grant, holding.oid if holding else 0)
        except AccessRefused as error:
            return self._refused(grant, f"{who}: {error}", before)
        self.given.append(grant)
        known = holding is not None and self.made.owner_of(holding.oid)
        if not known:
            self._note()
        self._belongs(grant, request.application)
        if not known:
            self._note()
        if verdict.note:
            topic = f"consent:{grant.username}"
            text = f"{who} {verdict.note}"
            self.problems.append(Problem(topic=topic, level=Level.ACTIVE, text=text))
        return locked

    def roamed(self) -> tuple[str, ...]:
        """Databases that clients made, for which there are pools. PUBLIC does not connect to them."""
        self._note()
        holdings = self._holdings.values()
        usable, unusable = consent.roamed(holdings, self.made, self.given)
        if unusable:
            logger.warning("PgBouncer can have no pool of the databases %s", ", ".join(unusable))
        clients = self.made.names(CLIENT)
        for one in holdings:
            if one.owner in clients and one.oid not in self._noted_before and one.open:
                self._database.close(one.name)
        return usable

    def _verdict(
        self,
        request: AccessRequest,
        grant: Grant,
        holding: consent.Holding | None,
        before: Grant | None,
    ) -> consent.Verdict:
        if grant.username in self._over_budget:
            return consent.Verdict(problem=consent.OVER_BUDGET)
        others = (*self.given, *self._pending.values())
        on_database = consent.on_database(
            request, grant, holding, self.made, others, before, self._consent
        )
        if on_database.problem:
            return on_database
        asked = [role for role in grant.roles if role not in self._consent.roles]
        found = self._database.reaches(asked, grant.database) if asked else ()
        on_roles = consent.on_roles(found, before, self._consent)
        if on_roles.problem:
            return on_roles
        return consent.Verdict(note="; it ".join(filter(None, (on_roles.note, on_database.note))))

    def _refused(self, grant: Grant, text: str, before: Grant | None) -> None:
        topic = f"client:{grant.username}"
        self.problems.append(Problem(topic=topic, level=Level.BLOCKED, text=text))
        if before:
            self.given.append(before)

    def _belongs(self, grant: Grant, application: str) -> None:
        """What a client makes is its application's, and so is its database if it is the first."""
        self._applications.setdefault(grant.username, application)
        if found := self._holdings.get(grant.database):
            self._applications.setdefault(found.group, application)

    def _note(self) -> None:
        """Look at the roles and the databases, and note whose they are."""
        self._holdings = {one.name: one for one in self._database.holdings()}
        made = self.made.model_copy(update={"roles": self._database.made().roles})
        self.made = consent.noted(made, self._holdings.values(), self._applications)


def _notes(texts: Iterable[str]) -> Iterable[Problem]:
    for number, text in enumerate(texts):
        yield Problem(topic=f"left:{number}", level=Level.ACTIVE, text=text)


def _unfinished(facts: Facts, backend: BackendCredentials) -> bool:
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
