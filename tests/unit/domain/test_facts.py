import pydantic
import pytest
from in_memory import related

from domain.facts import Container, Ledger
from domain.pools import Member
from domain.status import Level, Problem


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


def test_values_cannot_be_changed_and_refuse_what_they_do_not_know():
    with pytest.raises(pydantic.ValidationError):
        Member(name="a", address="b", colour="red")
    member = Member(name="a", address="b")
    with pytest.raises(pydantic.ValidationError):
        member.name = "c"
