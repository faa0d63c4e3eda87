"""Use cases: the relation backend-database comes, changes and goes."""

from app.converge import Converge
from app.intents.withdraw_access import WithdrawAccess
from app.outcome import Deferred, Done, Outcome
from app.ports import Departures, FactsSource
from domain.leadership import may_write_for_app


class BackendChanged:
    """The hooks backend-database-relation-created and -changed.

    - Users are made in PostgreSQL once PgBouncer runs and the connection facts are complete.
    - The leader makes them and shares what the others need; those wait for it.
    """

    def __init__(self, world: FactsSource, converge: Converge) -> None:
        self._world = world
        self._converge = converge

    def __call__(self) -> Outcome:
        """The pools lead to PostgreSQL."""
        facts = self._world.read()
        if not facts.container.runs:
            # The request need not wait: the answer takes time.
            facts = self._converge(facts).facts
            if not facts.container.runs:
                return Deferred(facts, "waiting for PgBouncer to run")
        if may_write_for_app(facts) and facts.backend.credentials is None:
            facts = self._converge(facts).facts
            return Deferred(facts, facts.backend.problem)
        outcome = self._converge(facts, verify=True)
        if outcome.facts.backend_ready or isinstance(outcome, Deferred):
            return outcome
        if may_write_for_app(facts):
            return Deferred(outcome.facts, "waiting for PostgreSQL")
        return Deferred(outcome.facts, "waiting for the leader to share the backend")


class BackendDeparted:
    """The backend-database-relation-departed hook.

    - A unit that is being removed announces that in its databags, and removes no role: other units go on.
    - When the relation ends for all units, or no unit stays, the leader removes the roles of this
      application from PostgreSQL while it still can.
    """

    def __init__(
        self,
        world: FactsSource,
        departures: Departures,
        withdraw: WithdrawAccess,
        converge: Converge,
    ) -> None:
        self._world = world
        self._departures = departures
        self._withdraw = withdraw
        self._converge = converge

    def __call__(self, departing: str) -> Outcome:
        """Announce a departure, remove the roles if the relation ends for all units, and converge."""
        facts = self._world.read()
        if departing == facts.unit and self._departures.flag():
            facts = self._world.read()
        facts = self._withdraw(facts)
        return Done(facts) if facts.leaving else self._converge(facts)


class BackendBroken:
    """The backend-database-relation-broken hook.

    A unit that leaves does nothing more. The others stop serving and forget the passwords.
    """

    def __init__(self, world: FactsSource, converge: Converge) -> None:
        self._world = world
        self._converge = converge

    def __call__(self) -> Outcome:
        """Nobody is led to a PostgreSQL that is no longer ours."""
        facts = self._world.read()
        return Done(facts) if facts.leaving else self._converge(facts)


class BackendReturned:
    """PostgreSQL was away for some time, and answers again.

    It may be another server under the same name: then no connection stays with the one before.
    """

    def __init__(self, world: FactsSource, converge: Converge) -> None:
        self._world = world
        self._converge = converge

    def __call__(self) -> Outcome:
        """The pools lead to the server that answers."""
        return self._converge(self._world.read(), verify=True)
