"""The rules by which Prometheus and Loki watch this application, with thresholds from its options.

The rows are in `domain.process_alerts`, `domain.pool_alerts`, `domain.order_alerts`, `domain.log_alerts` and
`domain.objectives`.
"""

from collections.abc import Iterable

from domain import log_alerts, objectives, order_alerts, pool_alerts, process_alerts
from domain.operations import ALL
from domain.plan import Plan
from domain.rules import RuleGroup, as_groups
from domain.settings import Settings

__all__ = ("as_groups", "log_rules", "metric_rules", "recording_rules", "slo", "stopped_rules")


def metric_rules(settings: Settings, plan: Plan | None = None) -> tuple[RuleGroup, ...]:
    """Return the alerts on metrics; an option that means no limit leaves out the alert on that limit.

    With `plan` there are alerts on what an operator has stopped by an action, in place of alerts on what follows
    from that.
    """
    all_paused = plan is not None and ALL in plan.paused_databases
    pools = pool_alerts.rows(settings, all_paused=all_paused)
    return (
        RuleGroup("PgBouncer", (*process_alerts.PGBOUNCER, *pools)),
        *(stopped_rules(plan) if plan else ()),
        RuleGroup("HostHealth", process_alerts.HOST),
    )


def stopped_rules(plan: Plan) -> tuple[RuleGroup, ...]:
    """Return the alerts on what an operator has stopped by an action; nothing if all clients may work."""
    rows = tuple(order_alerts.rows(plan))
    return (RuleGroup("PgBouncerStopped", rows),) if rows else ()


def log_rules(settings: Settings) -> tuple[RuleGroup, ...]:
    """Return the alerts on lines that PgBouncer logs; an option that is off has no alert."""
    return (RuleGroup("PgBouncerLogs", log_alerts.rows(settings)),)


def recording_rules(settings: Settings) -> tuple[RuleGroup, ...]:
    """Return the share of time that clients wait, recorded, and its objective; nothing while that is off."""
    recordings = objectives.recordings(settings)
    return (RuleGroup("PgBouncerObjective", recordings),) if recordings else ()


def slo(settings: Settings, topology: Iterable[tuple[str, str]] = ()) -> dict[str, object] | None:
    """Return the objective in the shape that Sloth reads; None while it is off.

    `topology` has labels of this application with their values, e.g. `juju_application`. Sloth adds no
    matchers of its own, so without them an expression counts every PgBouncer that Prometheus knows.
    """
    return objectives.specification(settings, dict(topology))
