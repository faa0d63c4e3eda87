"""The rows about what clients see: is it well, waiting, pools."""

from domain.dashboard.panels import Column, Panel, Query, Row, Step, Text, Unit
from domain.dashboard.selectors import (
    EACH_PROCESS,
    SELECTED,
    clients,
    databases,
    of,
    pools,
    rate,
    summed,
)

_NONE = {0: Text("none", "green")}
_WAITING = pools("client_waiting_connections")
_LONGEST = pools("client_maxwait_seconds")


def well_row() -> Row:
    """Return a line of numbers: all are green while clients are served."""
    # A process whose exporter does not answer has no series but `up`.
    silent = f'((up{{{SELECTED},process!=""}} == 0) or ({of("up")} == 0))'
    slots = f"{of('used_clients')} / {of('config_max_client_connections')}"
    return Row(
        "Is it well?",
        (
            _number(
                "Silent processes",
                "PgBouncer processes that did not answer the last scrape, or whose exporter did not."
                " The row Processes says which.",
                f"count({silent}) or vector(0)",
                (Step(1, "red"),),
            ),
            _number(
                "Paused databases",
                "Databases that are paused or disabled in a process. Clients of a paused database wait"
                " until RESUME; clients of a disabled database are refused.",
                f"count(count by (name) ({_held()} > 0)) or vector(0)",
                (Step(1, "orange"),),
            ),
            _number(
                "Clients waiting",
                "Clients that have sent a query, or log in, and have no server connection yet.",
                summed(_WAITING),
                (Step(1, "orange"),),
            ),
            _number(
                "Longest wait",
                "How long the client that waits longest has waited, in whole seconds. It is 0 for"
                " a client that waits while it logs in: look at Clients waiting, too.",
                f"max({_LONGEST})",
                (Step(1, "orange"), Step(10, "red")),
                unit="s",
            ),
            _number(
                "Time spent waiting",
                "Of the time in which clients wait for a server connection or use it, the part that"
                " they wait. 0 % is best.",
                f"({_wait_share()}) or vector(0)",
                (Step(0.01, "orange"), Step(0.05, "red")),
                unit="percentunit",
                decimals=1,
            ),
            _number(
                "Fullest process",
                "Client connections of the process that has most of them, as a part of max_client_conn. At"
                " 100 % it refuses clients.",
                f"max({slots})",
                (Step(0.7, "orange"), Step(0.8, "red")),
                unit="percentunit",
            ),
            _number(
                "Fullest database",
                "Server connections that clients use, of the connections that max_db_connections allows,"
                " for the database with the highest share. At 100 % further transactions wait. Without"
                " a limit it is 0 %.",
                f"max({_limit_share()}) or vector(0)",
                (Step(0.9, "orange"),),
                unit="percentunit",
            ),
            _number(
                "Clients connected",
                "Clients that are logged in, over all processes.",
                summed(clients(EACH_PROCESS)),
            ),
        ),
    )


def waiting_row() -> Row:
    """Return who waits, how long, and how much of a transaction is waiting."""
    wait, used, transactions = (
        summed(rate(metric))
        for metric in (
            "client_wait_seconds",
            "server_in_transaction_seconds",
            "sql_transactions_pooled",
        )
    )
    return Row(
        "Waiting",
        (
            Panel(
                "timeseries",
                "Clients that wait, by database and user",
                "Clients without a server connection. A few for a moment are normal. A line that"
                " stays above 0 is a pool that is too small, transactions that are too long, or a"
                " PostgreSQL that does not answer.",
                (Query(summed(_WAITING, "database, user"), "{{database}}, user {{user}}"),),
                decimals=0,
            ),
            _by_database(
                "Longest wait",
                "The wait of the client that waits longest. PgBouncer ends a client that has waited"
                " for query_wait_timeout. A client that waits while it logs in counts as 0.",
                f"max by (database) ({_LONGEST})",
                unit="s",
            ),
            Panel(
                "timeseries",
                "Time of a transaction: waiting and running",
                "Mean of all transactions. If waiting grows, more server connections help. If running"
                " grows, PostgreSQL or the transactions are slow, and more connections do not help.",
                (
                    Query(f"{used} / ({transactions} > 0)", "uses the connection"),
                    Query(f"{wait} / ({transactions} > 0)", "waits for a connection"),
                ),
                unit="s",
                stacked=True,
            ),
            _by_database(
                "Share of time that clients wait",
                "Of the time in which clients wait for a server connection or use it, the part that"
                " they wait. A wait counts when it has ended. An objective (SLO) counts this share.",
                _wait_share("database"),
                unit="percentunit",
            ),
        ),
    )


