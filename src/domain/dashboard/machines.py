"""The rows about what serves clients: processes, units, PostgreSQL, and the log."""

from domain.dashboard.panels import Column, Panel, Query, Row, Step, Text
from domain.dashboard.selectors import (
    EACH_PROCESS,
    PROCESS,
    SELECTED,
    clients,
    databases,
    lines,
    of,
    pools,
    rate,
    summed,
)

_UNIT = "juju_model, juju_application, juju_unit"
_APPLICATION = "juju_model, juju_application"
# PgBouncer's levels of what an operator has to know.
_SEVERE = r"\b(WARNING|ERROR|FATAL)\b"


def processes_row() -> Row:
    """Return which processes answer, how busy each is, and whether clients are spread evenly."""
    each = clients(EACH_PROCESS)
    per_application = f"by ({_APPLICATION}) ({each})"
    return Row(
        "Processes and their balance",
        (
            Panel(
                "state-timeline",
                "Does each process answer?",
                "A process is silent if it does not answer its exporter, or if its exporter does not"
                " answer Prometheus.",
                (Query(f'{of("up")} or (up{{{SELECTED},process!=""}} == 0)', PROCESS),),
                texts={0: Text("silent", "red"), 1: Text("answers", "green")},
            ),
            Panel(
                "timeseries",
                "CPU of each process",
                "A process of PgBouncer uses 1 core at most. Close to 100 % it delays all of its clients:"
                " use more processes, or more units.",
                (
                    Query(
                        f"rate({of('process_cpu_seconds_total')}[$__rate_interval])",
                        PROCESS,
                    ),
                ),
                unit="percentunit",
                steps=(Step(0.9, "red"),),
            ),
            Panel(
                "timeseries",
                "Clients of each process",
                "Clients that are logged in. The kernel spreads connections over the processes of a unit"
                " when clients connect, and not later.",
                (Query(each, PROCESS),),
                width=8,
                decimals=0,
            ),
            Panel(
                "timeseries",
                "Imbalance of clients",
                "Clients of the process that has most, divided by the mean. 1 is an even spread. At"
                " 2, a process has twice the mean; clients that reconnect are spread again.",
                (
                    Query(
                        f"max {per_application} / (avg {per_application} > 0)",
                        "{{juju_application}}",
                    ),
                ),
                width=8,
            ),
            _gauges(
                "Client connections, of max_client_conn",
                "At 100 % a process refuses clients with `no more connections allowed`.",
                f"{of('used_clients')} / {of('config_max_client_connections')}",
            ),
            _gauges(
                "Open files, of the limit",
                "Each connection of a client or to PostgreSQL is an open file. At 100 % the process"
                " accepts no connection.",
                f"{of('process_open_fds')} / {of('process_max_fds')}",
            ),
            Panel(
                "timeseries",
                "Memory of each process",
                "Resident memory. It grows with clients and with prepared statements.",
                (Query(of("process_resident_memory_bytes"), PROCESS),),
                unit="bytes",
                width=16,
            ),
        ),
    )


def units_row() -> Row:
    """Return what each unit serves, and what units forward to each other."""
    sent = f"{pools('client_waiting_cancel_connections')} + {pools('client_active_cancel_connections')}"
    return Row(
        "Units and peers",
        (
            Panel(
                "timeseries",
                "Clients of each unit",
                "Clients that are logged in. Behind the Service, units have about as many clients each"
                " once clients have reconnected.",
                (Query(clients(_UNIT), "{{juju_unit}}"),),
                width=8,
                decimals=0,
                stacked=True,
            ),
            Panel(
                "timeseries",
                "Server connections of each unit",
                "The sum over units stays below max_db_connections for each database.",
                (Query(summed(databases("current_connections"), _UNIT), "{{juju_unit}}"),),
                width=8,
                decimals=0,
                stacked=True,
            ),
            Panel(
                "timeseries",
                "Cancel requests on their way",
                "A request to cancel a query may reach any unit. Its process forwards the request to the"
                " process that runs the query. Numbers that stay high mean that a peer does not answer.",
                (
                    Query(summed(sent), "received from clients"),
                    Query(
                        summed(pools("server_active_cancel_connections")),
                        "being forwarded",
                    ),
                    Query(
                        summed(pools("server_being_canceled_connections")),
                        "server connections that are cancelled",
                    ),
                ),
                width=8,
                decimals=0,
            ),
            Panel(
                "table",
                "Processes now",
                "A line for each process. During a refresh, units run two versions.",
                (
                    Query(of("version_info"), "Version"),
                    Query(
                        f"time() - {of('process_start_time_seconds')}",
                        "Runs since",
                    ),
                    Query(clients(EACH_PROCESS), "Clients"),
                    Query(of("used_servers"), "Server connections"),
                ),
                width=24,
                columns=(
                    Column("juju_unit", "Unit"),
                    Column("process", "Process"),
                    Column("version", "PgBouncer"),
                    Column("Runs since", "Runs for", "dtdurations"),
                    Column("Clients", "Clients"),
                    Column("Server connections", "Server connections"),
                ),
            ),
        ),
    )


