"""The steps from a configuration of a unit to the next."""

import pydantic
import pytest
from configurations import PROGRAM, config
from plans import plan

from domain.applied import applied_state, in_transition, steps
from logins import CONSOLE_AUTH


def taken(before, after, running=(0, 1)):
    old = applied_state(before, PROGRAM) if before else None
    return [
        (process.action, process.index)
        for process in steps(old, applied_state(after, PROGRAM), frozenset(running))
    ]


def test_the_same_configuration_takes_no_step():
    assert taken(config(), config()) == []


def test_what_does_not_run_is_started():
    assert taken(None, config(), running=()) == [("start", 0), ("start", 1)]
    assert taken(config(), config(), running=(1,)) == [("start", 0)]


def test_a_process_of_which_nothing_is_remembered_is_restarted():
    assert taken(None, config()) == [("restart", 0), ("restart", 1)]


@pytest.mark.parametrize(
    "options",
    [{"pool_mode": "transaction"}, {"max_db_connections": 0}, {"max_prepared_statements": 1}],
)
def test_an_option_takes_a_reload(options):
    assert taken(config(), config(**options)) == [("reload", 0), ("reload", 1)]


def test_a_share_takes_a_reload():
    assert taken(config(), config(plan(limit=50, databases=("shop",)))) == [
        ("reload", 0),
        ("reload", 1),
    ]


def moving(**how):
    """The leader has decided on port 7000, and clients still know 6432."""
    shared = plan(databases=("shop",), **how)
    settings = shared.settings.model_copy(update={"listen_port": 7000})
    return shared.model_copy(update={"settings": settings, "process_set": 1, "former_port": 6432})


def test_a_new_port_is_open_before_the_old_one_closes():
    before, both = config(), config(moving())
    after = config(moving().model_copy(update={"former_port": None}))
    opened = taken(before, both)
    assert [step for step in opened if step[0] == "start"] == [("start", 16), ("start", 17)]
    assert not [step for step in opened if step[0] in ("restart", "stop")]
    assert {(process.index, process.port) for process in both.instances} == {
        (16, 7000), (17, 7000), (0, 6432), (1, 6432),
    }  # fmt: skip
    closed = taken(both, after, running=(0, 1, 16, 17))
    assert [step for step in closed if step[0] == "stop"] == [("stop", 0), ("stop", 1)]
    assert not [step for step in closed if step[0] in ("restart", "start")]
    assert both.serving.port == after.serving.port == 7000


def test_while_two_ports_are_open_they_share_the_limit():
    found = [dict(process.settings) for process in config(moving(units=1, limit=30)).instances]
    assert sum(int(process["max_db_connections"]) for process in found) == 30


def test_a_process_with_another_port_than_it_was_given_is_restarted():
    assert taken(config(), config(listen_port=7000)) == [("restart", 0), ("restart", 1)]


def test_a_new_password_takes_a_reload():
    auth = CONSOLE_AUTH.model_copy(update={"stats_password": pydantic.SecretStr("new")})
    assert taken(config(), config(auth=auth)) == [("reload", 0), ("reload", 1)]


def test_processes_that_are_too_many_are_stopped_last():
    small = plan(1, limit=1, databases=("shop",))
    assert taken(config(), config(small)) == [("reload", 0), ("stop", 1)]


def test_what_is_remembered_holds_no_password():
    text = applied_state(config(), PROGRAM).model_dump_json()
    assert "-pw" not in text
    assert "SCRAM" not in text


def test_a_process_between_two_configurations_counts_most_and_is_reloaded():
    before, after = (
        applied_state(config(plan(1, limit=limit, databases=("shop",)), cpus=cpus), PROGRAM)
        for limit, cpus in ((8, 2), (6, 1))
    )
    both = in_transition(before, after)
    assert [(process.index, process.limit, process.most) for process in both.instances] == [
        (0, 6, 6),
        (1, 4, 4),
    ]
    found = steps(both, after, frozenset((0, 1)))
    assert [(process.action, process.index) for process in found] == [("reload", 0), ("stop", 1)]
    moved = applied_state(
        config(plan(1, limit=8, databases=("shop",)), cpus=1, listen_port=7000), PROGRAM
    )
    either = in_transition(after, moved)
    assert [process.action for process in steps(either, after, frozenset((0,)))] == ["restart"]
    unlimited = applied_state(config(plan(1, limit=0, databases=("shop",)), cpus=1), PROGRAM)
    assert [process.limit for process in in_transition(after, unlimited).instances] == [0]
    assert in_transition(None, after).instances[0].limit == 6
