"""Intent: PostgreSQL has exactly the client users that applications request."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence

from app.database_ports import Database
from app.errors import AccessRefused, DatabaseRefused, DatabaseUnreachable, NoTimeLeft
from app.intents.grant_round import GrantRound, topic_of
from app.intents.take_over import taking_over
from app.outcome import AskAgain, Done
from app.ports import Clients, Databases, NewPassword, Peers, Secrets
from domain import consent, sentences
from domain.backend import BackendLogin
from domain.facts import Client, Facts
from domain.leadership import may_write_for_app
from domain.ledger import Ledger
from domain.made import AUTH, digest_of
from domain.problems import KUBERNETES, PAUSE, ROTATION, SERVICE, Level, Problem
from domain.replacement import successor_of, takes_over
from domain.rotating import former_users, rotation_for, rotations, waits_for_units
from domain.rotation import Rotation, twin
from domain.users import AuthMaterial, Login, auth_user, grant_for, second_auth_user
from domain.verification import verified_login

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class ReconcileAccess:
    """Gives access to clients and takes it away, on the leader.

    - Users that no client asks for any more lose their logins and sessions first. Then PgBouncer's own
      user is made, then new users, and then users whose clients have left are dropped.
    - A client whose database made an earlier hook wait comes last, and the hook waits only 0.25 s for it.
    - PostgreSQL is asked only if something is unfinished, or with `verify`. Then roles that were lost
      there are made again, with the passwords that they had.
    - A refusal for a client does not delay other clients, and the client keeps the access that it has.
    - A role with rights outside of the client's database, or the database of another owner, needs the
      operator's consent.
    - While PostgreSQL refuses, the backend is not ready, and every later hook tries again.
    - The roles of clients of the charm that this charm replaces become roles of this application.
    - When former credentials end at once, all sessions of their client end.
    - When the relation with PostgreSQL has ended, everything that was published to clients is withdrawn.
    """

    databases: Databases
    secrets: Secrets
    clients: Clients
    peers: Peers
    new_password: NewPassword
    verify: bool

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Make users, databases and privileges as requested, and record them in the ledger."""
        inherits = takes_over(facts)
        if not (may_write_for_app(facts) or inherits) or not facts.configured:
            return Done(facts)
        if not facts.backend.attached and not inherits:
            return Done(self._forget_backend(facts))
        backend = verified_login(facts) if facts.backend.attached else None
        if backend is None or not (self.verify or _unfinished(facts, backend)):
            return Done(facts)
        auth = self._auth_for(facts, backend)
        try:
            with self.databases.open(backend, facts.ledger) as database:
                known = taking_over(facts, database, self.clients)
                ledger, auth = self._reconcile(known, backend, auth, database)
            if inherits and not self._admits(backend, auth):
                # Until then every unit looks passwords up by the auth user of Canonical's charm.
                return AskAgain(facts, f"waiting for PostgreSQL to let in {auth.auth_user}")
        except (DatabaseUnreachable, DatabaseRefused) as error:
            logger.warning("Access stays as it is: %s", error)
            problem = Problem(topic="database", level=Level.BLOCKED, text=str(error))
            facts = self._record(facts, facts.ledger.with_problem(problem))
            # PostgreSQL may answer again without an event.
            silent = isinstance(error, DatabaseUnreachable)
            return AskAgain(facts, str(error)) if silent else Done(facts)
        self.secrets.store(auth)
        facts = self._record(facts.with_auth(auth), ledger)
        untried = any(problem.untried for problem in ledger.problems)
        reason = "waiting for the next hook to go on in PostgreSQL"
        return AskAgain(facts, reason) if untried else Done(facts)

    def _auth_for(self, facts: Facts, backend: BackendLogin) -> AuthMaterial:
        name = auth_user(backend.user)
        # The comments on roles are signed again when the password of the backend's user has changed.
        signed_for = digest_of(backend.password.get_secret_value())
        if facts.auth and takes_over(facts):
            passwords = (self.new_password().get_secret_value() for _ in range(2))
            return successor_of(facts.auth, backend.user, *passwords).signed_with(signed_for)
        if facts.auth and facts.auth.auth_user in (name, second_auth_user(name)):
            return facts.auth.signed_with(signed_for)
        application = facts.unit.partition("/")[0].replace("-", "_")
        return AuthMaterial(
            auth_user=name,
            auth_password=self.new_password(),
            stats_user=f"pgbouncer_stats_{application}",
            stats_password=self.new_password(),
            admin_user=f"pgbouncer_admin_{application}",
            admin_password=self.new_password(),
            # A client under rotation is not told its former password again.
            clients=facts.auth.clients if facts.auth else (),
            signed_for=signed_for,
        )

    def _admits(self, backend: BackendLogin, auth: AuthMaterial) -> bool:
        login = Login(username=auth.auth_user, password=auth.auth_password)
        return self.databases.admits(backend, login, backend.database)

    def _reconcile(
        self, facts: Facts, backend: BackendLogin, auth: AuthMaterial, database: Database
    ) -> tuple[Ledger, AuthMaterial]:
        asked = {client.request.username for client in facts.clients}
        kept = [grant for grant in facts.grants_to_keep if grant.username not in asked]
        wanted = asked.union(grant.username for grant in kept)
        former = _former_users(facts, database)
        leaving = sorted(database.users() - wanted - former)
        # Before any wait for a lock, which a session of a client that has left may hold.
        staying_in = database.lock_out(leaving)
        locked_out = _still_in(staying_in)
        # Sessions of the client itself may hold locks, too.
        for rotation in rotations(facts):
            if rotation.to_cut:
                database.end_sessions(rotation.current)
        database.provision(auth, backend.database)
        for grant in facts.ledger.grants:
            if grant.username not in wanted:
                self.clients.forget(grant)
        kept_topics = (*KUBERNETES, "verification", ROTATION, PAUSE)
        problems = [p for p in facts.ledger.problems if p.topic in kept_topics]
        granting, logins = GrantRound(facts, database, kept), list[Login]()
        for hurried, clients, usernames in _by_trouble(facts.ledger, granting.clients(), leaving):
            if hurried and (clients or usernames):
                database.hurry()
            for client in clients:
                logins += self._grant(facts, granting, database, client)
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
        ledger = facts.ledger.reconciling(
            provisioned_for=backend.user,
            server=database.server(),
            auth_schema=auth.schema_name,
            capacity=database.capacity(),
            grants=tuple(given),
            problems=(*problems, *locked_out, *_notes(database.notes())),
            made=granting.made,
            roamed=roamed,
            allowed=consent.consent_of(facts).names,
        )
        for known in self._rotations(
            facts, database, granting, {*staying_in, *granting.unchanged}
        ):
            ledger = ledger.rotating(known)
        return ledger, auth.with_clients((*auth.clients, *logins))

    def _rotations(
        self, facts: Facts, database: Database, granting: GrantRound, failed: set[str]
    ) -> Iterator[Rotation]:
        """Yield the rotations as they are now; `failed` are users that may log in by another password."""
        there = database.users()
        renamed = {rotation.username: rotation for rotation in granting.renamed}
        for rotation in rotations(facts):
            known = renamed.get(rotation.username, rotation)
            if rotation.to_cut and not failed.intersection((rotation.former, rotation.current)):
                # Again, because a session may have logged in by a password that a session before had set.
                database.end_sessions(rotation.current)
                known = known.cutting(facts.now)
            elif _has_ended(facts, rotation) and rotation.former not in there:
                known = known.reaching("ended")
            yield known

    def _grant(
        self, facts: Facts, granting: GrantRound, database: Database, client: Client
    ) -> list[Login]:
        """Give a client what it asks for, or record the problem; return the login that units need first.

        PgBouncer logs in with the password of a client that logs in by certificate. So all units have its new
        password before the client is told its new name.
        """
        locked, request = granting.give(client.request), client.request
        username, password = request.username, None
        rotation = rotation_for(facts, request)
        # A session of the former name acts as the client's role, and may have changed its password. The password
        # that the client was told is set again when the former name ends.
        ends = rotation is not None and rotation.expired(facts.now)
        # The user is new although its client has a password: the user, or the server, was lost. The client
        # keeps its password.
        if (locked or ends) and client.published:
            password = self.clients.password(request)
        renamed = any(known.current == username for known in granting.renamed)
        by_certificate = (
            login.username for login in (facts.plan.certificate_logins if facts.plan else ())
        )
        early = renamed and twin(username) in by_certificate
        if early:
            password = self.new_password()
        if password is None:
            return []
        login = Login(username=username, password=password)
        try:
            database.set_password(login)
        except DatabaseRefused as error:
            granting.refuse(request, error)
            return []
        return [login] if early else []

    def _dropped(self, ledger: Ledger, database: Database, username: str) -> list[Problem]:
        """Drop a user that no client asks for any more; return the problem if that fails."""
        logger.info("Dropping user %s, which no client asks for any more", username)
        try:
            database.revoke(username)
        except DatabaseRefused as error:
            kind = sentences.STILL_IN_POSTGRESQL
            text = kind.text(username=username, reason=error)
            return [_problem(ledger, username, kind.level, text, error)]
        return []

    def _forget_backend(self, facts: Facts) -> Facts:
        """Remove the passwords and all that was published, after the relation with PostgreSQL has ended."""
        if facts.auth:
            self.secrets.forget()
        for client in facts.clients:
            if client.published:
                self.clients.withdraw(client.request)
        for grant in facts.ledger.grants:
            self.clients.forget(grant)
        clients = tuple(client.withdrawing() for client in facts.clients)
        facts = facts.with_auth(None).with_clients(clients)
        facts = self._record(facts, facts.ledger.without_backend())
        # Without a rotation a client has its first name, as the next hook reads it.
        return facts.naming(facts.ledger.rotation_of)

    def _record(self, facts: Facts, ledger: Ledger) -> Facts:
        if ledger != facts.ledger:
            self.peers.record(ledger)
        return facts.recording(ledger)


