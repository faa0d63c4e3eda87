"""Rules for Prometheus and Loki, and the objective for Sloth, follow the options."""

import re

import pytest

from domain.alerts import as_groups, log_rules, metric_rules, recording_rules, slo
from domain.operations import Pause
from domain.plan import Plan
from domain.rules import DOCS, duration
from domain.settings import Settings, settings_from


def rules(settings=None, kind=metric_rules):
    """Return the rules by their names, as Prometheus reads them."""
    groups = as_groups(kind(settings or Settings()))
    return {
        rule.get("alert") or rule["record"]: rule for group in groups for rule in group["rules"]
    }


def names(settings=None, kind=metric_rules):
    return set(rules(settings, kind))


def test_each_alert_has_what_an_operator_reads():
    for name, rule in (rules() | rules(kind=log_rules)).items():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"{DOCS}/alerts#{name.lower()}"
        assert re.fullmatch(r"\d+[smh]", rule["for"])


def test_a_group_has_the_shape_of_a_file_of_rules():
    groups = as_groups(metric_rules(Settings()))
    assert [group["name"] for group in groups] == ["PgBouncer", "HostHealth"]
    assert all(set(group) == {"name", "rules"} for group in groups)
    plan = Plan(settings=Settings(), members=(), paused=(Pause(),))
    groups = as_groups(metric_rules(Settings(), plan))
    assert [group["name"] for group in groups] == ["PgBouncer", "PgBouncerStopped", "HostHealth"]
    assert [group["name"] for group in as_groups(log_rules(Settings()))] == ["PgBouncerLogs"]


@pytest.mark.parametrize(
    ("stopped", "added"),
    [
        ({}, set()),
        ({"paused": (Pause(),)}, {"PgBouncerAllPaused"}),
        # PgBouncer has a metric of a database that is paused.
        ({"paused": (Pause(database="shop"),)}, set()),
        ({"disabled": ("blog", "shop")}, {"PgBouncerLoginsDisabled"}),
    ],
)
def test_what_an_operator_has_stopped_has_an_alert_while_it_lasts(stopped, added):
    plan = Plan(settings=Settings(), members=(), databases=("blog", "shop"), **stopped)
    found = rules(kind=lambda settings: metric_rules(settings, plan))
    assert set(found) - names() == added
    left_out = {"PgBouncerServerUnreachable", "PgBouncerClientsWaiting"}
    assert names() - set(found) == (left_out if "PgBouncerAllPaused" in added else set())
    for name in added:
        assert found[name]["for"] == "15m"
        assert "juju_application" in found[name]["annotations"]["description"]
    if stopped.get("disabled"):
        text = found["PgBouncerLoginsDisabled"]["annotations"]["description"]
        assert text.endswith("log in to databases blog, shop.")


def test_a_wait_is_too_long_from_half_of_query_wait_timeout():
    rule = rules(Settings(query_wait_timeout=30))["PgBouncerWaitNearTimeout"]
    assert 'client_maxwait_seconds{database!="pgbouncer"}) > 15\n' in rule["expr"]
    assert "After 30 s (query_wait_timeout)" in rule["annotations"]["description"]


def test_without_query_wait_timeout_no_alert_names_it():
    settings = Settings(query_wait_timeout=0)
    assert names() - names(settings) == {"PgBouncerWaitNearTimeout"}
    assert names(kind=log_rules) - names(settings, log_rules) == {"PgBouncerClientTimedOut"}
    assert "maxwait" not in str(rules(settings))


def test_without_a_limit_of_connections_no_pool_is_full():
    unlimited = Settings(max_db_connections=0)
    assert names() - names(unlimited) == {"PgBouncerPoolFull"}
    assert "max_connections" not in str(rules(unlimited))


def test_a_limit_of_a_single_database_keeps_the_alert_on_full_pools():
    settings, _ = settings_from(
        {"max_db_connections": 0, "overrides": '{"databases": {"shop": {"max_connections": 9}}}'}
    )
    assert "PgBouncerPoolFull" in names(settings)
    other, _ = settings_from(
        {"max_db_connections": 0, "overrides": '{"databases": {"shop": {"pool_size": 9}}}'}
    )
    assert "PgBouncerPoolFull" not in names(other)


