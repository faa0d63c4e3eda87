"""What an operator asks of a running application, as changes of the plan.

A function that changes the plan raises OrderRefused with a sentence if the operator asks for something that cannot
be done.
"""

from collections.abc import Iterable

from domain.facts import Facts
from domain.operations import ALL, Holder, KillOrder, Pause
from domain.plan import Plan

# The kills of a plan are numbered, so that each unit carries an order out once.
_MOST = 2**31 - 1

# Seconds by which the clocks of two leaders may differ. A clock that is further behind the beginning of a pause
# was set back, and the end of the pause may be years away.
_CLOCKS = 240


class OrderRefused(Exception):
    """What an operator asks cannot be done. The sentence says why, and what to do."""


def pausing(plan: Plan, database: str, now: float, timeout: int) -> Plan:
    """Return the plan with a pause; with `timeout` it is taken back unless it is complete by then.

    A pause of a database that cannot be taken back any more stays beside a pause of all databases, because that
    pause may be taken back.
    """
    _check_database(plan, database)
    if {database, ALL}.intersection(pause.database for pause in plan.paused):
        return plan
    until = int(now) + timeout if timeout else 0
    added = Pause(database=database, since=int(now), until=until)
    kept = tuple(pause for pause in plan.paused if database != ALL or not pause.until)
    return plan.pausing((*kept, added))


def resuming(plan: Plan, database: str) -> Plan:
    """Return the plan without the pause of a database; for ALL without any pause."""
    if database == ALL:
        return plan.pausing(())
    if ALL in plan.paused_databases:
        raise OrderRefused(
            f"all databases are paused, so {database} cannot be resumed alone: run resume without a database"
        )
    kept = tuple(pause for pause in plan.paused if pause.database != database)
    if kept == plan.paused:
        _check_database(plan, database)
    return plan.pausing(kept)


def disabling(plan: Plan, database: str) -> Plan:
    """Return the plan in which no client can log in to a database."""
    _check_database(plan, database)
    return plan.disabling((*plan.disabled, database))


def enabling(plan: Plan, database: str) -> Plan:
    """Return the plan in which clients can log in to a database."""
    if database not in plan.disabled:
        _check_database(plan, database)
    return plan.disabling(name for name in plan.disabled if name != database)


def restarting(plan: Plan, facts: Facts) -> Plan:
    """Return the plan in which every process is restarted once more."""
    if plan.paused:
        raise OrderRefused(
            "clients wait because of a pause, and would lose their connections: run resume first"
        )
    record = facts.container.applied
    done = [process.restarts for process in record.instances] if record else []
    for report in facts.reports.values():
        done += (report.restarts, report.lost_restart)
    return plan.restarting(_next(plan.restarts, done))


def reconnecting(plan: Plan, facts: Facts) -> Plan:
    """Return the plan in which every server connection is replaced once more."""
    record = facts.container.applied
    done = [record.reconnects] if record else []
    done += (report.reconnects for report in facts.reports.values())
    return plan.reconnecting(_next(plan.reconnects, done))


def killing(plan: Plan, order: KillOrder, facts: Facts) -> Plan:
    """Return the plan with an order to disconnect clients."""
    if order.database:
        _check_database(plan, order.database)
    record = facts.container.applied
    done = [record.kills] if record else []
    done += (report.kills for report in facts.reports.values())
    return plan.killing(order.numbered(_next(plan.kills.number, done)))


def _next(last: int, done: Iterable[int] = ()) -> int:
    """Return the number of the next order.

    If the hook of an order was killed, the plan has a smaller number than the units that carried the order out,
    and these would not carry out another order with its number.
    """
    return max((last, *done)) % _MOST + 1


def _check_database(plan: Plan, database: str) -> None:
    if database == ALL or database in plan.databases:
        return
    known = shortened(plan.databases)
    raise OrderRefused(
        f"there is no database {database[:63]!a}: there are {known}"
        if known
        else f"there is no database {database[:63]!a}: no application has a database yet"
    )


def shortened(names: Iterable[str], most: int = 20) -> str:
    """Return names, separated by commas, at most so many."""
    listed = sorted(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def named(databases: Iterable[str]) -> str:
    """Return the names of databases, e.g. `all databases` or `database shop`."""
    names = list(databases)
    if ALL in names:
        return "all databases"
    return ("database " if len(names) == 1 else "databases ") + shortened(names)


def waited_for(facts: Facts, pause: Pause) -> tuple[str, ...]:
    """Return the names of the members on which transactions may still run although there is a pause."""
    members = [member.name for member in facts.plan.members] if facts.plan else []
    reports = facts.reports
    return tuple(
        name
        for name in members
        if name in reports and not {pause.database, ALL}.intersection(reports[name].paused)
    )


def after_pauses(facts: Facts, plan: Plan) -> tuple[Plan, tuple[Pause, ...]]:
    """Return the plan without pauses that were not complete in time, and these pauses.

    A pause that is complete on every unit lasts until an operator ends it.
    """
    kept: list[Pause] = []
    expired: list[Pause] = []
    for pause in plan.paused:
        if pause.until and not waited_for(facts, pause):
            kept.append(pause.complete())
        elif pause.until and not pause.since - _CLOCKS <= facts.now < pause.until:
            expired.append(pause)
        else:
            kept.append(pause)
    return plan.pausing(tuple(kept)), tuple(expired)


def first_holder(facts: Facts) -> Holder | None:
    """Return the client that has kept a server connection longest, of those that the units wait for."""
    holders = [report.holder for report in facts.reports.values() if report.holder]
    return min(holders, key=lambda holder: holder.since, default=None)


def held_by(holder: Holder | None, now: float, waiting: Iterable[str]) -> str:
    """Return which client keeps a pause from being complete, or which units did not report."""
    if holder is None:
        return f"{shortened(waiting) or 'a unit'} did not report in time"
    idle = max(0, int(now) - holder.since)
    return (
        f"client {holder.address} (user {holder.user}, database {holder.database}) keeps a server connection of"
        f" process {holder.process} of {holder.unit}; its last request began {idle} s ago"
    )
