"""Intent: all units know what to do, and where their leader is."""

import logging

from app.errors import DatabaseRefused, DatabaseUnreachable
from app.outcome import Deferred, Done, Outcome
from app.ports import Databases, Peers
from domain import planning
from domain.facts import Facts
from domain.leadership import may_write_for_app

logger = logging.getLogger(__name__)


class ShareConfiguration:
    """The leader decides, once there is a configuration; the others read.

    The connections of a unit that has left are handed out when PostgreSQL sees none of them any more.
    """

    def __init__(self, peers: Peers, databases: Databases) -> None:
        self._peers = peers
        self._databases = databases

    def __call__(self, facts: Facts, *, verify: bool) -> Outcome:
        """What is shared is what the facts call for."""
        if not may_write_for_app(facts):
            return Done(facts)
        if facts.leader_address != facts.address:
            self._peers.name_leader(facts.address)
            facts = facts.model_copy(update={"leader_address": facts.address})
        if not facts.configured:
            return Done(facts)
        wanted = planning.plan(facts, self._ended(facts))
        if wanted != facts.plan:
            self._peers.share(wanted)
            agreed = planning.agreed(facts, wanted)
            facts = facts.model_copy(update={"plan": wanted, "agreed": agreed})
        if waiting := planning.missing(facts):
            names = ", ".join(one.name for one in waiting)
            return Deferred(facts, f"waiting for the last transactions of {names}", soon=True)
        return Done(facts)

    def _ended(self, facts: Facts) -> frozenset[str]:
        """Units that have left, and whose connections have ended."""
        left, backend = planning.missing(facts), facts.backend.credentials
        if not left or backend is None or not facts.backend.attached:
            return frozenset(one.name for one in left)
        try:
            with self._databases.open(backend) as database:
                return frozenset(one.name for one in left if not database.knows(one.address))
        except (DatabaseUnreachable, DatabaseRefused) as error:
            logger.warning("The connections of units that have left stay reserved: %s", error)
            return frozenset()