@pytest.mark.parametrize(
    ("options", "filter_"),
    [
        ({"query_timeout": 5}, "(query[ _]timeout)"),
        ({"idle_transaction_timeout": 5}, "(idle transaction timeout)"),
        (
            {"query_timeout": 5, "idle_transaction_timeout": 5},
            "(query[ _]timeout|idle transaction timeout)",
        ),
    ],
)
def test_a_time_limit_of_the_operator_has_an_alert_on_its_message(options, filter_):
    ended = rules(Settings(**options), log_rules)["PgBouncerTransactionsEnded"]
    assert f"pooler error: {filter_}`" in ended["expr"]
    for option in options:
        assert option in ended["annotations"]["description"]
    assert "PgBouncerTransactionsEnded" not in names(kind=log_rules)


def test_no_rule_divides_by_a_limit_that_may_be_zero():
    full = rules()["PgBouncerPoolFull"]["expr"]
    assert re.search(r"/ \(max without .*max_connections\{[^}]*\}\) > 0\)", full)


def test_rules_on_pools_leave_the_console_and_the_server_out():
    for name in ("PgBouncerClientsWaiting", "PgBouncerPoolFull", "PgBouncerServerUnreachable"):
        expression = rules()[name]["expr"]
        selectors = re.findall(r"pgbouncer_(?:pools|databases)_\w+\{([^}]*)\}", expression)
        assert selectors
        for selector in selectors:
            assert selector.startswith((
                'database!="pgbouncer"', 'name!~"pgbouncer|', '="pgbouncer_auth"',
                'database=~"pgbouncer_auth|', 'name=~"pgbouncer_auth|',
            ))  # fmt: skip


def test_rules_on_logs_read_the_lines_of_pgbouncer_alone():
    for rule in rules(kind=log_rules).values():
        assert '{pebble_service=~"pgbouncer-[0-9]+"}' in rule["expr"]


def test_the_objective_becomes_recorded_series():
    assert names(kind=recording_rules) == {
        *(f"pgbouncer:client_wait:ratio_rate{window}" for window in ("5m", "30m", "1h", "6h")),
        "pgbouncer:client_wait:objective_ratio",
    }
    target = rules(Settings(slo_wait_target="99.5"), recording_rules)
    assert target["pgbouncer:client_wait:objective_ratio"]["expr"] == "vector(0.995)"


def test_the_objective_for_sloth_counts_waits_as_errors():
    labels = {"juju_application": "pool", "juju_model": "shop"}
    told = slo(Settings(slo_wait_target="99.9"), labels.items())
    assert set(told) == {"version", "service", "labels", "slos"}
    assert (told["version"], told["service"]) == ("prometheus/v1", "pool")
    assert told["labels"] == labels
    (objective,) = told["slos"]
    events = objective["sli"]["events"]
    assert objective["objective"] == pytest.approx(99.9)
    assert "client_wait" in events["error_query"]
    assert "server_in_transaction" not in events["error_query"]
    assert "client_wait" in events["total_query"]
    assert "server_in_transaction" in events["total_query"]
    for query in events.values():
        assert 'juju_application="pool",juju_model="shop"' in query
        assert "[{{.window}}]" in query


def test_an_objective_that_is_off_gives_nothing():
    off = Settings(slo_wait_target="0")
    assert slo(off) is None
    assert recording_rules(off) == ()


def test_an_objective_without_a_topology_has_a_service():
    assert slo(Settings())["service"] == "pgbouncer"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("99.90", "99.9"),
        (99.5, "99.5"),
        (0, "0"),
        ("0", "0"),
        (75, "75"),
        ("50", "50"),
        (50, "50"),
        ("50.00", "50"),
        ("99.99", "99.99"),
        (99.99, "99.99"),
    ],
)
def test_an_objective_is_a_percentage(value, text):
    settings, problems = settings_from({"slo-wait-target": value})
    assert (settings and settings.slo_wait_target, problems) == (text, ())


@pytest.mark.parametrize(
    "value", ["", "100", "49", "-1", "99.999", "nan", "1e1", True, 10**400, float("nan"), None]
)
def test_another_objective_is_refused_with_what_the_option_accepts(value):
    settings, (problem,) = settings_from({"slo-wait-target": value})
    assert settings is None
    assert "slo-wait-target" in problem


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (90, "90s"), (300, "5m"), (7200, "2h")])
def test_a_time_is_written_as_prometheus_writes_it(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("100", "'100' is neither 0 nor a percentage between 50 and 99.99"),
        ("99.999", "'99.999' is neither 0 nor a percentage between 50 and 99.99"),
        ("49.99", "49.99 is less than 50"),
        ("1", "1 is less than 50"),
        ("0.01", "0.01 is less than 50"),
        (0.5, "0.5 is less than 50"),
    ],
)
def test_an_objective_that_is_refused_is_named_with_its_reason(value, reason):
    assert settings_from({"slo-wait-target": value}) == (
        None,
        (f"option slo-wait-target: {reason}",),
    )
