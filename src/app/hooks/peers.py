"""The hooks of the relation pgb-peers, between the units of the application."""

import dataclasses

from app.converge import Converge
from app.intents.withdraw_access import WithdrawAccess
from app.outcome import Deferred, Done, Outcome
from app.ports import Departures, FactsSource, Peers
from domain.leadership import may_write_for_app


@dataclasses.dataclass(frozen=True, slots=True)
class PeersCreated:
    """The pgb-peers-relation-created hook.

    Every unit writes its address to its databag. A leader without a configuration has nothing to share.
    """

    source: FactsSource
    peers: Peers
    converge: Converge

    def __call__(self) -> Outcome:
        """Announce the address of this unit, and converge if there is a configuration."""
        facts = self.source.read()
        if facts.configured:
            return self.converge(facts)
        self.peers.announce(facts.address, None, facts.budget)
        if may_write_for_app(facts):
            return Deferred(facts, "waiting for a configuration to share")
        return Done(facts)


@dataclasses.dataclass(frozen=True, slots=True)
class PeersChanged:
    """The hooks pgb-peers-relation-changed and secret-changed.

    The leader reads what the other units serve. The other units apply the plan that the leader shared.
    """

    source: FactsSource
    converge: Converge

    def __call__(self) -> Outcome:
        """Converge with what the other units wrote."""
        return self.converge(self.source.read())


@dataclasses.dataclass(frozen=True, slots=True)
class PeersDeparted:
    """The pgb-peers-relation-departed hook.

    The leader divides the server connections among the remaining units. A unit that is being removed
    announces that and leaves all decisions to the other units. If no unit stays, the leader removes the
    roles of this application from PostgreSQL.
    """

    source: FactsSource
    departures: Departures
    withdraw: WithdrawAccess
    converge: Converge

    def __call__(self, departing: str) -> Outcome:
        """Announce the departure of this unit, or converge without the unit that departs."""
        facts = self.source.read()
        if departing != facts.unit:
            return self.converge(facts)
        if self.departures.flag():
            facts = self.source.read()
        return Done(self.withdraw(facts))
