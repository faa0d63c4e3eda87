"""Intent: the peer databag has the plan for all units, and the address of the leader."""

import dataclasses
import logging

from app.errors import DatabaseRefused, DatabaseUnreachable
from app.outcome import AskAgain, Done
from app.ports import Databases, Peers
from domain import planning
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.plan import Plan
from domain.verification import verified_login

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class ShareConfiguration:
    """Makes the plan and shares it, on the leader, once there is a configuration.

    The connections of a unit that has left are given to other units when PostgreSQL sees none of them.
    """

    peers: Peers
    databases: Databases

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Share the plan that follows from the facts, if the peer databag has another."""
        if not may_write_for_app(facts):
            return Done(facts)
        if facts.leader_address != facts.address:
            logger.info("This unit leads now, at %s", facts.address)
            self.peers.name_leader(facts.address)
            facts = facts.naming_leader()
        if not facts.configured:
            return Done(facts)
        wanted = planning.plan(facts, self._without_connections(facts))
        if wanted != facts.plan:
            logger.info(
                "The plan for all units changes: %s", ", ".join(_changed(facts.plan, wanted))
            )
            self.peers.share(wanted)
            facts = facts.sharing(wanted)
        if holding := planning.departed_holding_connections(facts):
            names = ", ".join(unit.name for unit in holding)
            return AskAgain(facts, f"waiting for the last transactions of {names}")
        return Done(facts)

    def _without_connections(self, facts: Facts) -> frozenset[str]:
        """Return the names of the departed units whose connections to PostgreSQL have ended."""
        departed, backend = planning.departed_holding_connections(facts), verified_login(facts)
        if not departed or backend is None or not facts.backend.attached:
            return frozenset(unit.name for unit in departed)
        try:
            with self.databases.open(backend) as database:
                return frozenset(
                    unit.name
                    for unit in departed
                    if not database.has_connection_from(unit.address)
                )
        except (DatabaseUnreachable, DatabaseRefused) as error:
            logger.warning("The connections of units that have left stay reserved: %s", error)
            return frozenset()


def _changed(before: Plan | None, after: Plan) -> list[str]:
    """Return the names of the parts of a plan that differ. Their values may be long, and are in the databag."""
    return [
        name for name in Plan.model_fields if getattr(before, name, None) != getattr(after, name)
    ]
