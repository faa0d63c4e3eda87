"""The objective of the option `slo-wait-target`: the share of time that clients do not wait for a connection.

The time is what PgBouncer counts for each database: the seconds that clients waited for a server connection, and
the seconds that their transactions took. A client counts when it gets its connection; PgBouncerClientsWaiting and
the rules on logs report clients that never get theirs.
"""

from collections.abc import Mapping

from domain.rules import Recording, duration
from domain.settings import Settings

NAME = "client-wait"
RATIO = "pgbouncer:client_wait:ratio_rate"
TARGET = "pgbouncer:client_wait:objective_ratio"
# Seconds over which the share is recorded: what alerts on a budget of errors compare.
WINDOWS = (300, 1800, 3600, 21600)


def recordings(settings: Settings) -> tuple[Recording, ...]:
    """Return the share of time that clients of each database and unit waited, and the share that is allowed."""
    if not settings.wait_target:
        return ()
    keep = "without (instance, job, process)"
    return (
        *(
            Recording(
                name=f"{RATIO}{duration(window)}",
                expression=f"sum {keep} ({_waited('', duration(window))}) / {_total('', duration(window), keep)}",
            )
            for window in WINDOWS
        ),
        Recording(name=TARGET, expression=f"vector({settings.wait_target / 100:g})"),
    )


def specification(settings: Settings, topology: Mapping[str, str]) -> dict[str, object] | None:
    """Return the objective as Sloth's `prometheus/v1` reads it; None while it is off."""
    if not settings.wait_target:
        return None
    matchers = "".join(f',{label}="{value}"' for label, value in sorted(topology.items()))
    return {
        "version": "prometheus/v1",
        "service": topology.get("juju_application", "pgbouncer"),
        "labels": dict(topology),
        "slos": [
            {
                "name": NAME,
                "objective": settings.wait_target,
                "description": f"{settings.wait_target:g} % of the time of clients is no wait for a"
                " server connection.",
                "sli": {
                    "events": {
                        "error_query": f"sum({_waited(matchers, '{{.window}}')})",
                        "total_query": _total(matchers, "{{.window}}"),
                    }
                },
                "alerting": {
                    "name": "PgBouncerClientWaitObjective",
                    "annotations": {"summary": "Clients wait for server connections too often"},
                    "page_alert": {"labels": {"severity": "critical"}},
                    "ticket_alert": {"labels": {"severity": "warning"}},
                },
            }
        ],
    }


def _rate(counter: str, matchers: str, window: str) -> str:
    # Exporters before 0.11 name the metrics `pgbouncer_stats_…`, and later exporters `pgbouncer_stats_totals_…`.
    name = f'__name__=~"pgbouncer_stats(_totals)?_{counter}_seconds_total"'
    return f'rate({{{name},database!="pgbouncer"{matchers}}}[{window}])'


def _waited(matchers: str, window: str) -> str:
    return _rate("client_wait", matchers, window)


def _total(matchers: str, window: str, keep: str = "") -> str:
    """Return the time of clients; no value while there is none, because a share of nothing is not a number."""
    spent = _rate("server_in_transaction", matchers, window)
    return f"(sum {keep}({_waited(matchers, window)} + {spent}) > 0)".replace("sum (", "sum(")
