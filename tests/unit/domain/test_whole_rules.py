"""Whole alerts and whole objectives, as Prometheus, Loki, Sloth and the documentation get them."""

import pytest

from domain.alerts import log_rules, slo, stopped_rules
from domain.operations import Pause
from domain.plan import Plan
from domain.rules import Alert, RuleGroup
from domain.settings import Settings

STOPPED = {
    "expression": "max without (instance, job, process, juju_unit) (up) >= 0",
    "seconds": 900,
    "severity": "warning",
}
PAUSED = Alert(
    name="PgBouncerAllPaused",
    summary="All databases have been paused for 15 minutes",
    description="The action pause paused all databases of {{ $labels.juju_application }}: clients wait.",
    meaning="The action `pause` paused all databases, and that was not ended. Clients wait, and are"
    " disconnected after `query_wait_timeout`. The rule exists only during the pause.",
    steps=(
        "If the maintenance is over, end the pause by the action `resume` or by `./pooler resume`.",
    ),
    **STOPPED,
)


def disabled(databases):
    """Return the alert on databases that no client may log in to."""
    return Alert(
        name="PgBouncerLoginsDisabled",
        summary="Clients have not been able to log in to a database for 15 minutes",
        description="The action disable lets no client of {{ $labels.juju_application }} log in to"
        f" {databases}.",
        meaning="The action `disable` disabled a database, and that was not ended. Clients that"
        " log in get `login rejected`. The rule exists only while a database is disabled.",
        steps=(
            "If the maintenance is over, run the command in the status: the action `enable`, or"
            " `./pooler enable`, with the name of the database.",
        ),
        **STOPPED,
    )


@pytest.mark.parametrize(
    ("stopped", "expected"),
    [
        ({"paused": (Pause(),)}, (PAUSED,)),
        ({"disabled": ("shop",)}, (disabled("database shop"),)),
        ({"disabled": ("blog", "shop")}, (disabled("databases blog, shop"),)),
        ({"paused": (Pause(),), "disabled": ("shop",)}, (PAUSED, disabled("database shop"))),
    ],
)
def test_what_an_operator_has_stopped_is_a_warning_after_15_minutes(stopped, expected):
    plan = Plan(settings=Settings(), members=(), databases=("blog", "shop"), **stopped)
    assert stopped_rules(plan) == (RuleGroup("PgBouncerStopped", expected),)


UNIT = "juju_model, juju_model_uuid, juju_application, juju_unit"
LINES = '{pebble_service=~"pgbouncer-[0-9]+"}'
CLIENT = "WARNING C-[^ ]+ [^ ]+ pooler error: "
WHOSE = "regexp `C-[^ ]+ (?P<database>[^/ ]+)/(?P<user>[^@ ]+)@`"


def of_client(filter_, more_than=0):
    """Return the expression of an alert that names the database and the user."""
    counted = f"count_over_time({LINES} |~ `{CLIENT}{filter_}` | {WHOSE} [5m])"
    return f"sum by ({UNIT}, database, user) ({counted}) > {more_than}"


def of_unit(filter_, more_than=0):
    """Return the expression of an alert that names the unit only."""
    return f"sum by ({UNIT}) (count_over_time({LINES} |~ `{filter_}` [5m])) > {more_than}"


def test_alerts_on_logs_count_lines_of_5_minutes_by_client_or_by_unit():
    (group,) = log_rules(Settings())
    refused = (
        "(SASL authentication failed|password authentication failed|no such user|no such database)"
    )
    assert {rule.name: rule.expression for rule in group.rules} == {
        "PgBouncerClientTimedOut": of_client("query_wait_timeout"),
        "PgBouncerClientsRefused": of_unit(
            f"{CLIENT}(no more connections allowed|client connections exceeded)"
        ),
        "PgBouncerServerLoginFailing": of_client(
            r"(server login has been failing|client_login_timeout \(server down\))"
        ),
        "PgBouncerPostgreSQLFull": of_unit(
            "WARNING server login failed: FATAL (sorry, too many clients|remaining connection slots"
            "|too many connections for)"
        ),
        "PgBouncerConnectionsLost": of_client("server conn crashed", more_than=5),
        "PgBouncerLoginsRefused": of_unit(CLIENT + refused, more_than=20),
        "PgBouncerUnsupportedParameter": of_unit(f"{CLIENT}unsupported startup parameter"),
    }
    assert {rule.seconds for rule in group.rules} == {0}


@pytest.mark.parametrize(
    ("options", "messages", "named"),
    [
        ({"query_timeout": 1}, "query[ _]timeout", "query_timeout"),
        (
            {"idle_transaction_timeout": 1},
            "idle transaction timeout",
            "idle_transaction_timeout",
        ),
        (
            {"query_timeout": 5, "idle_transaction_timeout": 9},
            "query[ _]timeout|idle transaction timeout",
            "query_timeout or idle_transaction_timeout",
        ),
    ],
)
def test_transactions_that_pgbouncer_ends_are_a_warning_at_once(options, messages, named):
    (group,) = log_rules(Settings(**options))
    assert group.rules[-1] == Alert(
        name="PgBouncerTransactionsEnded",
        expression=of_client(f"({messages})"),
        seconds=0,
        severity="warning",
        summary="Queries or transactions take so long that PgBouncer ends them",
        description=f"{{{{ $value }}}} clients were disconnected in 5 minutes by {named}: unit"
        " {{ $labels.juju_unit }}, database {{ $labels.database }}, user {{ $labels.user }}.",
        meaning="A query or an idle transaction took longer than the option `query_timeout` or"
        " `idle_transaction_timeout` allows, and PgBouncer disconnected the client.",
        steps=(
            "Find the query in PostgreSQL's log, or the application that leaves its transaction open.",
            "Raise the option if the application needs the time.",
        ),
    )


@pytest.mark.parametrize(
    ("target", "shown", "labels", "matchers"),
    [
        ("50", "50", {}, ""),
        ("99.5", "99.5", {"juju_application": "pool"}, ',juju_application="pool"'),
        (
            "99.99",
            "99.99",
            {"juju_model": "shop", "juju_application": "pool"},
            ',juju_application="pool",juju_model="shop"',
        ),
    ],
)
def test_sloth_gets_a_whole_specification(target, shown, labels, matchers):
    counters = '__name__=~"pgbouncer_stats(_totals)?_'
    window = f'_seconds_total",database!="pgbouncer"{matchers}}}[{{{{.window}}}}])'
    waited = f"rate({{{counters}client_wait{window}"
    spent = f"rate({{{counters}server_in_transaction{window}"
    assert slo(Settings(slo_wait_target=target), labels.items()) == {
        "version": "prometheus/v1",
        "service": labels.get("juju_application", "pgbouncer"),
        "labels": labels,
        "slos": [
            {
                "name": "client-wait",
                "objective": pytest.approx(float(target)),
                "description": f"{shown} % of the time of clients is no wait for a server connection.",
                "sli": {
                    "events": {
                        "error_query": f"sum({waited})",
                        "total_query": f"(sum({waited} + {spent}) > 0)",
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
