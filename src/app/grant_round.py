"""What are clients given in a single conversation with PostgreSQL?"""

import logging
from collections.abc import Iterable

from app.errors import AccessRefused, DatabaseBusy, NoTimeLeft
from app.ports import Database
from domain import consent
from domain.facts import Client, Facts
from domain.made import CLIENT
from domain.status import Level, Problem
from domain.users import AccessRequest, Grant, grant_for

logger = logging.getLogger(__name__)


def topic_of(username: str) -> str:
    """Return the topic of the problems of a client user."""
    return f"client:{username}"


class GrantRound:
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

    def clients(self) -> list[Client]:
        """The clients in the order in which they are served: what was given before goes first."""
        return consent.in_order(self._facts.clients, self._before)

    def give(self, request: AccessRequest) -> bool | None:
        """Give a client what it asks for: whether it has no password yet; None if it was refused."""
        grant = grant_for(request)
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
            return self._refused(grant, f"{who}: {error}", before, error)
        self.given.append(grant)
        self._applications.setdefault(grant.username, request.application)
        self._note(grant.database, request.application)
        if verdict.note:
            topic = f"consent:{grant.username}"
            text = f"{who} {verdict.note}"
            self.problems.append(Problem(topic=topic, level=Level.ACTIVE, text=text))
        return locked

    def refuse(self, request: AccessRequest, error: AccessRefused) -> None:
        """Note that what was given to a client just now is of no use to it."""
        grant = grant_for(request)
        self.given = [one for one in self.given if one.username != grant.username]
        text = f"{request.application} (relation {grant.relation_id}): {error}"
        self._refused(grant, text, self._before.get(grant.username), error)

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

    def _refused(
        self, grant: Grant, text: str, before: Grant | None, error: AccessRefused | None = None
    ) -> None:
        """Note why a client is refused; what was given to it before stays."""
        if before:
            self.given.append(before)
        topic = topic_of(grant.username)
        if isinstance(error, NoTimeLeft):
            # What was seen of this client by an earlier hook is still the best that is known.
            known = [one for one in self._facts.ledger.problems if one.topic == topic]
            waiting = Problem(topic=topic, level=Level.WAITING, text=text, untried=True)
            self.problems += known or [waiting]
            return
        level = Level.WAITING if isinstance(error, DatabaseBusy) else Level.BLOCKED
        self.problems.append(Problem(topic=topic, level=level, text=text))

    def _note(self, database: str = "", application: str = "") -> None:
        """Look at the databases, and note whose they are."""
        self._holdings = {one.name: one for one in self._database.holdings()}
        if found := self._holdings.get(database):
            self._applications.setdefault(found.group, application)
        roles = self._database.made().roles
        made = self.made.model_copy(update={"roles": roles})
        self.made = consent.noted(made, self._holdings.values(), self._applications)