def _still_in(failures: dict[str, str]) -> list[Problem]:
    return [
        sentences.STILL_LOGS_IN.problem(topic_of(username), username=username, reason=reason)
        for username, reason in failures.items()
    ]


def _by_trouble(
    ledger: Ledger, clients: Sequence[Client], leaving: Sequence[str]
) -> Iterator[tuple[bool, list[Client], list[str]]]:
    """Yield the clients to serve and the users to drop, and whether to wait only a moment for each.

    New clients and users without trouble come first, with the full wait. Clients with a grant come next,
    and then clients and users whose databases were still locked at the end of the wait of an earlier hook.
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
    before = (problem for problem in ledger.problems if untried and problem.topic == topic)
    return next(before, Problem(topic=topic, level=level, text=text, untried=untried))


def _notes(texts: Iterable[str]) -> Iterable[Problem]:
    for number, text in enumerate(texts):
        yield Problem(topic=f"left:{number}", level=Level.ACTIVE, text=text)


def _unfinished(facts: Facts, backend: BackendLogin) -> bool:
    asked = [grant_for(client.request) for client in facts.clients]
    return (
        facts.ledger.provisioned_for != backend.user
        or facts.auth is None
        or facts.ledger.auth_schema != facts.auth.schema_name
        or facts.auth.signed_for != digest_of(backend.password.get_secret_value())
        # The former auth user is dropped when no unit uses it any more.
        or not facts.ledger.made.names(AUTH).issubset(facts.auth.auth_users)
        or not facts.ledger.made.cluster
        or facts.roaming
        or facts.ledger.allowed != consent.consent_of(facts).names
        or any(problem.topic != SERVICE for problem in facts.ledger.troubles)
        or any(grant not in facts.ledger.grants for grant in asked)
        or facts.grants_to_keep != facts.ledger.grants
        or any(
            known.stage == "asked"
            or (known.expired(facts.now) and not waits_for_units(facts, known))
            for known in facts.ledger.rotations
        )
    )


def _has_ended(facts: Facts, rotation: Rotation) -> bool:
    """Return whether nothing but the role with the former name may be left of a rotation."""
    return rotation.expired(facts.now) and not (
        rotation.to_cut or waits_for_units(facts, rotation)
    )


def _former_users(facts: Facts, database: Database) -> set[str]:
    """Return the roles with former names that stay: while they can log in, and then while they have sessions.

    In the hook that begins a rotation, the next name is no user yet, and no role of that name is dropped.
    """
    expired = {known.former for known in rotations(facts) if known.expired(facts.now)}
    kept = {
        name for name in former_users(facts) if name not in expired or database.has_sessions(name)
    }
    for name in sorted(kept & expired):
        # A session of the client may have kept the role locked when its end was set.
        try:
            database.expire(name, 0)
        except AccessRefused as error:
            logger.warning("User %s can still log in to PostgreSQL: %s", name, error)
    return kept
