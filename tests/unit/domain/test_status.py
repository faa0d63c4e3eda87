import pytest
from in_memory import deployed, related
from samples import but

from domain.capabilities import PgBouncerRuntime, Version
from domain.problems import Level, Problem, Sentence
from domain.status import assess
from domain.users import Refusal


def facts_of(platform, **changes):
    return but(platform.leader.read(), **changes)


def texts(facts, *problems):
    return [sentence.text for sentence in assess(facts, problems)]


def test_all_is_well():
    (only,) = assess(facts_of(related()))
    assert (only.level, only.text) == (Level.ACTIVE, "")


def test_the_worst_comes_first_and_every_sentence_is_said():
    platform = deployed(units=1)
    problem = Problem(topic="service", level=Level.WAITING, text="Kubernetes does not answer")
    facts = facts_of(platform, settings_problems=("option a", "option b"))
    assert texts(facts, problem) == [
        "option a",
        "option b",
        "missing relation: backend-database",
        "Kubernetes does not answer",
    ]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("plan", "the plan in the peer databag"),
        ("ledger", "the ledger in the peer databag"),
        ("secret", "the secret of PgBouncer's own users"),
    ],
)
def test_what_cannot_be_read_is_named_first_with_what_to_do(name, what):
    facts = facts_of(related(), unreadable=(name,), settings_problems=("option a",), plan=None)
    assert texts(facts) == [
        f"{what} was written by another release and this release cannot read it: refresh all units to"
        " the same release with `juju refresh pgbouncer`; until then this unit keeps what it serves",
        "option a",
    ]
    assert facts.has_problems


def test_a_level_that_this_release_does_not_know_is_read_as_blocked():
    for level in ("critical", 7, ["waiting"]):
        raw = {"topic": "service", "level": level, "text": "no"}
        assert Problem.model_validate(raw).level is Level.BLOCKED
    assert Problem(topic="service", level=Level.WAITING, text="no").level is Level.WAITING
    assert Problem.model_validate_json('{"topic": "", "level": "waiting", "text": ""}').level == (
        Level.WAITING
    )


def test_a_limit_below_the_number_of_units_is_named():
    platform = related(units=3)
    platform.model.options = {"max_db_connections": 2}
    platform.leader.config_changed()
    assert texts(platform.leader.read()) == [
        "max_db_connections 2 is too few for 3 units: raise it, or remove units"
    ]


def test_a_backend_that_has_told_everything_is_being_set_up():
    platform = related(units=1)
    platform.model.auth = None
    assert texts(platform.leader.read()) == ["backend-database: setting up users in PostgreSQL"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"reachable": False}, "waiting for the pgbouncer container"),
        (
            {"program": PgBouncerRuntime(version=Version(1, 20))},
            "PgBouncer 1.20.0 is too old: 1.21 or later is needed",
        ),
        ({"running": frozenset()}, "waiting for PgBouncer to run"),
    ],
)
def test_what_the_container_lacks_is_said(change, text):
    facts = facts_of(related(units=1))
    container = facts.container.model_copy(update=change)
    assert texts(facts.model_copy(update={"container": container})) == [text]


def test_a_unit_without_a_configuration_waits_for_its_leader():
    platform = related(units=1)
    container = platform.leader.read().container.model_copy(update={"applied": None})
    facts = facts_of(platform, plan=None, auth=None, container=container)
    assert "waiting for the leader's configuration" in texts(facts)


def test_a_refused_client_is_named():
    refusal = Refusal(relation_id=7, application="shop", reason="asks for role 'superuser'")
    facts = facts_of(related(units=1), refusals=(refusal,))
    assert texts(facts) == ["shop (relation 7) asks for role 'superuser'"]


def test_one_connection_for_each_unit_is_enough():
    platform = related(units=3)
    platform.model.options = {"max_db_connections": 3}
    platform.leader.config_changed()
    platform.settle()
    for unit in platform.units.values():
        (only,) = assess(unit.read())
        assert only.level is Level.ACTIVE


def test_a_problem_is_told_in_letters_that_show():
    problem = Problem(topic="database", level=Level.BLOCKED, text="a\x00b\nc" + "x" * 9000)
    (told,) = texts(facts_of(related(units=1)), problem)
    assert told == "a b c" + "x" * 895


def test_a_process_that_does_not_answer_is_named_with_the_cure():
    facts = related().leader.read()
    container = facts.container.model_copy(update={"unresponsive": frozenset({0, 1})})
    hung = facts.model_copy(update={"container": container})
    assert hung.has_problems, "the sentence would be taken for the end of all work"
    supervised = facts.layout.model_copy(update={"with_pid_files": False})
    assert assess(hung.model_copy(update={"layout": supervised})) == (
        Sentence(
            level=Level.WAITING,
            text="PgBouncer process 0 does not answer: it is being restarted",
        ),
        Sentence(
            level=Level.WAITING,
            text="PgBouncer process 1 does not answer: it is being restarted",
        ),
    )
    alone = facts.layout.model_copy(update={"with_pid_files": True})
    assert assess(hung.model_copy(update={"layout": alone}))[0].text == (
        "PgBouncer process 0 does not answer: restart it with `pooler up`"
    )


def test_units_that_do_not_follow_new_passwords_are_named():
    platform = related()
    calm = platform.leader.read()
    auth = calm.auth.model_copy(update={"former_admin_password": calm.auth.admin_password})
    facts = calm.with_auth(auth)
    assert "waiting for pgbouncer/1, pgbouncer/0" in texts(facts)[0]
    # Every unit follows, and the next hook removes the former password.
    user = facts.plan.upstream.auth_user
    follows = facts.serving.model_copy(update={"credentials": auth.generation, "auth_user": user})
    peers = tuple(peer.model_copy(update={"serving": follows}) for peer in facts.peers)
    facts = facts.announcing(follows, facts.budget).model_copy(update={"peers": peers})
    assert texts(facts) == texts(calm)
