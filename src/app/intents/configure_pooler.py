"""Intent: the PgBouncer processes of this unit run with the plan of the leader."""

import dataclasses
import logging

from app.errors import ConsoleFailed, PoolerFailed, PoolerUnreachable
from app.outcome import AskAgain, Done
from app.ports import Consoles, Peers, Pooler
from domain.applied import AppliedState, applied, begun, server_changed, steps
from domain.budget import UnitBudget, next_process_limits, processes, stake, unit_limit
from domain.capabilities import PgBouncerRuntime
from domain.console import held
from domain.facts import Facts
from domain.instances import PoolerConfig, pooler_config
from domain.plan import Plan
from domain.planning import limit_known_to_peers
from domain.problems import Level, Problem

logger = logging.getLogger(__name__)

# Seconds that all processes of a unit together may take to close surplus server connections.
_PATIENCE = 0.6


@dataclasses.dataclass(frozen=True, slots=True)
class ConfigurePooler:
    """Write the configuration, start, reload or stop processes, and announce what this unit serves.

    - If the last configuration that was applied in full is the wanted configuration, nothing changes.
    - Processes change in turn: by a reload if that is enough, else by a restart.
    - A process with a smaller limit closes server connections before another process may open them.
    - A process that died is started again by its supervisor; with `verify`, by this intent, too.
    """

    pooler: Pooler
    consoles: Consoles
    peers: Peers
    verify: bool

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Apply the plan to the processes, and announce what this unit serves."""
        try:
            facts, complete = self._configured(facts)
        except PoolerFailed as error:
            logger.warning("The configuration of PgBouncer stays as it is: %s", error)
            passing = isinstance(error, PoolerUnreachable)
            level = Level.WAITING if passing else Level.BLOCKED
            problem = Problem(topic="pooler", level=level, text=str(error))
            facts = self._announced(facts, facts.stake)
            if passing:
                return AskAgain(facts, problem.text, (problem,))
            return Done(facts, (problem,))
        if facts.container.timed_out:
            # The container is still there, so that no pebble-ready event will follow.
            return AskAgain(facts, "waiting for the pgbouncer container")
        facts = self._announced(facts, _stake_of(facts))
        if complete:
            return Done(facts)
        return AskAgain(facts, _reason(facts))

    def _configured(self, facts: Facts) -> tuple[Facts, bool]:
        """Return the facts after the configuration, and whether all processes run by the plan."""
        container, shared = facts.container, facts.plan
        if not container.reachable or shared is None or "secret" in facts.unreadable:
            return facts, True
        program = container.program or self.pooler.program()
        facts = facts.with_container(container.with_program(program))
        if not facts.supported:
            return facts, True
        plan = _for_this_unit(facts, shared)
        while True:
            # A larger limit of a process waits for the smaller limit of another: two rounds, rarely three.
            before = facts.container.applied
            facts, complete = self._apply_one_round(facts, plan, program)
            if complete or facts.container.applied == before:
                return facts, complete

    def _apply_one_round(
        self, facts: Facts, plan: Plan, program: PgBouncerRuntime
    ) -> tuple[Facts, bool]:
        """Configure each process with the connections that are free.

        Return the facts after that, and whether all processes run by the plan.
        """
        container = facts.container
        before = container.applied and container.applied.without_ended(container.ending)
        planned = processes(plan, facts.unit, program.cpus)
        leases = before.leases() if before else ()
        total = min(unit_limit(plan, facts.unit), limit_known_to_peers(facts))
        free = next_process_limits(planned, total, leases)
        # A supervisor does not start a process that it has told to stop and that has not ended yet.
        run = tuple(process for process in free if process.index not in container.ending)
        config = pooler_config(plan, facts.unit, program, facts.layout, facts.auth, run)
        wanted = applied(config, program, before, container.running)
        if server_changed(before, wanted):
            self._reconnect_all(facts)
        if wanted != before or (self.verify and not container.runs):
            self.pooler.remember(begun(before, wanted))
            self.pooler.apply(config, wanted, steps(before, wanted, container.running))
            logger.info("PgBouncer now serves %d databases", len(wanted.serving.databases))
            container = container.applying(wanted)
        kept = self._wait_for_surplus(facts, plan, config, wanted)
        if kept != container.applied:
            self.pooler.remember(kept)
            container = container.remembering(kept)
        complete = run == planned and not kept.over and not kept.ending
        return facts.with_container(container), complete

    def _reconnect_all(self, facts: Facts) -> None:
        """Let no process begin a transaction on the former server.

        PgBouncer does not notice that another server has the same host name.
        """
        known, auth = facts.container.applied, facts.auth
        if known is None or auth is None:
            return
        for process in known.instances:
            try:
                with self.consoles.open(process.index, process.port, auth) as console:
                    console.reconnect()
            except ConsoleFailed as error:
                logger.warning("PgBouncer process %d cannot reconnect: %s", process.index, error)

    def _wait_for_surplus(
        self, facts: Facts, plan: Plan, config: PoolerConfig, record: AppliedState
    ) -> AppliedState:
        """Close server connections above the limits, and return the record with those that stay."""
        ports = {instance.index: instance.port for instance in config.instances}
        sessions = "session" in (plan.settings.pool_mode, *plan.settings.overrides.modes)
        measured: dict[int, int] = {}
        for process in record.over:
            # Without users of PgBouncer, the configuration has no pools that keep server connections.
            if facts.auth is None:
                measured[process.index] = 0
                continue
            try:
                with self.consoles.open(
                    process.index, ports[process.index], facts.auth
                ) as console:
                    now = console.shed(_PATIENCE / len(record.over), reconnect=not sessions)
            except ConsoleFailed as error:
                logger.warning(
                    "PgBouncer process %d does not show its server connections: %s",
                    process.index,
                    error,
                )
            else:
                measured[process.index] = held(now)
        return record.holding(measured)

    def _announced(self, facts: Facts, stake: UnitBudget) -> Facts:
        """Announce what this unit serves and its budget, and return the facts after that."""
        container = facts.container
        serving = container.applied.serving if container.applied and container.runs else None
        if not facts.leaving:
            self.peers.announce(facts.address, serving, stake)
        return facts.announcing(serving, stake)


def _reason(facts: Facts) -> str:
    if facts.plan and limit_known_to_peers(facts) < unit_limit(facts.plan, facts.unit):
        return "waiting until the other units know of the new limit"
    return "waiting for connections to be given up"


def _for_this_unit(facts: Facts, plan: Plan) -> Plan:
    # The leader may not have heard yet that the backend has gone. For a unit that is being removed the
    # relation ends before its clients have left.
    return plan if facts.backend.attached or facts.leaving else plan.without_upstream()


def _stake_of(facts: Facts) -> UnitBudget:
    """Return the budget to announce; until a configuration was applied, the budget that was announced before."""
    applied = facts.container.applied
    if applied is None or facts.plan is None:
        return facts.stake
    return stake(facts.plan, facts.unit, applied.leases())
