"""Who may have how many connections to PostgreSQL, so that all together never have too many?

`max_db_connections` is shared out twice: by the leader to units, and by each unit to its processes. Both
times whoever has too much gives up first, and only what is free is handed out.
"""

from collections.abc import Iterable, Sequence

from domain.pools import Plan, has_read_only_pools, read_only_part, share
from domain.value import Count, Value

# More processes than this on one address gain nothing: the kernel spreads connections at random.
MOST_PROCESSES = 16

# Of one connection whose client thinks, nobody else has any use while others wait in the next process.
MIN_CONNECTIONS_PER_POOL = 2

#: What a process may have that had no limit.
UNLIMITED = 2**31 - 1


class UnitBudget(Value):
    """What a unit says of its part of max_db_connections."""

    share: Count = 0  #: the part that it works under
    held: Count = 0  #: the most connections to one database that it may still have


def unit_limit(plan: Plan, unit: str) -> int:
    """The most connections to one database that a unit may have as planned; MANY without a limit."""
    return plan.share_of(unit) if plan.settings.max_db_connections else UNLIMITED


def stake(plan: Plan, unit: str, leases: Iterable["ProcessHolding"]) -> UnitBudget:
    """What a unit says that has configured its processes as planned."""
    if not plan.settings.max_db_connections:
        return UnitBudget()
    mine = plan.share_of(unit)
    return UnitBudget(
        share=mine, held=max(mine, min(UNLIMITED, sum(lease.held for lease in leases)))
    )


class UnitAllotment(Value):
    """What the leader knows of a unit's part."""

    told: int  #: as the plan has it
    stake: UnitBudget

    @property
    def held(self) -> int:
        """The most that the unit may have now or as soon as it reads the plan."""
        return max(self.told, self.stake.held)

    @property
    def settled(self) -> bool:
        """Whether the unit works under what it was told: until then anything else would be a guess."""
        return self.stake.share == self.told


def next_unit_limits(
    total: int, claims: Sequence[UnitAllotment], reserved: int = 0
) -> tuple[int, ...]:
    """The next share of each unit; again and again, it ends in even ones.

    At any moment the sum of what units may have stays within the total, unless that was lowered.
    `reserved` is what units that leave may still have.
    """
    free = total - reserved - sum(claim.held for claim in claims)
    shares: list[int] = []
    for index, claim in enumerate(claims):
        wanted = share(total, len(claims), index)
        if not claim.settled:
            wanted = claim.told
        elif wanted > claim.held:
            more = max(0, min(wanted - claim.held, free))
            free -= more
            wanted = claim.held + more
        shares.append(wanted)
    return tuple(shares)


class Process(Value):
    """One PgBouncer process that shall run."""

    index: int
    port: int
    limit: int  #: connections to one database; 0 is no limit
    readers: bool = False  #: whether it has pools that lead to replicas


def processes(plan: Plan, unit: str, cpus: int) -> tuple[Process, ...]:
    """The processes that a unit shall run in the end, those of the current port first.

    Every open port has as many as the others: one for each processor, and fewer where the share of the
    unit is too small to give each pool of each process two connections. Where it is too small for two
    ports, the old one closes at once, and where it is too small for one, nothing runs.
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
        ((plan.lane ^ turn) * MOST_PROCESSES + number, port)
        for turn, port in enumerate(ports)
        for number in range(each)
    ]
    return tuple(
        Process(index=index, port=port, limit=share(total, count, place), readers=readers)
        for place, (index, port) in enumerate(places)
    )


class ProcessHolding(Value):
    """The most that a process may have, be it from before."""

    index: int
    held: int  #: never less than its limit, and MANY without one
    readers: bool = False  #: whether its pools for replicas have their part of that


def next_process_limits(
    wanted: Sequence[Process], total: int, leases: Iterable[ProcessHolding]
) -> tuple[Process, ...]:
    """How far each process can go now towards what it shall have; one that gets nothing has to wait.

    `total` is what all of them may have, MANY without a limit; `leases` are those of all processes that
    run or still end.
    """
    had = {lease.index: lease for lease in leases}
    free = total if total == UNLIMITED else total - sum(lease.held for lease in had.values())
    found: list[Process] = []
    for process in wanted:
        lease = had.get(process.index, ProcessHolding(index=process.index, held=0))
        limit = process.limit or UNLIMITED
        if limit > lease.held:
            more = max(0, min(limit - lease.held, free))
            free -= more if total < UNLIMITED else 0
            limit = lease.held + more
        if limit:
            found.append(_with_readers(process, lease, limit))
    return tuple(found)


def _with_readers(process: Process, lease: ProcessHolding, limit: int) -> Process:
    """What a process can have now, with pools for replicas if what they need is free.

    Those that it has already cannot be made to leave their connections to others by a smaller number:
    PgBouncer only opens no more. So they give up first, and then the new pools appear.
    """
    readers = process.readers
    if readers and not lease.readers and limit < UNLIMITED:
        others = limit - read_only_part(limit)
        readers = lease.held <= others > 0
        if not readers:
            limit = max(1, others)
    update = {"limit": 0 if limit == UNLIMITED else limit, "readers": readers}
    return process.model_copy(update=update)
