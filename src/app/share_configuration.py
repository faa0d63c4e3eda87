"""Intent: all units know what to do, and where their leader is."""

from app.outcome import Done, Outcome
from app.ports import Peers
from domain import planning
from domain.facts import Facts
from domain.leadership import decides


class ShareConfiguration:
    """The leader decides, once there is a configuration; the others read."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    def __call__(self, facts: Facts, *, thorough: bool) -> Outcome:
        """What is shared is what the facts call for."""
        if not decides(facts):
            return Done(facts)
        if facts.leader_address != facts.address:
            self._peers.name_leader(facts.address)
        if not facts.configured:
            return Done(facts)
        wanted = planning.plan(facts)
        if wanted != facts.plan:
            self._peers.share(wanted)
        return Done(facts.model_copy(update={"plan": wanted, "leader_address": facts.address}))
