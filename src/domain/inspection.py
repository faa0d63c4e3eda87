"""What an operator is shown of a unit: pools, clients, server connections, statistics and drift.

Every section is a text with a line for each row, and at most MOST_ROWS rows. So the size does not depend on
the number of clients.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from domain.console import (
    DatabaseStats,
    PooledDatabase,
    PoolState,
    ServerState,
    lines_not_applied,
)
from domain.facts import Facts
from domain.instances import Instance, PoolerConfig
from domain.operations import ALL, ClientSession
from domain.orders import named, shortened
from domain.plan import Plan
from domain.pools import aliases_of
from domain.process import Process
from domain.rotating import progress
from domain.status import assess
from domain.value import Value

# Rows of a section, and characters of a cell. The results of an action may have about 100 KB in all.
MOST_ROWS = 40
_MOST_LETTERS = 63
# Clients that are shown by themselves: those that have waited or been idle longest.
_MOST_CLIENTS = 20


class ProcessView(Value):
    """What the console of a process shows; only `failure` if it does not answer."""

    process: Process
    failure: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    paused: frozenset[str] = frozenset()
    databases: tuple[PooledDatabase, ...] = ()
    pools: tuple[PoolState, ...] = ()
    sessions: tuple[ClientSession, ...] = ()
    servers: tuple[ServerState, ...] = ()
    stats: tuple[DatabaseStats, ...] = ()


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], most: int = MOST_ROWS) -> str:
    """Return rows as a text with aligned columns; further rows are counted."""
    cells = [[_cell(value) for value in row] for row in rows]
    shown = [list(columns), *cells[:most]]
    widths = [max(len(row[place]) for row in shown) for place in range(len(columns))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]
    more = [f"… and {len(cells) - most} more"] if len(cells) > most else []
    return "\n".join([*lines, *more])


def _cell(value: object) -> str:
    text = "".join(letter if letter.isprintable() else "?" for letter in str(value))
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"


def sections(
    facts: Facts, views: Sequence[ProcessView], config: PoolerConfig | None
) -> dict[str, str]:
    """Return what `show` shows, by the name of the section."""
    return {
        "operations": "\n".join(_operations(facts)),
        "units": _units(facts),
        "drift": "\n".join(drift(facts, views, config)) or "none",
        "pools": _pools(views),
        "clients": _clients(views, facts.now),
        "servers": _servers(views),
        "stats": _stats(views),
    }


def _operations(facts: Facts) -> Iterator[str]:
    plan = facts.plan
    if plan is None:
        yield "there is no configuration yet"
        return
    yield f"paused: {named(plan.paused_databases) if plan.paused else 'nothing'}"
    yield f"disabled: {named(plan.disabled) if plan.disabled else 'nothing'}"
    for rotation in facts.ledger.rotations:
        if rotation.open:
            yield f"rotation of {rotation.username}: {progress(facts, rotation)}"
    yield f"restart {plan.restarts}, reconnect {plan.reconnects}, kill-clients {plan.kills.number}"


def _units(facts: Facts) -> str:
    """Return what each unit has reported. Only the leader sees the reports of other units."""
    rows = [
        (
            unit,
            shortened(["all databases" if name == ALL else name for name in report.paused]) or "-",
            report.holder.address if report.holder else "-",
            report.restarts,
            report.reconnects,
            report.kills,
            report.killed,
        )
        for unit, report in sorted(facts.reports.items())
    ]
    columns = ("unit", "paused", "waits for", "restart", "reconnect", "kill-clients", "killed")
    return table(columns, rows)


def drift(
    facts: Facts, views: Sequence[ProcessView], config: PoolerConfig | None
) -> Iterator[str]:
    """Yield each difference between what the plan of the leader decides and what the consoles show."""
    plan = facts.plan
    if plan is None or config is None:
        return
    wanted = {instance.index: instance for instance in config.instances}
    shown = {view.process.index: view for view in views}
    for index in sorted(wanted.keys() - shown.keys()):
        yield f"process {index} is decided, and does not run"
    for index in sorted(shown.keys() - wanted.keys()):
        yield f"process {index} runs, and is not decided"
    for index in sorted(wanted.keys() & shown.keys()):
        for line in _process_drift(plan, wanted[index], shown[index]):
            yield f"process {index}: {line}"


def _process_drift(plan: Plan, wanted: Instance, view: ProcessView) -> Iterator[str]:
    if view.failure:
        yield f"its console does not answer: {view.failure}"
        return
    known = {database.alias: database for database in view.databases}
    yield from lines_not_applied(wanted, dict(view.settings), known)
    for alias in sorted(known.keys() - {pool.alias for pool in wanted.pools}):
        yield f"database {alias} is pooled, and is not decided"
    if wanted.port != view.process.port:
        yield f"port {wanted.port} is decided, {view.process.port} is open"
    paused = aliases_of(plan, plan.paused_databases)
    for alias in sorted(paused - view.paused):
        yield f"{named((alias,))} is to be paused, and is not"
    for alias in sorted(view.paused - paused):
        yield f"{named((alias,))} is paused, and is not to be"


def _failures(views: Iterable[ProcessView]) -> str:
    return "".join(
        f"\nprocess {view.process.index} does not answer: {_cell(view.failure)}"
        for view in views
        if view.failure
    )


def _pools(views: Sequence[ProcessView]) -> str:
    rows = [
        (
            view.process.index, pool.alias, pool.user, pool.mode, pool.clients_active,
            pool.clients_waiting, pool.servers_active, pool.servers_idle, f"{pool.longest_wait:.1f}",
        )
        for view in views
        for pool in view.pools
    ]  # fmt: skip
    rows.sort(key=lambda row: (-row[5], -row[4], row[0], row[1], row[2]))
    columns = (
        "process", "database", "user", "mode", "clients active", "clients waiting",
        "servers active", "servers idle", "longest wait",
    )  # fmt: skip
    return table(columns, rows) + _failures(views)


def _clients(views: Sequence[ProcessView], now: float) -> str:
    """Return the number of clients of each kind, and the clients whose last request is longest ago."""
    every = [(view.process.index, client) for view in views for client in view.sessions]
    kinds = Counter((client.alias, client.user, client.state) for _, client in every)
    counted = [
        (*kind, number)
        for kind, number in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    ]
    every.sort(key=lambda item: (item[1].since, item[0], item[1].number))
    rows = [
        (
            index, client.number, client.alias, client.user, client.address, client.state,
            "yes" if client.linked else "no", max(0, int(now) - client.since),
            max(0, int(now) - client.connected), client.application,
        )
        for index, client in every[:_MOST_CLIENTS]
    ]  # fmt: skip
    columns = (
        "process", "id", "database", "user", "address", "state", "has a server",
        "seconds since request", "seconds since login", "application",
    )  # fmt: skip
    counts = table(("database", "user", "state", "clients"), counted)
    return (
        f"{len(every)} clients\n{counts}\nlast request longest ago:\n{table(columns, rows)}"
        + _failures(views)
    )


def _servers(views: Sequence[ProcessView]) -> str:
    kinds = Counter(
        (view.process.index, server.alias, server.user, server.state, server.address)
        for view in views
        for server in view.servers
    )
    rows = [(*kind, number) for kind, number in sorted(kinds.items())]
    columns = ("process", "database", "user", "state", "address", "server connections")
    return table(columns, rows) + _failures(views)


def _stats(views: Sequence[ProcessView]) -> str:
    rows = [
        (
            view.process.index, stats.alias, stats.transactions, stats.queries,
            stats.transactions_per_second, stats.queries_per_second,
            stats.transaction_microseconds, stats.wait_microseconds,
        )
        for view in views
        for stats in view.stats
    ]  # fmt: skip
    columns = (
        "process", "database", "transactions", "queries", "transactions/s", "queries/s",
        "average transaction (us)", "average wait (us)",
    )  # fmt: skip
    return table(columns, rows) + _failures(views)


# Characters of a section of a support bundle.
_MOST_SECTION = 12_000


def bundle(
    facts: Facts,
    views: Sequence[ProcessView],
    config: PoolerConfig | None,
    secrets: Collection[str] = (),
) -> dict[str, str]:
    """Return a support bundle by sections: what `show` shows, the status, options and decisions, without secrets.

    `secrets` are texts that never appear in the bundle, wherever they come from.
    """
    plan, record = facts.plan, facts.container.applied
    program = facts.container.program
    found = {
        **sections(facts, views, config),
        "status": "\n".join(f"{line.level}: {line.text}" for line in assess(facts)),
        "versions": f"PgBouncer {program.version if program else 'unknown'}, PostgreSQL"
        f" {plan.upstream.version if plan and plan.upstream else 'unknown'}",
        "unit": f"{facts.unit} at {facts.address}, {'leads' if facts.leader else 'follows'}",
        "options": plan.settings.model_dump_json(indent=1) if plan else "",
        "members": table(
            ("unit", "address", "processors", "share", "held", "restarts"),
            [
                (unit.name, unit.address, unit.processors, unit.share, unit.held, unit.restarts)
                for unit in (plan.members if plan else ())
            ],
        ),
        "databases": shortened(plan.databases, 100) if plan else "",
        "grants": table(
            ("user", "database", "roles"),
            [(g.username, g.database, ",".join(g.roles)) for g in facts.ledger.grants],
        ),
        "problems": "\n".join(problem.text for problem in facts.ledger.problems),
        "processes": table(
            ("process", "port", "limit", "held", "runs"),
            [
                (p.index, p.port, p.limit, p.held, p.index in facts.container.running)
                for p in (record.instances if record else ())
            ],
        ),
        "configuration": "\n".join(_configuration(config)),
    }
    return {name: _without(text, secrets)[:_MOST_SECTION] for name, text in found.items()}


def _configuration(config: PoolerConfig | None) -> Iterator[str]:
    """Yield the lines of [pgbouncer] of the first process, and those in which other processes differ."""
    lines: Mapping[str, str] = {}
    for instance in config.instances if config else ():
        own = dict(instance.settings)
        yield f"process {instance.index}:"
        yield from (
            f"  {name} = {value}" for name, value in own.items() if lines.get(name) != value
        )
        lines = lines or own


def _without(text: str, secrets: Collection[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "…") if secret else text
    return text
