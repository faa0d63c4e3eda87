"""The hooks of the relation backend-database, with PostgreSQL."""

import dataclasses

from app.converge import Converge
from app.intents.withdraw_access import WithdrawAccess
from app.outcome import Deferred, Done, Outcome
from app.ports import Departures, FactsSource
from domain.leadership import may_write_for_app


@dataclasses.dataclass(frozen=True, slots=True)
class BackendChanged:
    """The hooks backend-database-relation-created and backend-database-relation-changed.

    - Roles are made in PostgreSQL once PgBouncer runs and the login is complete.
    - The leader makes them and shares what other units need. The other units wait for that.
    """

    source: FactsSource
    converge: Converge
    verify: Converge

    def __call__(self) -> Outcome:
        """Connect the pools to PostgreSQL; defer until PgBouncer runs and the login to PostgreSQL is there."""
        facts = self.source.read()
        if not facts.container.runs:
            # The request need not wait for PgBouncer: PostgreSQL's charm takes time to answer it.
            outcome = self.converge(facts)
            facts = outcome.facts
            if not facts.container.runs:
                return Deferred(facts, "waiting for PgBouncer to run", outcome.problems)
        if may_write_for_app(facts) and facts.backend.credentials is None:
            outcome = self.converge(facts)
            return Deferred(outcome.facts, facts.backend.problem, outcome.problems)
        outcome = self.verify(facts)
        match outcome:
            case Done(facts=now, problems=problems) if not now.backend_ready:
                if may_write_for_app(facts):
                    return Deferred(now, "waiting for PostgreSQL", problems)
                # The facts show when the leader has shared it.
                reason = "waiting for the leader to share the backend"
                return Deferred(now, reason, problems, complete=outcome.complete)
            case _:
                return outcome


@dataclasses.dataclass(frozen=True, slots=True)
class BackendDeparted:
    """The backend-database-relation-departed hook.

    - A unit that is being removed announces that in its databags, and removes no role: other units go on.
    - When the relation ends for all units, or no unit stays, the leader removes the roles of this
      application from PostgreSQL while its login works.
    """

    source: FactsSource
    departures: Departures
    withdraw: WithdrawAccess
    converge: Converge

    def __call__(self, departing: str) -> Outcome:
        """Announce a departure, remove the roles if the relation ends for all units, and converge."""
        facts = self.source.read()
        if departing == facts.unit and self.departures.flag():
            facts = self.source.read()
        facts = self.withdraw(facts)
        return Done(facts) if facts.leaving else self.converge(facts)


@dataclasses.dataclass(frozen=True, slots=True)
class BackendBroken:
    """The backend-database-relation-broken hook.

    A unit that is being removed does nothing. The other units stop serving and remove the passwords.
    """

    source: FactsSource
    converge: Converge

    def __call__(self) -> Outcome:
        """Remove the pools and the passwords, unless this unit is being removed."""
        facts = self.source.read()
        return Done(facts) if facts.leaving else self.converge(facts)
