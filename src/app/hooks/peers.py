"""Use cases: the units of the application come, speak and go."""

from app.converge import Converge
from app.intents.withdraw_access import WithdrawAccess
from app.outcome import Deferred, Done, Outcome
from app.ports import Departures, FactsSource, Peers
from domain.leadership import may_write_for_app


class PeersCreated:
    """The pgb-peers-relation-created hook: every unit says where it is.

    A leader without a configuration has nothing to share yet.
    """

    def __init__(self, world: FactsSource, peers: Peers, converge: Converge) -> None:
        self._world = world
        self._peers = peers
        self._converge = converge

    def __call__(self) -> Outcome:
        """This unit's address is known, and what can be shared is."""
        facts = self._world.read()
        if not facts.configured:
            self._peers.announce(facts.address, None, facts.stake)
            if may_write_for_app(facts):
                return Deferred(facts, "waiting for a configuration to share")
            return Done(facts)
        return self._converge(facts)


class PeersChanged:
    """The pgb-peers-relation-changed hook, and that of a changed secret.

    The leader learns what the others serve; the others do what the leader shared.
    """

    def __init__(self, world: FactsSource, converge: Converge) -> None:
        self._world = world
        self._converge = converge

    def __call__(self) -> Outcome:
        """This unit is where the others are."""
        return self._converge(self._world.read())


class PeersDeparted:
    """The pgb-peers-relation-departed hook.

    The leader divides the server connections among the remaining units. A unit that is being removed
    announces that and leaves all decisions to the other units. If no unit stays, the leader removes the
    roles of this application from PostgreSQL.
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
        """Announce the departure of this unit, or converge without the unit that departs."""
        facts = self._world.read()
        if departing == facts.unit:
            if self._departures.flag():
                facts = self._world.read()
            return Done(self._withdraw(facts))
        return self._converge(facts)
