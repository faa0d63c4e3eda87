"""Intent: the PgBouncer processes of this unit run with the plan of the leader."""

import dataclasses
import logging

from app.errors import ConsoleFailed, PoolerFailed, PoolerUnreachable
from app.outcome import AskAgain, Done
from app.ports import Consoles, Peers, Pooler
from domain.applied import AppliedState
from domain.budget import UnitBudget, reported_budget, unit_limit
from domain.change import Change, next_change
from domain.console import most_connections
from domain.facts import Facts
from domain.plan import Plan
from domain.planning import limit_known_to_peers
from domain.problems import Level, Problem
from domain.tls_told import announcement, cannot_verify, plan_to_apply, tls_ends

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
    - When TLS becomes required, sessions without TLS end within a minute.
    - TLS ends only after clients were told.
    """

    pooler: Pooler
    consoles: Consoles
    peers: Peers
    verify: bool

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Apply the plan to the processes, and announce what this unit serves."""
        complete, problem = True, None
        try:
            if plan := plan_to_apply(facts):
                program = facts.container.program or self.pooler.program()
                facts = facts.with_container(facts.container.with_program(program))
                while facts.supported:
                    known = facts.container.applied
                    change = next_change(facts, plan, program)
                    if change.to_other_server:
                        self._reconnect_all(facts)
                    if change.needed or (self.verify and not facts.container.runs):
                        self.pooler.remember(change.in_transition)
                        self.pooler.apply(change)
                        _log(change)
                        facts = facts.with_container(
                            facts.container.applying(change.after, change.restarted)
                        )
                    kept = self._wait_for_surplus(facts, plan, change.after)
                    if kept != facts.container.applied:
                        self.pooler.remember(kept)
                        facts = facts.with_container(facts.container.remembering(kept))
                    complete = change.complete and not kept.above_limit and not kept.ending
                    # A larger limit waits for the smaller limit of another process: two changes, rarely three.
                    if complete or kept == known:
                        break
                facts, complete = self._end_plain_sessions(facts, complete=complete)
        except PoolerFailed as error:
            logger.warning("The configuration of PgBouncer stays as it is: %s", error)
            problem = _problem(error)
        if facts.container.timed_out:
            # The container is still there, so that no pebble-ready event will follow.
            return AskAgain(facts, "waiting for the pgbouncer container")
        serving, budget = announcement(facts), facts.budget if problem else _budget(facts)
        if not facts.leaving:
            self.peers.announce(facts.address, serving, budget)
        facts = facts.announcing(serving, budget)
        # What clients are told, the leader reads without an event.
        telling = tls_ends(facts) or (facts.leader and cannot_verify(facts))
        waits = telling or facts.notes_certificates
        return _outcome(facts, problem, complete=complete and not waits)

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

    def _end_plain_sessions(self, facts: Facts, *, complete: bool) -> tuple[Facts, bool]:
        """End sessions without TLS that began before TLS was required; return the facts, and whether none is left.

        A session in a transaction has some more hooks to end the transaction.
        """
        record = facts.container.applied
        if record is None or not record.plain or facts.auth is None:
            return facts, complete
        left, present = 0, {process.index for process in record.instances}
        for process in record.running:
            try:
                with self.consoles.open(process.index, process.port, facts.auth) as console:
                    left += console.end_plain_sessions(at_once=record.plain == 1)
            except ConsoleFailed as error:
                # The console of a process that ends may not answer any more.
                left += process.index in present
                logger.warning(
                    "PgBouncer process %d does not show its clients: %s", process.index, error
                )
        record = record.ending_plain(left)
        self.pooler.remember(record)
        facts = facts.with_container(facts.container.remembering(record))
        return facts, complete and not record.plain

    def _wait_for_surplus(self, facts: Facts, plan: Plan, record: AppliedState) -> AppliedState:
        """Close server connections above the limits, and return the record with those that stay."""
        sessions = "session" in (plan.settings.pool_mode, *plan.settings.overrides.modes)
        measured: dict[int, int] = {}
        for process in record.above_limit:
            # Without users of PgBouncer, the configuration has no pools that keep server connections.
            if facts.auth is None:
                measured[process.index] = 0
                continue
            try:
                with self.consoles.open(process.index, process.port, facts.auth) as console:
                    now = console.drain_surplus(
                        _PATIENCE / len(record.above_limit), reconnect=not sessions
                    )
            except ConsoleFailed as error:
                logger.warning(
                    "PgBouncer process %d does not show its server connections: %s",
                    process.index,
                    error,
                )
            else:
                measured[process.index] = most_connections(now)
        return record.holding(measured)


def _log(change: Change) -> None:
    """Log what was done with the processes, in a single line."""
    done = ", ".join(f"{step.action} process {step.index}" for step in change.steps)
    serving = change.after.serving
    logger.info(
        "PgBouncer: %s; databases: %d, port: %d",
        done or "new files",
        len(serving.databases),
        serving.port,
    )


def _problem(error: PoolerFailed) -> Problem:
    level = Level.WAITING if isinstance(error, PoolerUnreachable) else Level.BLOCKED
    return Problem(topic="pooler", level=level, text=str(error))


def _outcome(facts: Facts, problem: Problem | None, *, complete: bool) -> Done | AskAgain:
    """Return Done unless the processes, or connections of other processes, need time."""
    if problem:
        waits = problem.level is Level.WAITING
        return AskAgain(facts, problem.text, (problem,)) if waits else Done(facts, (problem,))
    return Done(facts) if complete else AskAgain(facts, _reason(facts))


def _reason(facts: Facts) -> str:
    plan, applied = facts.plan, facts.container.applied
    known = plan is None or limit_known_to_peers(facts) >= unit_limit(plan, facts.unit)
    restarts = applied and plan and applied.restarts < plan.restarts_of(facts.unit)
    reasons = (
        (not known, "waiting until the other units know of the new limit"),
        (tls_ends(facts), "waiting until clients know that TLS ends"),
        (cannot_verify(facts), "waiting until clients know the new authority"),
        (applied and applied.plain, "waiting for sessions without TLS to end"),
        (restarts, "waiting for processes that restart"),
        (facts.notes_certificates, "waiting until clients can log in by certificate"),
        (True, "waiting for connections to be given up"),
    )
    return next(text for holds, text in reasons if holds)


def _budget(facts: Facts) -> UnitBudget:
    """Return the budget to announce; until a configuration was applied, the budget that was announced before."""
    applied = facts.container.applied
    if applied is None or facts.plan is None:
        return facts.budget
    return reported_budget(facts.plan, facts.unit, applied.running)
