import pytest
from in_memory import deployed, related

from domain import failures, operation_sentences, sentences
from domain.problems import Kind, Level, Problem, Sentence
from domain.status import assess

KIND = Kind(Level.WAITING, "process {index} of {name} ends: …", "wait")


def test_a_kind_gives_its_sentence_with_values_in_place_of_fields():
    sentence = sentences.RESTARTING.sentence(index=3)
    assert sentence == Sentence(
        level=Level.WAITING, text="PgBouncer process 3 does not answer: it is being restarted"
    )


def test_a_kind_gives_a_problem_with_its_level():
    problem = sentences.STILL_LOGS_IN.problem("client:x", username="x", reason="it is locked")
    assert problem == Problem(
        topic="client:x",
        level=Level.BLOCKED,
        text="x has left and can still log in to PostgreSQL: it is locked",
    )


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("process 1 of pgbouncer/0 ends: a client\nholds it", True),
        ("process 1 of pgbouncer/0 ends: ", False),
        ("a process 1 of pgbouncer/0 ends: a client", False),
        ("process 1 of pgbouncer/0 ended: a client", False),
    ],
)
def test_a_kind_matches_only_its_sentences(text, matches):
    assert KIND.matches(text) == matches


def test_no_sentence_has_two_kinds():
    patterns = [
        kind.pattern for kind in (*sentences.KINDS, *operation_sentences.KINDS, *failures.KINDS)
    ]
    assert len(patterns) == len(set(patterns))


@pytest.mark.parametrize(
    ("option", "value", "kind"),
    [
        ("pool_mode", "x", sentences.INVALID_OPTION),
        ("overrides", "[]", sentences.INVALID_VALUE),
        ("x", "1", sentences.UNKNOWN_OPTION),
        ("max_db_connections", 1, sentences.TOO_FEW_CONNECTIONS),
    ],
)
def test_the_status_of_an_option_is_of_a_kind(option, value, kind):
    platform = related()
    platform.model.options = {option: value}
    platform.leader.config_changed()
    first = assess(platform.leader.read())[0]
    assert (first.level, kind.matches(first.text)) == (kind.level, True)


def test_the_status_without_a_backend_and_a_container_is_of_two_kinds():
    platform = deployed(units=1)
    platform.leader.pooler.reachable = False
    backend, container = assess(platform.leader.read())
    assert backend == sentences.NO_BACKEND.sentence()
    assert container == sentences.NO_CONTAINER.sentence()
