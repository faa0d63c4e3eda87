"""Use cases: applications come, ask and go."""

from app.converge import Converge
from app.outcome import Deferred, Done, Outcome
from app.ports import Departures, FactsSource
from domain.leadership import may_write_for_app


class ClientsChanged:
    """The hooks database-relation-created and -changed.

    - Requests are the leader's to serve, once the backend is ready.
    - Each gets a user, its database and the roles asked for; credentials are published when every
      unit serves the database.
    - One that cannot be served is named in the status and keeps nobody else waiting.
    """

    def __init__(self, world: FactsSource, converge: Converge) -> None:
        self._world = world
        self._converge = converge

    def __call__(self) -> Outcome:
        """The client has what it asked for."""
        facts = self._world.read()
        if not may_write_for_app(facts):
            return Done(facts)
        outcome = self._converge(facts)
        if facts.clients and not outcome.facts.backend_ready and isinstance(outcome, Done):
            return Deferred(outcome.facts, "waiting for the backend database")
        return outcome


class ClientsDeparted:
    """The database-relation-departed hook: connection information is refreshed.

    A unit that is being removed announces that in its databags.
    """

    def __init__(self, world: FactsSource, departures: Departures, converge: Converge) -> None:
        self._world = world
        self._departures = departures
        self._converge = converge

    def __call__(self, departing: str) -> Outcome:
        """The clients that stay know how to connect."""
        facts = self._world.read()
        if departing == facts.unit:
            return Done(self._world.read() if self._departures.flag() else facts)
        return self._converge(facts)


class ClientsBroken:
    """The database-relation-broken hook.

    - The leader removes pools that no one else uses and drops the user; the data stays.
    - While the backend is not ready nothing can be dropped; that is made up for when it is back.
    """

    def __init__(self, world: FactsSource, converge: Converge) -> None:
        self._world = world
        self._converge = converge

    def __call__(self) -> Outcome:
        """The client that has gone cannot come in any more."""
        facts = self._world.read()
        if not may_write_for_app(facts):
            return Done(facts)
        return Done(self._converge(facts).facts)
