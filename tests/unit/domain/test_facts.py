import pydantic
import pytest
from in_memory import related
from samples import but

from domain.endpoints import endpoints_in
from domain.facts import Container
from domain.ledger import Ledger
from domain.made import Made
from domain.plan import Member
from domain.problems import Level, Problem
from domain.telemetry import LogTarget, TelemetryFacts


def problem(topic, text="x"):
    return Problem(topic=topic, level=Level.BLOCKED, text=text)


def test_a_newer_problem_replaces_the_older_on_its_topic():
    ledger = Ledger().with_problem(problem("database", "old")).with_problem(problem("service"))
    ledger = ledger.with_problem(problem("database", "new"))
    assert {(one.topic, one.text) for one in ledger.problems} == {
        ("service", "x"),
        ("database", "new"),
    }
    assert ledger.has("database")
    assert not ledger.without("database").has("database")


def test_a_container_without_a_configuration_does_not_run():
    assert not Container(reachable=True, running=frozenset({0})).runs


def test_the_backend_is_ready_while_postgresql_answers():
    facts = related().leader.read()
    assert facts.backend_ready
    assert not facts.has_problems
    silent = facts.model_copy(update={"ledger": facts.ledger.with_problem(problem("database"))})
    assert not silent.backend_ready
    assert silent.has_problems


def test_a_ledger_without_a_backend_keeps_the_service_and_what_may_stay():
    ledger = Ledger(
        provisioned_for="backend",
        exposed_ports=(6432,),
        problems=(problem("database"), problem("service")),
        made=Made(cluster="1"),
        left=("a role stays",),
    )
    assert ledger.without_backend() == Ledger(
        exposed_ports=(6432,),
        problems=(problem("service"),),
        made=Made(cluster="1"),
        left=("a role stays",),
    )


def test_a_login_keeps_the_version_and_the_replicas_that_are_found_later():
    login = related().leader.read().backend.credentials
    replicas = endpoints_in("10.1.0.2:5432")
    changed = login.with_version("17.1").with_read_only(replicas)
    assert (changed.version, changed.read_only) == ("17.1", replicas)
    assert changed == but(login, version="17.1", read_only=replicas)


def test_facts_have_no_field_of_another_name():
    with pytest.raises(pydantic.ValidationError):
        but(related().leader.read(), leavng=True)


def test_values_cannot_be_changed_and_refuse_what_they_do_not_know():
    with pytest.raises(pydantic.ValidationError):
        Member(name="a", address="b", colour="red")
    member = Member(name="a", address="b")
    with pytest.raises(pydantic.ValidationError):
        member.name = "c"


@pytest.mark.parametrize(
    ("configure", "database", "command"),
    [
        ("juju config pool", "", "juju run pool/leader resume"),
        ("juju config pool", "shop", "juju run pool/leader resume database=shop"),
        ("pooler config", "", "pooler resume"),
        ("pooler config", "shop", "pooler resume shop"),
    ],
)
def test_a_command_runs_an_action_on_the_platform(configure, database, command):
    facts = related().leader.read().model_copy(update={"configure_command": configure})
    assert facts.command("resume", database) == command


def test_facts_have_the_time_of_a_later_look():
    assert related().leader.read().at(7.0).now == 7.0


def test_a_unit_knows_where_its_container_sends_log_lines():
    target = LogTarget(name="loki/0", url="http://10.2.0.1:3100/loki/api/v1/push")
    seen = TelemetryFacts(logs=True, loki=(target,))
    facts = but(related().leader.read(), telemetry=seen)
    after = facts.forwarding(seen.loki).telemetry
    assert after == TelemetryFacts(logs=True, loki=(target,), forwarded=(target,))
