"""The alerts on what an operator has asked for by an action, and has not ended.

No metric of PgBouncer shows a pause of all databases, or a database that the action `disable` disabled. So
the leader gives Prometheus these rules for as long as the plan has the pause or the database.
"""

from collections.abc import Iterator

from domain.operations import ALL
from domain.orders import named
from domain.plan import Plan
from domain.rules import Alert

_MINUTE = 60
# True for each application whose exporters Prometheus knows.
_ALWAYS = "max without (instance, job, process, juju_unit) (up) >= 0"


def all_paused() -> Alert:
    """Return the alert on a pause of all databases."""
    return _alert(
        name="PgBouncerAllPaused",
        summary="All databases have been paused for 15 minutes",
        description="The action pause paused all databases of {{ $labels.juju_application }}: clients wait.",
        meaning="The action `pause` paused all databases, and that was not ended. Clients wait, and are"
        " disconnected after `query_wait_timeout`. The rule exists only during the pause.",
        step="If the maintenance is over, end the pause by the action `resume` or by `./pooler resume`.",
    )


def disabled(databases: tuple[str, ...]) -> Alert:
    """Return the alert on databases that the action `disable` disabled."""
    return _alert(
        name="PgBouncerLoginsDisabled",
        summary="Clients have not been able to log in to a database for 15 minutes",
        description="The action disable lets no client of {{ $labels.juju_application }} log in to"
        f" {named(databases)}.",
        meaning="The action `disable` disabled a database, and that was not ended. Clients that log in get `login"
        " rejected`. The rule exists only while a database is disabled.",
        step="If the maintenance is over, run the command in the status: the action `enable`, or"
        " `./pooler enable`, with the name of the database.",
    )


def _alert(name: str, *, summary: str, description: str, meaning: str, step: str) -> Alert:
    return Alert(
        name=name,
        expression=_ALWAYS,
        seconds=15 * _MINUTE,
        severity="warning",
        summary=summary,
        description=description,
        meaning=meaning,
        steps=(step,),
    )


def rows(plan: Plan) -> Iterator[Alert]:
    """Yield the alerts on what a plan has stopped."""
    if ALL in plan.paused_databases:
        yield all_paused()
    if plan.disabled:
        yield disabled(plan.disabled)
