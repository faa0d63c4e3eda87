"""Give clients their users and databases over a single connection to PostgreSQL."""

import logging
from collections.abc import Iterable

from app.database_ports import Database
from app.errors import AccessRefused, DatabaseBusy, DatabaseRefused, NoTimeLeft
from domain import consent
from domain.facts import Client, Facts
from domain.made import CLIENT
from domain.problems import Level, Problem
from domain.rotating import rotation_for
from domain.rotation import Rotation
from domain.users import AccessRequest, Grant, grant_for

logger = logging.getLogger(__name__)


def topic_of(username: str) -> str:
    """Return the topic of the problems of a client user."""
    return f"client:{username}"


class GrantRound:
    """Gives clients their users and databases, and collects the grants, problems and ownership to record."""

    def __init__(self, facts: Facts, database: Database, kept: Iterable[Grant]) -> None:
        self._facts = facts
        self._database = database
        self._consent = consent.consent_of(facts)
        self.made = database.made()
        # Grants in another server do not hold in this server.
        here = facts.ledger.made.cluster in ("", self.made.cluster)
        self._before = {grant.username: grant for grant in facts.ledger.grants} if here else {}
        self._pending = dict(self._before)
        self._above_limit = consent.above_database_limit(facts.clients, self._before)
        self._applications: dict[str, str] = {}
        self._databases: dict[str, consent.ServerDatabase] = {}
        self._noted_before = {database.oid for database in self.made.databases}
        self.given = list(kept)
        self.problems: list[Problem] = []
        # The rotations whose users have their new names now.
        self.renamed: list[Rotation] = []
        # The users whose passwords could not be set.
        self.unchanged = set[str]()
        self._note()
        # A release that recorded no databases made the grants. Their databases are recorded first, so that
        # the order in which clients are served does not decide to which application a database belongs.
        for client in self.clients():
            if before := self._before.get(client.request.username):
                self._belongs(before, client.request.application)
        self._note()

    def clients(self) -> list[Client]:
        """Return the clients in the order in which they are served: clients with a grant come first."""
        return consent.serving_order(self._facts.clients, self._before)

    def give(self, request: AccessRequest) -> bool | None:
        """Give a client its user and database; return whether the user has no password yet, None if refused."""
        grant = grant_for(request)
        who = f"{request.application} (relation {grant.relation_id})"
        before = self._before.get(grant.username)
        self._pending.pop(grant.username, None)
        existing = self._databases.get(grant.database)
        try:
            verdict = self._verdict(request, grant, existing, before)
            refused = f"{who} {verdict.problem}" if verdict.problem else ""
            if refused and before is None:
                return self._refused(grant, refused, before)
            # A client that is refused keeps what it has, so its user is rotated all the same.
            rotation = rotation_for(self._facts, request)
            if rotation and rotation.stage == "asked":
                self._rename(rotation)
            locked = (
                False if refused else self._database.grant(grant, existing.oid if existing else 0)
            )
            if rotation and rotation.stage == "asked":
                self.renamed.append(rotation.reaching("renamed"))
                logger.info("%s has the new user name %s", who, grant.username)
            if refused:
                return self._refused(grant, refused, before)
        except AccessRefused as error:
            return self._refused(grant, f"{who}: {error}", before, error)
        self.given.append(grant)
        if grant != before:
            logger.info("%s has user %s and database %s", who, grant.username, grant.database)
        known = existing is not None and self.made.owner_of(existing.oid)
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

    def _rename(self, rotation: Rotation) -> None:
        """Give a client's role its new name. Raises AccessRefused.

        A session of the client can lock its role for as long as it wants. Sessions that end anyway, end now.
        """
        try:
            self._database.rename(rotation.former, rotation.current)
        except DatabaseBusy:
            if not rotation.at_once:
                raise
            self._database.end_sessions(rotation.former)
            self._database.rename(rotation.former, rotation.current)

    def refuse(self, request: AccessRequest, error: DatabaseRefused) -> None:
        """Replace the grant that a client has just got by the problem that keeps the client from using it."""
        grant = grant_for(request)
        self.unchanged.add(grant.username)
        self.given = [given for given in self.given if given.username != grant.username]
        # The next hook renames again, which changes nothing, and then sets the password that failed here.
        self.renamed = [known for known in self.renamed if known.current != grant.username]
        text = f"{request.application} (relation {grant.relation_id}): {error}"
        self._refused(grant, text, self._before.get(grant.username), error)

    def roamed(self) -> tuple[str, ...]:
        """Return the databases that clients made and that get pools; revoke CONNECT on them from PUBLIC."""
        self._note()
        databases = self._databases.values()
        usable, unusable = consent.databases_made_by_clients(databases, self.made, self.given)
        if unusable:
            logger.warning("PgBouncer can have no pool of the databases %s", ", ".join(unusable))
        clients = self.made.names(CLIENT)
        for database in databases:
            new = database.oid not in self._noted_before
            if database.owner in clients and new and database.open:
                self._database.close(database.name)
        return usable

    def _verdict(
        self,
        request: AccessRequest,
        grant: Grant,
        existing: consent.ServerDatabase | None,
        before: Grant | None,
    ) -> consent.Verdict:
        if grant.username in self._above_limit:
            return consent.Verdict(problem=consent.TOO_MANY_DATABASES)
        given = (*self.given, *self._pending.values())
        on_database = consent.on_database(
            request, grant, existing, self.made, given, before, self._consent
        )
        if on_database.problem:
            return on_database
        asked = [role for role in grant.roles if role not in self._consent.roles]
        rights = self._database.role_rights(asked, grant.database) if asked else ()
        on_roles = consent.on_roles(rights, before, self._consent)
        if on_roles.problem:
            return on_roles
        return consent.Verdict(note="; it ".join(filter(None, (on_roles.note, on_database.note))))

    def _refused(
        self, grant: Grant, text: str, before: Grant | None, error: DatabaseRefused | None = None
    ) -> None:
        """Record why a client is refused; a grant that it had before stays."""
        if before:
            self.given.append(before)
        topic = topic_of(grant.username)
        if isinstance(error, NoTimeLeft):
            # The problem that an earlier hook recorded is the latest information about this client.
            ledger = self._facts.ledger
            known = [problem for problem in ledger.problems if problem.topic == topic]
            waiting = Problem(topic=topic, level=Level.WAITING, text=text, untried=True)
            self.problems += known or [waiting]
            return
        level = Level.WAITING if isinstance(error, DatabaseBusy) else Level.BLOCKED
        self.problems.append(Problem(topic=topic, level=level, text=text))

    def _belongs(self, grant: Grant, application: str) -> None:
        """Record the application of a client, and of its database if no application has that database yet."""
        self._applications.setdefault(grant.username, application)
        if database := self._databases.get(grant.database):
            self._applications.setdefault(database.group, application)

    def _note(self) -> None:
        """Read the roles and databases again, and record to which application each database belongs."""
        self._databases = {
            database.name: database for database in self._database.server_databases()
        }
        made = self.made.with_roles(self._database.made().roles)
        self.made = consent.with_databases(made, self._databases.values(), self._applications)