def postgresql_row() -> Row:
    """Return what PgBouncer sees of PostgreSQL: its servers, how busy they are kept, and how fast they answer."""
    by = "database"
    used, queries = rate("server_in_transaction_seconds"), rate("queries_duration_seconds")
    return Row(
        "PostgreSQL's side",
        (
            Panel(
                "timeseries",
                "Server connections, by server",
                "Connections that PostgreSQL has to PgBouncer. After a switchover they move to the new"
                " primary.",
                (
                    Query(
                        summed(databases("current_connections"), "host, port"), "{{host}}:{{port}}"
                    ),
                ),
                decimals=0,
                stacked=True,
            ),
            Panel(
                "timeseries",
                "Connections that are in a transaction, by database",
                "How many server connections were in a transaction, on average. PostgreSQL needs about"
                " as many at the same time.",
                (Query(summed(used, by), "{{database}}"),),
                stacked=True,
            ),
            Panel(
                "timeseries",
                "Time of a query, by database",
                "Mean time that PostgreSQL takes for a query.",
                (
                    Query(
                        f"{summed(queries, by)} / ({summed(rate('queries_pooled'), by)} > 0)",
                        "{{database}}",
                    ),
                ),
                unit="s",
                width=8,
            ),
            Panel(
                "timeseries",
                "Share of transactions without a query",
                "Of the time that clients hold a server connection, the part in which they send no"
                " query. While it is high, the application does something else inside of transactions.",
                (
                    Query(
                        f"clamp_min(1 - {summed(queries, by)} / ({summed(used, by)} > 0), 0)",
                        "{{database}}",
                    ),
                ),
                unit="percentunit",
                width=8,
                most=1,
            ),
            Panel(
                "timeseries",
                "Server connections that log in",
                "Above 0 for longer than a moment: PostgreSQL does not answer, or refuses logins. The row"
                " Logs says why.",
                (Query(summed(pools("server_login_connections"), by), "{{database}}"),),
                width=8,
                decimals=0,
            ),
        ),
    )


def logs_row() -> Row:
    """Return how many lines of the log are severe, those lines, and all lines."""
    return Row(
        "Logs",
        (
            Panel(
                "timeseries",
                "Warnings and errors per minute, by unit",
                "Lines of PgBouncer with WARNING, ERROR or FATAL.",
                (
                    Query(
                        f"sum by (juju_unit) (count_over_time({lines(_SEVERE)} [1m]))",
                        "{{juju_unit}}",
                    ),
                ),
                width=24,
                height=5,
                decimals=0,
                empty="no such lines",
                source="loki",
            ),
            Panel(
                "logs",
                "Warnings and errors",
                "Lines of PgBouncer with WARNING, ERROR or FATAL, the last first.",
                (Query(lines(_SEVERE)),),
                height=8,
                source="loki",
            ),
            Panel(
                "logs",
                "All lines of PgBouncer",
                "The last line first. The label pebble_service names the process.",
                (Query(lines()),),
                height=8,
                source="loki",
            ),
        ),
    )


def _gauges(title: str, says: str, expression: str) -> Panel:
    """Return a bar for each process that shows how much of a limit it uses."""
    return Panel(
        "bargauge",
        title,
        says,
        (Query(expression, PROCESS),),
        unit="percentunit",
        width=8,
        most=1,
        decimals=0,
        steps=(Step(0.7, "orange"), Step(0.8, "red")),
    )
