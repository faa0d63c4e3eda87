"""What is remembered of the processes of a unit, and of those that may run with one thing or another."""

import pytest
from plans import plan

from domain.applied import (
    AppliedProcess,
    AppliedState,
    applied_state,
    in_transition,
    server_changed,
    steps,
)
from domain.capabilities import PgBouncerRuntime, Version
from domain.instances import Layout, pooler_config
from domain.plan import Serving
from domain.process import UNLIMITED

OLD, NEW = PgBouncerRuntime(version=Version(1, 24, 1)), PgBouncerRuntime(version=Version(1, 26, 1))


def process(index, **what):
    known = {"port": 6432, "restart": "r", "reload": "l", "limit": 4, "readers": True}
    return AppliedProcess(index=index, **(known | what))


def remembered(*processes, **what):
    known = {"program": OLD, "users": "u", "serving": Serving(port=6432), "server": "one"}
    return AppliedState(instances=processes, **(known | what))


def test_a_process_between_two_configurations_counts_with_the_larger_limit():
    before = remembered(process(0), process(2))
    after = remembered(
        process(0, reload="m", limit=6, readers=False), process(1), program=NEW, users="v",
        serving=Serving(port=7000), server="two", ending=(process(2),),
    )  # fmt: skip
    assert in_transition(before, after) == remembered(
        process(0, reload="", limit=6, held=6, readers=False),
        process(1, reload="", held=4),
        process(2, reload="", held=4),
        program=NEW, users="", ending=(process(2),),
    )  # fmt: skip


def test_what_takes_a_restart_in_one_of_them_takes_one_again():
    before, after = remembered(process(0)), remembered(process(0, restart="other", port=7000))
    (either,) = in_transition(before, after).instances
    assert (either.restart, either.port) == ("", 7000)


def test_no_limit_in_one_of_them_is_none():
    (either,) = in_transition(remembered(process(0)), remembered(process(0, limit=0))).instances
    assert (either.limit, either.held, either.most) == (0, UNLIMITED, UNLIMITED)


def test_pools_for_replicas_that_may_not_be_there_yet_have_to_wait_again():
    before, after = remembered(process(0, readers=False)), remembered(process(0))
    assert [one.readers for one in in_transition(before, after).instances] == [False]
    assert [one.readers for one in in_transition(after, after).instances] == [True]


def test_what_a_process_still_had_before_counts_on():
    (either,) = in_transition(
        remembered(process(0, held=9)), remembered(process(0, limit=2))
    ).instances
    assert (either.limit, either.held) == (4, 9)


def test_the_first_configuration_is_remembered_as_begun():
    first = in_transition(None, remembered(process(0)))
    assert first == remembered(process(0, reload="", held=4), users="")


def test_a_process_counts_for_its_limit_or_for_what_it_still_has():
    found = remembered(process(0), process(1, limit=2, held=5), ending=(process(2, limit=0),))
    assert [(one.index, one.most) for one in found.running] == [(0, 4), (1, 5), (2, UNLIMITED)]
    assert [one.index for one in found.above_limit] == [1]
    assert not process(3, limit=0, held=5).above_limit


def test_what_was_measured_replaces_what_was_feared():
    found = remembered(process(0, limit=2, held=5), process(1, limit=2, held=5))
    assert [one.held for one in found.holding({0: 3}).instances] == [3, 5]
    assert [one.held for one in found.holding({0: 2, 1: 0}).instances] == [0, 0]


@pytest.mark.parametrize(
    ("before", "limit", "held"), [(4, 1, 4), (4, 4, 0), (4, 0, 0), (0, 4, UNLIMITED)]
)
def test_what_a_process_may_have_from_before_is_told_where_that_is_more(before, limit, held):
    shared = plan(units=1, limit=limit)
    config = pooler_config(shared, "pgb/0", OLD, Layout(root="/var/lib/pgbouncer"), None)
    found = applied_state(config, OLD, remembered(process(0, limit=before)), frozenset({0}))
    assert [(one.limit, one.held) for one in found.instances] == [(limit, held)]


def test_those_that_have_ended_are_forgotten():
    found = remembered(ending=(process(1), process(2)))
    assert [one.index for one in found.without_ended(frozenset({2, 3})).ending] == [2]


def test_another_server_is_noticed_and_the_first_is_none():
    there = remembered()
    assert server_changed(there, remembered(server="two"))
    assert not server_changed(there, there)
    assert not server_changed(remembered(server=""), there)
    assert not server_changed(None, there)


def test_what_users_there_are_takes_a_reload_of_every_process():
    before, after = remembered(process(0), process(1)), remembered(process(0), process(1))
    assert steps(before, after, frozenset({0, 1})) == ()
    changed = after.model_copy(update={"users": "v"})
    assert [(one.action, one.index) for one in steps(before, changed, frozenset({0, 1}))] == [
        ("reload", 0),
        ("reload", 1),
    ]
