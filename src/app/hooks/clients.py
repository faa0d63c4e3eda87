"""The hooks of the relation database, with client applications."""

import dataclasses

from app.converge import Converge
from app.outcome import Deferred, Done, Outcome
from app.ports import Departures, FactsSource
from domain.leadership import may_write_for_app


@dataclasses.dataclass(frozen=True, slots=True)
class ClientsChanged:
    """The hooks database-relation-created and database-relation-changed.

    - The leader serves requests, when the backend is ready.
    - A client gets a user, its database and the roles that it asks for. Its credentials are published
      when every unit serves the database.
    - The status names a client that cannot be served. Other clients are served nevertheless.
    """

    source: FactsSource
    converge: Converge

    def __call__(self) -> Outcome:
        """Serve the requests if this unit is the leader, and defer while the backend is not ready."""
        facts = self.source.read()
        if not may_write_for_app(facts):
            return self.converge(facts) if facts.follows else Done(facts)
        # Converge also makes the backend ready, if an event that should have done so was lost.
        outcome = self.converge(facts)
        match outcome:
            case Done(facts=now, problems=problems) if now.clients and not now.backend_ready:
                return Deferred(now, "waiting for the backend database", problems)
            case _:
                return outcome


@dataclasses.dataclass(frozen=True, slots=True)
class ClientsDeparted:
    """The database-relation-departed hook: the connection information of clients is updated.

    A unit that is being removed announces that in its databags, and does nothing more.
    """

    source: FactsSource
    departures: Departures
    converge: Converge

    def __call__(self, departing: str) -> Outcome:
        """Announce the departure of this unit, or update the clients that stay."""
        facts = self.source.read()
        if departing != facts.unit:
            return self.converge(facts)
        return Done(self.source.read() if self.departures.flag() else facts)


@dataclasses.dataclass(frozen=True, slots=True)
class ClientsBroken:
    """The database-relation-broken hook.

    - The leader removes the pools that no other client uses, and drops the user. The data stays.
    - While the backend is not ready nothing can be dropped. A later hook drops it.
    """

    source: FactsSource
    converge: Converge

    def __call__(self) -> Outcome:
        """Take access away from the client that has left, if this unit is the leader."""
        facts = self.source.read()
        if may_write_for_app(facts) or facts.follows:
            return self.converge(facts)
        return Done(facts)