def pools_row() -> Row:
    """Return the server connections of the pools, their limits, and what they carry."""
    states = {
        "server_active_connections": "used by a client",
        "server_idle_connections": "free",
        "server_used_connections": "free, will be checked before use",
        "server_testing_connections": "being reset or checked",
        "server_login_connections": "logging in to PostgreSQL",
    }
    return Row(
        "Pools",
        (
            Panel(
                "timeseries",
                "Server connections, by state",
                "Connections to PostgreSQL. While none is free, further transactions wait, if the limit"
                " is reached.",
                tuple(Query(summed(pools(metric)), name) for metric, name in states.items()),
                stacked=True,
                decimals=0,
            ),
            Panel(
                "bargauge",
                "Server connections in use, of the limit",
                "Server connections that clients use, of the connections that max_db_connections"
                " allows to the selected processes. At 100 % further transactions wait.",
                (Query(_limit_share(), "{{database}}"),),
                unit="percentunit",
                width=6,
                most=1,
                decimals=0,
                steps=(Step(0.9, "orange"),),
                empty="no limit",
            ),
            Panel(
                "state-timeline",
                "Paused and disabled databases",
                "Paused: clients wait until RESUME. Disabled: new clients are refused. A database counts"
                " if any process has paused it.",
                (Query(f"max by (name) ({_held()})", "{{name}}"),),
                width=6,
                texts={
                    0: Text("open", "green"),
                    1: Text("paused", "orange"),
                    2: Text("disabled", "red"),
                    3: Text("disabled and paused", "red"),
                },
            ),
            _by_database(
                "Transactions per second",
                "Transactions that ended.",
                summed(rate("sql_transactions_pooled"), "database"),
                width=8,
            ),
            _by_database(
                "Queries per second",
                "Queries; a transaction has at least 1.",
                summed(rate("queries_pooled"), "database"),
                width=8,
            ),
            Panel(
                "timeseries",
                "Traffic of clients",
                "Bytes that PgBouncer received from clients, and sent to clients.",
                (
                    Query(summed(rate("received_bytes")), "from clients"),
                    Query(summed(rate("sent_bytes")), "to clients"),
                ),
                unit="Bps",
                width=8,
            ),
            _pools_table(),
        ),
    )


def _pools_table() -> Panel:
    columns = {
        "client_active_connections": "Clients",
        "client_waiting_connections": "Clients that wait",
        "server_active_connections": "Server connections in use",
        "server_idle_connections": "Server connections free",
    }
    by = "database, user"
    return Panel(
        "table",
        "Pools now",
        "A line for each database and user, over all selected processes. Clients are those that do not"
        " wait: they use a server connection, or do nothing.",
        (
            *(Query(summed(pools(metric), by), heading) for metric, heading in columns.items()),
            Query(f"max by ({by}) ({_LONGEST})", "Longest wait"),
        ),
        width=24,
        height=5,
        columns=(
            Column("database", "Database"),
            Column("user", "User"),
            *(Column(heading, heading) for heading in columns.values()),
            Column("Longest wait", "Longest wait", "s"),
        ),
    )


def _number(
    title: str,
    says: str,
    expression: str,
    steps: tuple[Step, ...] = (),
    *,
    unit: Unit = "short",
    decimals: int = 0,
) -> Panel:
    """Return a panel with a number; a count of 0 is shown as `none` where more is bad."""
    return Panel(
        "stat",
        title,
        says,
        (Query(expression),),
        unit=unit,
        width=3,
        height=4,
        decimals=decimals,
        steps=steps,
        texts=_NONE if steps and unit == "short" else {},
    )


def _by_database(
    title: str, says: str, expression: str, *, unit: Unit = "short", width: int = 12
) -> Panel:
    """Return a panel with a line for each database."""
    return Panel(
        "timeseries",
        f"{title}, by database",
        says,
        (Query(expression, "{{database}}"),),
        unit=unit,
        width=width,
    )


def _wait_share(by: str = "") -> str:
    """Return the part of the clients' time that they wait; no series where no client did anything."""
    wait = summed(rate("client_wait_seconds"), by)
    used = summed(rate("server_in_transaction_seconds"), by)
    return f"{wait} / (({wait} + {used}) > 0)"


def _limit_share() -> str:
    """Return the server connections that clients use, as a part of the limit of each database that has a limit."""
    limit = f"{databases('max_connections')} > 0"
    named = f'label_replace({limit}, "database", "$1", "name", "(.*)")'
    used = summed(pools("server_active_connections"), "database")
    return f"{used} / sum by (database) ({named})"


def _held() -> str:
    """Return for each database 1 if it is paused, 2 if it is disabled, and 3 if it is both."""
    return f"({databases('paused')} + 2 * {databases('disabled')})"
