"""Which partition a unit sets during a refresh."""

import pytest

from domain.refresh import (
    RollingUpdate,
    hold,
    let_next_go,
    obstacles_in_kubernetes,
    resume,
    without_left,
)


def update(number=2, **says):
    return RollingUpdate(**{"number": number, "replicas": 3, "under_way": True} | says)


@pytest.mark.parametrize(
    ("says", "partition"),
    [
        ({"number": 2}, 2),
        ({"number": 1, "updated": 1}, 1),
        # A pod of the former release ends for another reason.
        ({"number": 0, "updated": 1, "partition": 1}, None),
        # A pod of the newest release ends for another reason.
        ({"number": 2, "updated": 1, "partition": 0}, None),
        ({"number": 2, "updated": 0, "partition": 1}, 2),
        ({"number": 2, "partition": 2}, None),
        # A unit above the pods that the StatefulSet should have.
        ({"number": 3}, None),
        ({"number": 0, "replicas": 1}, None),
        ({"under_way": False}, None),
        # Kubernetes does not say which release is the newest.
        ({"number": 1, "known": False}, 1),
    ],
)
def test_a_pod_that_a_refresh_replaces_holds_the_next(says, partition):
    assert hold(update(**says)) == partition


@pytest.mark.parametrize(
    ("says", "partition"),
    [
        ({"partition": 2, "owned": True}, 1),
        ({"partition": 2, "owned": True, "floor": 1}, 1),
        ({"partition": 2, "owned": True, "floor": 2}, 2),
        ({"partition": 2}, None),
        ({"partition": 1, "owned": True}, None),
        ({"number": 1, "partition": 2, "owned": True}, None),
        ({"partition": 2, "owned": True, "under_way": False}, 0),
        ({"partition": 2, "owned": True, "floor": 1, "under_way": False}, 1),
        # Kubernetes does not say whether a refresh is under way, and no later hook of this unit asks again.
        ({"partition": 2, "owned": True, "known": False}, 0),
        ({"number": 1, "partition": 2, "owned": True, "known": False}, None),
    ],
)
def test_a_unit_that_serves_lets_the_next_unit_go(says, partition):
    assert let_next_go(update(**says)) == partition


@pytest.mark.parametrize(
    ("says", "partition"),
    [
        ({"partition": 2, "owned": True}, 1),
        ({"partition": 2, "owned": True, "under_way": False}, 0),
        ({"partition": 2, "owned": True, "floor": 2, "under_way": False}, 1),
        ({"partition": 1, "owned": True}, None),
        ({"partition": 2}, None),
        ({"partition": 1, "owned": True, "under_way": False}, 0),
    ],
)
def test_a_partition_that_no_unit_lowers_is_lowered(says, partition):
    assert without_left(update(**says), highest=1) == partition


@pytest.mark.parametrize(
    ("says", "partition"),
    [
        ({"partition": 2}, 1),
        ({"partition": 0}, None),
        ({"partition": 2, "under_way": False}, None),
        ({"partition": 2, "owned": True, "floor": 1, "under_way": False}, 1),
    ],
)
def test_an_operator_lets_the_next_unit_go(says, partition):
    assert resume(update(**says)) == partition


@pytest.mark.parametrize(
    ("says", "all_ready"),
    [
        ({"partition": 2, "updated": 1, "ready": 3}, True),
        ({"partition": 2, "updated": 1, "ready": 2}, False),
        ({"partition": 2, "updated": 0, "ready": 3}, False),
        ({"partition": 2, "updated": 0, "ready": 3, "known": False}, False),
    ],
)
def test_whether_every_unit_that_may_be_refreshed_is_ready(says, all_ready):
    assert update(**says).all_ready is all_ready


def test_what_kubernetes_does_not_say_is_no_reason_to_wait():
    assert list(obstacles_in_kubernetes(update(known=False, ready=3))) == []
    assert list(obstacles_in_kubernetes(update(known=False, ready=2))) == ["2 of 3 pods are ready"]


def test_a_unit_that_holds_back_the_next_unit_is_named():
    held = update(known=False, ready=3, partition=2, owned=True)
    assert list(obstacles_in_kubernetes(held)) == [
        "unit 2 holds back units with lower numbers until it serves its release"
    ]
