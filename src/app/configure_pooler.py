"""Intent: PgBouncer runs with what the leader decided."""

import logging

from app.errors import PoolerFailed
from app.outcome import Done, Outcome
from app.ports import Peers, Pooler
from domain.facts import Container, Facts
from domain.instances import applied, pooler_config, steps
from domain.pools import Plan
from domain.status import Level, Problem

logger = logging.getLogger(__name__)


class ConfigurePooler:
    """Renders, starts and reloads, and tells the others what this unit serves.

    - Nothing is touched if the last configuration that was applied in full is the one wanted.
    - Processes change one after another: a reload where that is enough, else a restart.
    - A process that died is its supervisor's to bring back, unless this is to be thorough.
    """

    def __init__(self, pooler: Pooler, peers: Peers) -> None:
        self._pooler = pooler
        self._peers = peers

    def __call__(self, facts: Facts, *, thorough: bool) -> Outcome:
        """The processes run as planned, and this unit's databag says so."""
        try:
            facts = self._configured(facts, thorough=thorough)
        except PoolerFailed as error:
            logger.warning("The configuration of PgBouncer stays as it is: %s", error)
            problem = Problem(topic="pooler", level=Level.BLOCKED, text=str(error))
            facts = facts.model_copy(update={"problems": (*facts.problems, problem)})
        return Done(self._announced(facts))

    def _configured(self, facts: Facts, *, thorough: bool) -> Facts:
        container, shared = facts.container, facts.plan
        if not container.reachable or shared is None:
            return facts
        version = container.version or self._pooler.version()
        facts = _with_container(facts, container.model_copy(update={"version": version}))
        if not facts.supported:
            return facts
        plan = _for_this_unit(facts, shared)
        config = pooler_config(plan, facts.unit, container.cpus, version, facts.layout, facts.auth)
        wanted = applied(config, version)
        if wanted == container.applied and (container.runs or not thorough):
            return facts
        todo = steps(container.applied, wanted, container.running)
        self._pooler.apply(config, wanted, todo)
        logger.info("PgBouncer now serves %d databases", len(wanted.serving.databases))
        update = {"applied": wanted, "running": frozenset(one.index for one in wanted.instances)}
        return _with_container(facts, facts.container.model_copy(update=update))

    def _announced(self, facts: Facts) -> Facts:
        serving = facts.container.applied.serving if facts.container.applied else None
        now = serving if facts.container.runs else None
        if not facts.leaving:
            self._peers.announce(facts.address, now)
        return facts.model_copy(update={"serving": now})


def _for_this_unit(facts: Facts, plan: Plan) -> Plan:
    # The leader may not have heard yet that the backend has gone.
    return plan if facts.backend.attached else plan.without_upstream()


def _with_container(facts: Facts, container: Container) -> Facts:
    return facts.model_copy(update={"container": container})
