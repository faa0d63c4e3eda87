"""Write docs/metrics.md, the table of the metrics that exporters show: python docs/metrics.py."""

from __future__ import annotations

import pathlib
import sys
from typing import NamedTuple

PAGE = pathlib.Path(__file__).with_suffix(".md")

# The first exporter with names that begin with `pgbouncer_stats_totals_`.
TOTALS = "0.11"


class Metric(NamedTuple):
    """A metric of an exporter, without the prefix `pgbouncer_`."""

    name: str
    meaning: str
    # The labels in addition to those of the process.
    labels: tuple[str, ...] = ()
    # The first exporter that has the metric, if an older exporter is supported that has not.
    since: str = ""

    @property
    def full_name(self) -> str:
        """Return the name in Prometheus."""
        return f"pgbouncer_{self.name}"


def _group(
    prefix: str, labels: tuple[str, ...], meanings: dict[str, str], since: str = ""
) -> tuple[Metric, ...]:
    return tuple(
        Metric(f"{prefix}{name}", meaning, labels, since) for name, meaning in meanings.items()
    )


_POOL = ("database", "user")
_DATABASE = ("name", "host", "port", "database", "force_user", "pool_mode")

# The totals of SHOW STATS, by the part of their names that both exporters have in common.
STATS = {
    "queries_pooled": "queries",
    "sql_transactions_pooled": "transactions",
    "queries_duration_seconds": "seconds in which server connections ran a query",
    "server_in_transaction_seconds": "seconds in which server connections were in a transaction",
    "client_wait_seconds": "seconds that clients waited for a server connection",
    "received_bytes": "bytes received from clients",
    "sent_bytes": "bytes sent to clients",
}

# A heading, a sentence, and the metrics.
GROUPS: tuple[tuple[str, str, tuple[Metric, ...]], ...] = (
    (
        "State of a process",
        "A series for each process.",
        (
            *_group(
                "",
                (),
                {
                    "up": "1 if the process answered the exporter, else 0",
                    "config_max_client_connections": "`max_client_conn`, the clients that the process"
                    " accepts",
                    "config_max_user_connections": "`max_user_connections`; 0 is no limit",
                },
            ),
            Metric("version_info", "1; the label has the version of PgBouncer", ("version",)),
            Metric(
                "exporter_build_info",
                "1; the labels have the version of the exporter",
                ("branch", "goarch", "goos", "goversion", "revision", "tags", "version"),
            ),
        ),
    ),
    (
        "Sizes of a process",
        "A series for each process, from `SHOW LISTS`. The login of the exporter counts as a client.",
        _group(
            "",
            (),
            {
                "databases": "databases, with the console",
                "pools": "pools, with that of the console",
                "users": "users",
                "used_clients": "client connections, which `max_client_conn` limits",
                "login_clients": "clients that log in",
                "free_clients": "records of clients in memory that are not used",
                "used_servers": "server connections",
                "free_servers": "records of server connections in memory that are not used",
                "cached_dns_names": "host names in the cache of DNS",
                "cached_dns_zones": "zones in the cache of DNS",
                "in_flight_dns_queries": "queries to DNS without an answer yet",
            },
        ),
    ),
    (
        "Pools",
        "A series for each database and user of a process, from `SHOW POOLS`. The database is the name"
        " that clients use.",
        _group(
            "pools_",
            _POOL,
            {
                "client_active_connections": "clients that use a server connection, or do nothing",
                "client_waiting_connections": "clients that wait for a server connection",
                "client_maxwait_seconds": "the wait of the client that waits longest, in whole seconds;"
                " 0 for a client that waits while it logs in",
                "client_active_cancel_connections": "clients whose cancel request was forwarded and is"
                " not answered yet",
                "client_waiting_cancel_connections": "clients whose cancel request was not forwarded yet",
                "server_active_connections": "server connections that a client uses",
                "server_idle_connections": "server connections that are free",
                "server_used_connections": "server connections that are free, and are checked before"
                " their next use",
                "server_testing_connections": "server connections that are reset or checked",
                "server_login_connections": "server connections that log in to PostgreSQL",
                "server_active_cancel_connections": "server connections that forward a cancel request",
                "server_being_canceled_connections": "server connections that stay unused until a cancel"
                " request for them has ended",
            },
        ),
    ),
    (
        "Databases",
        "A series for each database of a process, from `SHOW DATABASES`. `name` is the name that clients"
        " use, and `database` the name in PostgreSQL. `host` changes at a switchover of PostgreSQL.",
        (
            *_group(
                "databases_",
                _DATABASE,
                {
                    "current_connections": "server connections",
                    "max_connections": "`max_db_connections` of this process; 0 is no limit",
                    "pool_size": "server connections that a user of the database may have in this process",
                    "paused": "1 while the database is paused",
                    "disabled": "1 while the database is disabled",
                },
            ),
            Metric(
                "databases_reserve_pool",
                "server connections beyond `pool_size` for clients that wait long",
                _DATABASE,
                "0.12.1",
            ),
        ),
    ),
    (
        "Totals",
        "Counters for each database of a process, from `SHOW STATS_TOTALS`. An exporter before"
        f" {TOTALS} names them without `totals_`, such as `pgbouncer_stats_queries_pooled_total`. In an"
        " expression, write `rate(newer[5m]) or rate(older[5m])`: a selector for both names fails after"
        " an exporter was replaced, because two series then have equal labels.",
        (
            *_group(
                "stats_totals_",
                ("database",),
                {f"{name}_total": meaning for name, meaning in STATS.items()},
            ),
            *_group(
                "stats_totals_",
                ("database",),
                {
                    "server_assignments_total": "how often a client was given a server connection",
                    "client_parses_total": "prepared statements that clients sent (Parse)",
                    "server_parses_total": "prepared statements that were sent to PostgreSQL (Parse)",
                    "binds_total": "executions of prepared statements (Bind)",
                },
                TOTALS,
            ),
        ),
    ),
    (
        "Clients by application",
        "The name of an application is chosen by clients, so these series have no limit. The charm tells"
        " Prometheus to drop them.",
        (
            Metric(
                "client_connections",
                "clients",
                ("application_name", "database", "state", "user"),
                "0.12",
            ),
        ),
    ),
    (
        "The process of PgBouncer",
        "A series for each process, from `/proc`. Without the right to read it, they are missing.",
        _group(
            "process_",
            (),
            {
                "cpu_seconds_total": "seconds of CPU; 1 per second is a whole core",
                "open_fds": "open files: each connection is a file",
                "max_fds": "the limit of open files",
                "resident_memory_bytes": "memory that is in RAM",
                "virtual_memory_bytes": "virtual memory",
                "virtual_memory_max_bytes": "the limit of virtual memory",
                "start_time_seconds": "when the process started, in seconds since 1970",
                "network_receive_bytes_total": "bytes that the machine or pod received, not the process",
                "network_transmit_bytes_total": "bytes that the machine or pod sent, not the process",
            },
        ),
    ),
)

