"""The division of `max_db_connections` among units and processes, so that their sum stays within the limit.

The leader divides the limit among the units, and each unit divides its share among its processes. A unit
or a process whose share becomes smaller closes connections first; only free connections are given away.
"""

from collections.abc import Iterable, Sequence

from domain.plan import Plan, share
from domain.pools import has_read_only_pools, read_only_part
from domain.process import UNLIMITED, Process, RunningProcess
from domain.value import Count, Value

# More processes than this on a single address gain nothing: the kernel spreads connections at random.
MOST_PROCESSES = 16

# Clients of another process cannot use an idle server connection, so a pool of a single connection makes clients
# wait although connections are free.
MIN_CONNECTIONS_PER_POOL = 2


class UnitBudget(Value):
    """The part of max_db_connections that a unit has, as the unit reports it."""

    # The part that the processes of the unit are configured with.
    share: Count = 0
    # The most connections to a database that the unit may still have.
    held: Count = 0


def unit_limit(plan: Plan, unit: str) -> int:
    """Return the most connections to a database that a unit may have by the plan; UNLIMITED without a limit."""
    return plan.share_of(unit) if plan.settings.max_db_connections else UNLIMITED


def reported_budget(plan: Plan, unit: str, running: Iterable[RunningProcess]) -> UnitBudget:
    """Return the budget of a unit whose processes are configured by the plan."""
    if not plan.settings.max_db_connections:
        return UnitBudget()
    unit_share = plan.share_of(unit)
    held = min(UNLIMITED, sum(process.most for process in running))
    return UnitBudget(share=unit_share, held=max(unit_share, held))


class UnitAllotment(Value):
    """The share of a unit in the plan, and the budget that the unit has reported."""

    # The share in the plan.
    told: int
    budget: UnitBudget

    @property
    def held(self) -> int:
        """Return the most connections that the unit may have now or after it has read the plan."""
        return max(self.told, self.budget.held)

    @property
    def confirmed(self) -> bool:
        """Return whether the processes of the unit are configured with the share in the plan."""
        return self.budget.share == self.told


def next_unit_limits(
    total: int, claims: Sequence[UnitAllotment], reserved: int = 0
) -> tuple[int, ...]:
    """Return the next share of each unit; after several rounds the shares are even.

    The sum of the connections that units may have stays within `total`, unless the operator lowered it.
    `reserved` is the number of connections that departed units may still have. A unit that has not
    reported the share in the plan keeps that share.
    """
    free = total - reserved - sum(claim.held for claim in claims)
    shares: list[int] = []
    for index, claim in enumerate(claims):
        wanted = share(total, len(claims), index)
        if not claim.confirmed:
            wanted = claim.told
        elif wanted > claim.held:
            more = max(0, min(wanted - claim.held, free))
            free -= more
            wanted = claim.held + more
        shares.append(wanted)
    return tuple(shares)


def processes(plan: Plan, unit: str, cpus: int) -> tuple[Process, ...]:
    """Return the processes that a unit runs by the plan, first the processes of the current port.

    Every open port has the same number of processes: a process for each processor, or fewer processes
    if the share of the unit is too small to give each pool of each process two connections. If the share
    is too small for two ports, the former port closes at once. If it is too small for a single port, the
    unit runs no process.
    """
    cpus, ports, total = max(1, min(cpus, MOST_PROCESSES)), plan.ports, 0
    each = cpus
    if plan.settings.max_db_connections:
        total = plan.share_of(unit)
        least = 2 if has_read_only_pools(plan) else 1
        if total < least * len(ports):
            ports = ports[:1]
        pools = least * len(ports)
        each = min(cpus, total // pools, max(1, total // (MIN_CONNECTIONS_PER_POOL * pools)))
    count, readers = each * len(ports), has_read_only_pools(plan)
    places = [
        ((plan.process_set ^ turn) * MOST_PROCESSES + number, port)
        for turn, port in enumerate(ports)
        for number in range(each)
    ]
    return tuple(
        Process(index=index, port=port, limit=share(total, count, place), readers=readers)
        for place, (index, port) in enumerate(places)
    )


def next_process_limits(
    wanted: Sequence[Process], total: int, running: Iterable[RunningProcess]
) -> tuple[Process, ...]:
    """Return the wanted processes with the limits that they can have now.

    A process for which no connection is free is left out. `total` is the limit of all processes together;
    UNLIMITED without a limit. `running` has all processes that run or still end.
    """
    had = {process.index: process for process in running}
    free = total if total == UNLIMITED else total - sum(known.most for known in had.values())
    limited: list[Process] = []
    for process in wanted:
        known = had.get(process.index)
        held = known.most if known else 0
        limit = process.limit or UNLIMITED
        if limit > held:
            more = max(0, min(limit - held, free))
            free -= more if total < UNLIMITED else 0
            limit = held + more
        if limit:
            reads = known is not None and known.readers
            limited.append(_with_readers(process, limit, held, reads=reads))
    return tuple(limited)


def _with_readers(process: Process, limit: int, held: int, *, reads: bool) -> Process:
    """Return a process with this limit, and with read-only pools if the connections that they need are free.

    `held` is the most connections that the process may have now, and `reads` says whether it has read-only
    pools. A smaller limit does not close open connections of PgBouncer: PgBouncer only opens no more. So the
    other pools of the process close connections first, and then the read-only pools appear.
    """
    readers = process.readers
    if readers and not reads and limit < UNLIMITED:
        writable = limit - read_only_part(limit)
        readers = held <= writable > 0
        if not readers:
            limit = max(1, writable)
    return process.limited(0 if limit == UNLIMITED else limit, readers=readers)
