"""The next change of the PgBouncer processes of a unit."""

from typing import NamedTuple

from domain.applied import AppliedState, Step, applied_state, in_transition, server_changed, steps
from domain.budget import next_process_limits, processes, unit_limit
from domain.capabilities import PgBouncerRuntime
from domain.client_tls import ClientTls
from domain.facts import Facts
from domain.instances import PoolerConfig, pooler_config
from domain.plan import Plan
from domain.planning import limit_known_to_peers
from domain.tls_told import served_pair


class Change(NamedTuple):
    """A change from the configuration that the processes of a unit run with to the next configuration."""

    config: PoolerConfig
    # The record of the configuration before; None if none was applied.
    before: AppliedState | None
    # The record of `config`, to keep when all steps are taken.
    after: AppliedState
    # What to do with each process, in this order.
    steps: tuple[Step, ...]
    # Every process that the plan has runs with `config`. Else a process waits for connections of another.
    complete: bool = True

    @property
    def needed(self) -> bool:
        """Return whether the configuration differs from the configuration before."""
        return self.after != self.before

    @property
    def restarted(self) -> frozenset[int]:
        """Return the indexes of the processes that the change restarts."""
        return frozenset(step.index for step in self.steps if step.action == "restart")

    @property
    def to_other_server(self) -> bool:
        """Return whether the pools lead to another server than before."""
        return server_changed(self.before, self.after)

    @property
    def in_transition(self) -> AppliedState:
        """Return the record to keep while the steps are taken."""
        return in_transition(self.before, self.after)


def change_to(
    config: PoolerConfig,
    program: PgBouncerRuntime,
    before: AppliedState | None = None,
    running: frozenset[int] = frozenset(),
) -> Change:
    """Return the change to a configuration; `running` has the indexes of the processes that run now."""
    after = applied_state(config, program, before, running)
    return Change(config, before, after, steps(before, after, running))


def next_change(facts: Facts, shared: Plan, program: PgBouncerRuntime) -> Change:
    """Return the change towards the plan that this unit can make now, with the connections that are free.

    Several changes may follow each other: a larger limit of a process waits for the smaller limit of another.
    """
    container, plan = facts.container, plan_of_unit(facts, shared)
    before = container.applied and container.applied.without_ended(container.ending)
    planned = processes(plan, facts.unit, program.cpus)
    total = min(unit_limit(plan, facts.unit), limit_known_to_peers(facts))
    free = next_process_limits(planned, total, before.running if before else ())
    # A supervisor does not start a process that it has told to stop and that has not ended yet.
    # PgBouncer starts without a listener if an exporter has its port.
    taken = container.exporter_ports.difference(p.port for p in (before.running if before else ()))
    run = tuple(p for p in free if p.index not in container.ending and p.port not in taken)
    restarts, later = _restarts(facts, plan, before)
    tls = ClientTls(
        pair=served_pair(facts),
        authorities=facts.received_authorities,
        trusted=before.trusted if before else (),
        now=facts.now,
    )
    config = pooler_config(
        plan, facts.unit, program, facts.layout, facts.auth, run, tls,
        exported=facts.telemetry.metrics, restarts=restarts,
    )  # fmt: skip
    change = change_to(config, program, before, container.running)
    return change._replace(complete=run == planned and not later)


def _restarts(
    facts: Facts, plan: Plan, before: AppliedState | None
) -> tuple[dict[int, int], bool]:
    """Return the number of the restart of each process that runs, and whether a process has to restart later.

    Processes restart in turn: a process is restarted when every process of the unit runs. A paused process is
    not restarted, because the clients that wait would lose their connections.
    """
    container, allowed = facts.container, plan.restarts_of(facts.unit)
    known = before.instances if before else ()
    had = {process.index: process.restarts for process in known}
    behind = sorted(index for index in had.keys() & container.running if had[index] < allowed)
    # A larger number is of an order whose plan was lost, because its hook was killed.
    numbers = {index: max(number, allowed) for index, number in had.items()}
    numbers |= {index: had[index] for index in behind}
    ready = container.runs and not container.restarting and not plan.paused
    if behind and ready:
        numbers[behind[0]] = allowed
    return numbers, len(behind) > ready


def plan_of_unit(facts: Facts, plan: Plan) -> Plan:
    """Return what this unit configures of a plan: no server and no databases while it has no server."""
    # The leader may not have heard yet that the backend has gone. For a unit that is being removed the
    # relation ends before its clients have left.
    return plan if facts.backend.attached or facts.leaving else plan.without_upstream()
