"""Intent: PgBouncer runs with what the leader decided."""

import logging

from app.errors import ConsoleFailed, PoolerFailed, PoolerUnreachable
from app.outcome import Deferred, Done, Outcome
from app.ports import Consoles, Peers, Pooler
from domain.applied import AppliedState, applied, begun, server_changed, steps
from domain.budget import next_process_limits, processes, stake, unit_limit
from domain.capabilities import PgBouncerRuntime
from domain.console import held
from domain.facts import Container, Facts
from domain.instances import PoolerConfig, pooler_config
from domain.pools import Plan
from domain.status import Level, Problem

logger = logging.getLogger(__name__)

# How long the processes of a unit may take together to give up connections, in seconds.
_PATIENCE = 0.6


class ConfigurePooler:
    """Renders, starts and reloads, and tells the others what this unit serves.

    - Nothing is touched if the last configuration that was applied in full is the one wanted.
    - Processes change one after another: a reload where that is enough, else a restart.
    - A process that shall have fewer connections gives them up before another gets them.
    - A process that died is its supervisor's to bring back, unless this is to be thorough.
    """

    def __init__(self, pooler: Pooler, consoles: Consoles, peers: Peers) -> None:
        self._pooler = pooler
        self._consoles = consoles
        self._peers = peers

    def __call__(self, facts: Facts, *, verify: bool) -> Outcome:
        """The processes run as planned, and this unit's databag says so."""
        try:
            facts, complete = self._configured(facts, verify=verify)
        except PoolerFailed as error:
            logger.warning("The configuration of PgBouncer stays as it is: %s", error)
            passing = isinstance(error, PoolerUnreachable)
            level = Level.WAITING if passing else Level.BLOCKED
            problem = Problem(topic="pooler", level=level, text=str(error))
            failed = facts.model_copy(update={"problems": (*facts.problems, problem)})
            facts = self._announced(failed)
            return Deferred(facts, problem.text, soon=True) if passing else Done(facts)
        if facts.container.timed_out:
            # The container is still there, so that no pebble-ready event will follow.
            return Deferred(facts, "waiting for the pgbouncer container", soon=True)
        facts = self._announced(_with_stake(facts))
        if complete:
            return Done(facts)
        return Deferred(facts, _reason(facts), soon=True)

    def _configured(self, facts: Facts, *, verify: bool) -> tuple[Facts, bool]:
        """What is true then, and whether all is as planned."""
        container, shared = facts.container, facts.plan
        if not container.reachable or shared is None or "secret" in facts.unreadable:
            return facts, True
        program = container.program or self._pooler.program()
        facts = _with_container(facts, container.model_copy(update={"program": program}))
        if not facts.supported:
            return facts, True
        plan = _for_this_unit(facts, shared)
        while True:
            # Whoever can have more waits for those that shall have less: two rounds, hardly ever three.
            before = facts.container.applied
            facts, complete = self._nearer(facts, plan, program, verify=verify)
            if complete or facts.container.applied == before:
                return facts, complete

    def _nearer(
        self, facts: Facts, plan: Plan, program: PgBouncerRuntime, *, verify: bool
    ) -> tuple[Facts, bool]:
        """Every process has what is free to have; whether that is all it shall have."""
        container = facts.container
        before = container.applied and container.applied.without_ended(container.ending)
        planned = processes(plan, facts.unit, program.cpus)
        leases = before.leases() if before else ()
        total = min(unit_limit(plan, facts.unit), facts.agreed)
        free = next_process_limits(planned, total, leases)
        # A supervisor starts nothing that it has told to stop and that has not ended yet.
        run = tuple(one for one in free if one.index not in container.ending)
        config = pooler_config(plan, facts.unit, program, facts.layout, facts.auth, run)
        wanted = applied(config, program, before, container.running)
        if server_changed(before, wanted):
            self._leave(facts)
        if wanted != before or (verify and not container.runs):
            self._pooler.remember(begun(before, wanted))
            self._pooler.apply(config, wanted, steps(before, wanted, container.running))
            logger.info("PgBouncer now serves %d databases", len(wanted.serving.databases))
            # Whoever was told to stop has not ended in the same moment.
            now = {
                "applied": wanted,
                "running": frozenset(one.index for one in wanted.instances),
                "ending": frozenset(one.index for one in wanted.ending),
            }
            container = container.model_copy(update=now)
        kept = self._shed(facts, plan, config, wanted)
        if kept != container.applied:
            self._pooler.remember(kept)
            container = container.model_copy(update={"applied": kept})
        complete = run == planned and not kept.over and not kept.ending
        return _with_container(facts, container), complete

    def _leave(self, facts: Facts) -> None:
        """No process begins anything on the server before.

        Where the server's name has not changed, nothing else would tell them.
        """
        known, auth = facts.container.applied, facts.auth
        if known is None or auth is None:
            return
        for one in known.instances:
            try:
                with self._consoles.open(one.index, one.port, auth) as console:
                    console.reconnect()
            except ConsoleFailed as error:
                logger.warning("PgBouncer process %d cannot be told: %s", one.index, error)

    def _shed(
        self, facts: Facts, plan: Plan, config: PoolerConfig, told: AppliedState
    ) -> AppliedState:
        """The same, with what processes have after they were asked to have less."""
        ports = {instance.index: instance.port for instance in config.instances}
        sessions = "session" in (plan.settings.pool_mode, *plan.settings.overrides.modes)
        found: dict[int, int] = {}
        for one in told.over:
            if facts.auth is None:  # Then nothing is served, and nothing is kept open.
                found[one.index] = 0
                continue
            try:
                with self._consoles.open(one.index, ports[one.index], facts.auth) as console:
                    now = console.shed(_PATIENCE / len(told.over), reconnect=not sessions)
            except ConsoleFailed as error:
                logger.warning("PgBouncer process %d cannot be asked: %s", one.index, error)
            else:
                found[one.index] = held(now)
        return told.holding(found)

    def _announced(self, facts: Facts) -> Facts:
        serving = facts.container.applied.serving if facts.container.applied else None
        now = serving if facts.container.runs else None
        if not facts.leaving:
            self._peers.announce(facts.address, now, facts.stake)
        return facts.model_copy(update={"serving": now})


def _reason(facts: Facts) -> str:
    if facts.plan and facts.agreed < unit_limit(facts.plan, facts.unit):
        return "waiting until the other units know of the new limit"
    return "waiting for connections to be given up"


def _for_this_unit(facts: Facts, plan: Plan) -> Plan:
    # The leader may not have heard yet that the backend has gone. For a unit that is being removed the
    # relation ends before its clients have left.
    return plan if facts.backend.attached or facts.leaving else plan.without_upstream()


def _with_container(facts: Facts, container: Container) -> Facts:
    return facts.model_copy(update={"container": container})


def _with_stake(facts: Facts) -> Facts:
    """As long as nothing was configured, what this unit said before stays true."""
    known = facts.container.applied
    if known is None or facts.plan is None:
        return facts
    return facts.model_copy(update={"stake": stake(facts.plan, facts.unit, known.leases())})
