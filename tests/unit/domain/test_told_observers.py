"""What observers are told of an application, as a whole."""

import itertools

import pytest
from in_memory import deployed
from samples import but

from domain import alerts, dashboard, observers
from domain.operations import Pause
from domain.plan import Member, Plan
from domain.settings import Settings
from domain.telemetry import ScrapeJob, ScrapeTarget, TelemetryFacts, Told

LABELS = (("juju_application", "pool"), ("juju_model", "shop"))
KINDS = ("metrics", "logs", "dashboards", "slo")


@pytest.fixture(scope="module")
def calm():
    return deployed(units=1).leader.read()


def member(number, processors, share=50, address=None):
    name = f"pgbouncer/{number}"
    address = f"10.0.0.{number}" if address is None else address
    return Member(name=name, address=address, processors=processors, share=share)


def plan(*members, **changes):
    settings = Settings(slo_wait_target="99.5", max_db_connections=100)
    return Plan(settings=settings, members=members, **changes)


PLAN = plan(member(3, 1), member(4, 1), paused=(Pause(),))
JOBS = (ScrapeJob(process=0, port=9127),)


@pytest.mark.parametrize("seen", [*itertools.product((False, True), repeat=4)])
def test_each_observer_is_told_its_part_and_no_other(calm, seen):
    metrics, logs, dashboards, slo = seen
    facts = but(
        calm, telemetry=TelemetryFacts(labels=LABELS, **dict(zip(KINDS, seen, strict=True)))
    )
    rules = alerts.as_groups(
        (*alerts.recording_rules(PLAN.settings), *alerts.metric_rules(PLAN.settings, PLAN))
    )
    assert [group["name"] for group in rules] == [
        "PgBouncerObjective", "PgBouncer", "PgBouncerStopped", "HostHealth"
    ]  # fmt: skip
    assert observers.told(facts, PLAN) == Told(
        unit="pgbouncer/3",
        jobs=JOBS if metrics else (),
        metric_rules=tuple(rules) if metrics else (),
        log_rules=tuple(alerts.as_groups(alerts.log_rules(PLAN.settings))) if logs else (),
        dashboard=dashboard.dashboard() if dashboards else None,
        slos=(alerts.slo(PLAN.settings, LABELS),) if slo else (),
    )


def test_an_objective_that_is_off_is_told_to_no_observer(calm):
    facts = but(calm, telemetry=TelemetryFacts(slo=True, labels=LABELS))
    off = but(PLAN, settings=Settings(slo_wait_target="0"))
    assert observers.told(facts, off).slos == ()


def test_without_members_the_unit_tells_observers_of_itself(calm):
    assert observers.told(calm, plan()) == Told(unit="pgbouncer/0")


def target(number):
    return ScrapeTarget(unit=f"pgbouncer/{number}", address=f"10.0.0.{number}")


@pytest.mark.parametrize(
    ("members", "jobs"),
    [
        ((), ()),
        (
            (member(1, 2), member(2, 2)),
            (ScrapeJob(process=0, port=9127), ScrapeJob(process=1, port=9128)),
        ),
        (
            (member(1, 1), member(2, 3), member(5, 2)),
            (
                ScrapeJob(process=0, port=9127),
                ScrapeJob(process=1, port=9128, targets=(target(2), target(5))),
                ScrapeJob(process=2, port=9129, targets=(target(2),)),
            ),
        ),
        # A unit without an address cannot be scraped.
        (
            (member(1, 1), member(2, 2), member(5, 2, address="")),
            (
                ScrapeJob(process=0, port=9127),
                ScrapeJob(process=1, port=9128, targets=(target(2),)),
            ),
        ),
        # A unit without a share of the connections runs no process.
        (
            (member(1, 1), member(2, 1, share=0)),
            (ScrapeJob(process=0, port=9127, targets=(target(1),)),),
        ),
    ],
)
def test_a_job_names_its_units_unless_all_units_run_its_process(members, jobs):
    assert observers.scrape_jobs(plan(*members)) == jobs


def test_both_ports_have_jobs_while_the_port_changes():
    changing = plan(member(1, 1), process_set=1, former_port=7000)
    ports = [(job.process, job.port) for job in observers.scrape_jobs(changing)]
    assert ports == [(0, 9127), (16, 9143)]


def test_what_observers_are_told_has_an_identity(calm):
    told, other = Told(unit="pgbouncer/0"), Told(unit="pgbouncer/1")
    related = but(calm, telemetry=TelemetryFacts(relations=(1, 2)))
    texts = {
        observers.identity(facts, what)
        for facts in (calm, related, related)
        for what in (told, other)
    }
    assert len(texts) == 4
    assert observers.identity(related, told) == observers.identity(related, but(told))


COUNTER = '{__name__=~"pgbouncer_stats(_totals)?_%s_seconds_total",database!="pgbouncer"}[%s]'


@pytest.mark.parametrize(("target", "ratio"), [("99.5", "0.995"), ("50", "0.5"), ("75", "0.75")])
def test_the_share_of_time_that_clients_wait_is_recorded(target, ratio):
    (group,) = alerts.recording_rules(Settings(slo_wait_target=target))
    without = "without (instance, job, process)"
    expected = {}
    for window in ("5m", "30m", "1h", "6h"):
        waited = f"rate({COUNTER % ('client_wait', window)})"
        spent = f"rate({COUNTER % ('server_in_transaction', window)})"
        expected[f"pgbouncer:client_wait:ratio_rate{window}"] = (
            f"sum {without} ({waited}) / (sum {without}({waited} + {spent}) > 0)"
        )
    expected["pgbouncer:client_wait:objective_ratio"] = f"vector({ratio})"
    assert group.name == "PgBouncerObjective"
    assert {rule.name: rule.expression for rule in group.rules} == expected