HEAD = """\
# Metrics

An exporter for each PgBouncer process shows these metrics. Prometheus adds the labels of the process:
`juju_model`, `juju_model_uuid`, `juju_application`, `juju_unit`, `juju_charm`, `process` and `instance`. `up` is 0
while an exporter does not answer. [Observe it](how-to/observe.md) says how to get them.

The database `pgbouncer` is the console. Every scrape uses it, so leave it out of sums: `database!="pgbouncer"`.

This page is written by `python docs/metrics.py`. A test compares it with what exporters 0.10 and 0.12 show of
PgBouncer 1.24 and 1.26.
"""


def metrics() -> tuple[Metric, ...]:
    """Return all metrics."""
    return tuple(metric for _, _, group in GROUPS for metric in group)


def names(exporter: str) -> dict[str, set[str]]:
    """Return the labels of each metric that an exporter of this version shows."""
    totals = _version(exporter) >= _version(TOTALS)
    return {
        metric.full_name if totals else metric.full_name.replace("_stats_totals_", "_stats_"): set(
            metric.labels
        )
        for metric in metrics()
        if _version(exporter) >= _version(metric.since)
    }


def _version(text: str) -> list[int]:
    return [int(number) for number in text.split(".") if number]


def page() -> str:
    """Return the text of the page."""
    parts = [HEAD]
    for title, says, group in GROUPS:
        labels = group[0].labels if len({metric.labels for metric in group}) == 1 else ()
        parts.append(f"\n## {title}\n\n{says}\n")
        if labels:
            parts.append(f"\nLabels: {', '.join(f'`{label}`' for label in labels)}.\n")
        parts.append("\n| metric | what it is |\n| --- | --- |\n")
        parts += [_row(metric) for metric in group]
    return "".join(parts)


def _row(metric: Metric) -> str:
    since = f" (exporter {metric.since} or later)" if metric.since else ""
    return f"| `{metric.full_name}` | {metric.meaning}{since} |\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.exit(0)
