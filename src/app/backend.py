"""Use cases: the relation backend-database comes, changes and goes."""

import logging

from app.converge import Converge
from app.errors import DatabaseRefused, DatabaseUnreachable
from app.outcome import Deferred, Done, Outcome
from app.ports import Databases, Departures, World
from domain.facts import Facts
from domain.leadership import cleans_up, decides

logger = logging.getLogger(__name__)


class BackendChanged:
    """The hooks backend-database-relation-created and -changed.

    - Users are made in PostgreSQL once PgBouncer runs and the connection facts are complete.
    - The leader makes them and shares what the others need; those wait for it.
    """

    def __init__(self, world: World, converge: Converge) -> None:
        self._world = world
        self._converge = converge

    def __call__(self) -> Outcome:
        """The pools lead to PostgreSQL."""
        facts = self._world.look()
        if not facts.container.runs:
            # The request need not wait: the answer takes time.
            facts = self._converge(facts).facts
            if not facts.container.runs:
                return Deferred(facts, "waiting for PgBouncer to run")
        if decides(facts) and facts.backend.credentials is None:
            facts = self._converge(facts).facts
            return Deferred(facts, facts.backend.problem)
        outcome = self._converge(facts, thorough=True)
        if outcome.facts.backend_ready:
            return outcome
        if decides(facts):
            return Deferred(outcome.facts, "waiting for PostgreSQL")
        return Deferred(outcome.facts, "waiting for the leader to share the backend")


class BackendDeparted:
    """The backend-database-relation-departed hook.

    - A unit that leaves says so, and cleans nothing up: the others go on.
    - When the relation ends, the leader removes what is ours from PostgreSQL while it still can.
    """

    def __init__(
        self, world: World, databases: Databases, departures: Departures, converge: Converge
    ) -> None:
        self._world = world
        self._databases = databases
        self._departures = departures
        self._converge = converge

    def __call__(self, departing: str, *, last_unit: bool = False) -> Outcome:
        """Nothing of ours is left in a PostgreSQL that is no longer ours.

        `last_unit` tells that no unit of this application is going to stay.
        """
        facts = self._world.look().model_copy(update={"last_unit": last_unit})
        if departing == facts.unit:
            self._departures.flag()
            facts = facts.model_copy(update={"leaving": True})
        if cleans_up(facts):
            self._withdraw(facts)
        return Done(facts) if facts.leaving else self._converge(facts)

    def _withdraw(self, facts: Facts) -> None:
        backend = facts.backend.credentials
        if backend is None or not facts.ledger.provisioned_for:
            return
        try:
            with self._databases.open(backend) as database:
                database.withdraw()
        except (DatabaseUnreachable, DatabaseRefused) as error:
            logger.warning("Users of ours may be left in PostgreSQL: %s", error)


class BackendBroken:
    """The backend-database-relation-broken hook.

    A unit that leaves does nothing more. The others stop serving and forget the passwords.
    """

    def __init__(self, world: World, converge: Converge) -> None:
        self._world = world
        self._converge = converge

    def __call__(self) -> Outcome:
        """Nobody is led to a PostgreSQL that is no longer ours."""
        facts = self._world.look()
        return Done(facts) if facts.leaving else self._converge(facts)
