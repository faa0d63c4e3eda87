"""Which partition a unit sets during a refresh."""

import pytest
from in_memory import related

from domain.operations import ALL, Pause
from domain.refresh import (
    RollingUpdate,
    hold,
    let_next_go,
    obstacles,
    obstacles_in_kubernetes,
    resume,
    why_not_next,
    without_left,
)
from domain.rotation import Rotation


def update(number=2, newest=(), **says):
    state = RollingUpdate(**{"number": number, "replicas": 3, "under_way": True} | says)
    return state.with_newest(newest)


@pytest.mark.parametrize(
    ("says", "partition"),
    [
        ({"number": 2}, 2),
        ({"number": 1, "newest": [2]}, 1),
        # A pod of the former release ends before its turn, and has to come back with this release.
        ({"number": 0, "newest": [2], "partition": 1}, None),
        ({"number": 0, "newest": [2]}, 1),
        ({"number": 1, "partition": 1}, 2),
        # A pod of the newest release ends for another reason.
        ({"number": 2, "newest": [2], "partition": 0}, None),
        ({"number": 1, "newest": [1], "partition": 0}, None),
        ({"number": 2, "partition": 1}, 2),
        ({"number": 2, "partition": 2}, None),
        # A pod with a lower number came with the newest release.
        ({"number": 2, "newest": [0]}, 2),
        ({"number": 1, "newest": [0, 2]}, 1),
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
        ({"partition": 2, "owned": True, "newest": [2]}, 1),
        ({"partition": 2, "owned": True, "newest": [2], "floor": 1}, 1),
        ({"partition": 2, "newest": [2]}, None),
        ({"partition": 1, "owned": True, "newest": [2]}, None),
        ({"number": 1, "partition": 2, "owned": True, "newest": [1, 2]}, None),
        # The container of a former unit starts again before Kubernetes replaces its pod.
        ({"number": 1, "partition": 1, "owned": True, "newest": [2]}, None),
        # The next pod came with the newest release already, and its unit does not lower the partition.
        ({"partition": 2, "owned": True, "newest": [1, 2]}, 0),
        # A pod with a higher number has the former release, or does not exist: a partition is only lowered.
        ({"number": 1, "partition": 1, "owned": True, "newest": [1]}, 0),
        ({"partition": 2, "owned": True, "newest": [2], "replicas": 4}, 1),
        ({"partition": 2, "owned": True, "newest": [1, 2], "replicas": 4}, 0),
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
        ({"partition": 2, "owned": True, "newest": [1]}, 0),
        ({"partition": 2, "owned": True, "newest": [1], "floor": 1}, 1),
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
        # A pod came early: its unit does not lower the partition.
        ({"partition": 2, "newest": [1]}, 0),
        ({"partition": 2, "newest": [0, 1]}, None),
        # A partition above every unit.
        ({"partition": 5}, 2),
        ({"partition": 5, "known": False}, 2),
        ({"partition": 2, "under_way": False}, None),
        ({"partition": 2, "owned": True, "floor": 1, "under_way": False}, 1),
    ],
)
def test_an_operator_lets_the_next_unit_go(says, partition):
    assert resume(update(**says)) == partition


@pytest.mark.parametrize(
    ("says", "all_ready"),
    [
        ({"partition": 2, "newest": [2], "ready": 3}, True),
        ({"partition": 2, "newest": [2], "ready": 2}, False),
        ({"partition": 2, "ready": 3}, False),
        ({"partition": 2, "newest": [0], "ready": 3}, False),
        ({"partition": 2, "ready": 3, "known": False}, False),
        ({"partition": 2, "owned": True, "under_way": False, "ready": 3}, True),
        ({"partition": 2, "owned": True, "under_way": False, "ready": 2}, False),
    ],
)
def test_whether_every_unit_that_may_be_refreshed_is_ready(says, all_ready):
    assert update(**says).all_ready is all_ready


@pytest.mark.parametrize(
    ("says", "why"),
    [
        ({"partition": 2, "ready": 2}, "pool/2 has not become ready (2 of 3 are)"),
        ({"partition": 2, "known": False}, "Kubernetes does not say whether pool/2 has its new release"),
        ({"partition": 3, "ready": 2}, "2 of 3 pods are ready"),
    ],
)  # fmt: skip
def test_why_the_next_unit_waits_names_a_unit_that_exists(says, why):
    assert why_not_next(update(**says), "pool") == why


def test_a_unit_that_is_removed_does_not_count_as_refreshed():
    (said,) = obstacles_in_kubernetes(update(newest=[0, 1, 3]))
    assert said == "a refresh is under way: 2 of 3 units have the new release"


def test_what_kubernetes_does_not_say_is_no_reason_to_wait():
    assert list(obstacles_in_kubernetes(update(known=False, ready=3))) == []
    assert list(obstacles_in_kubernetes(update(known=False, ready=2))) == ["2 of 3 pods are ready"]


def test_a_unit_that_holds_back_the_next_unit_is_named():
    held = update(known=False, ready=3, partition=2, owned=True)
    assert list(obstacles_in_kubernetes(held)) == [
        "unit 2 holds back units with lower numbers until it serves its release"
    ]


def test_a_partition_that_the_charm_has_not_set_is_named_with_its_command():
    update_of_operator = update(under_way=False, ready=3, partition=1)
    assert list(obstacles_in_kubernetes(update_of_operator)) == [
        "the partition 1 of the StatefulSet, which this charm has not set, holds back"
        " units with lower numbers: set it to 0 by kubectl"
    ]


def healthy():
    """Return the facts of a leader of two units without an obstacle."""
    platform = related()
    platform.relate("shop-app", "shop")
    platform.settle()
    return platform.leader.read()


def test_each_obstacle_of_a_refresh_is_a_sentence():
    facts = healthy()
    assert list(obstacles(facts)) == []
    unreadable = facts.model_copy(update={"unreadable": ("plan",), "plan": None})
    assert list(obstacles(unreadable)) == [
        "units run different releases: wait until the refresh before is complete",
        "there is no configuration yet",
    ]
    paused = facts.plan.model_copy(update={"paused": (Pause(database=ALL, since=1),)})
    assert "clients are paused: run the action resume" in obstacles(
        facts.model_copy(update={"plan": paused})
    )
    rotation = Rotation(username="relation_id_1", stage="asked")
    ledger = facts.ledger.model_copy(update={"rotations": (rotation,)})
    assert "credentials of clients are being rotated: wait until every client was told" in (
        obstacles(facts.model_copy(update={"ledger": ledger}))
    )
    auth = facts.auth.model_copy(update={"next_auth": facts.auth.look_ups[0]})
    assert (
        "passwords of PgBouncer's own users are being rotated: wait until every unit uses the new passwords"
        in obstacles(facts.model_copy(update={"auth": auth}))
    )


def test_units_that_have_gone_or_lack_the_plan_are_obstacles():
    facts = healthy()
    (peer,) = facts.peers
    alone = facts.model_copy(update={"peers": ()})
    assert list(obstacles(alone)) == [f"{peer.name} has gone: wait until the leader has noticed"]
    more = facts.plan.members[-1].model_copy(update={"name": "pgbouncer/7"})
    plan = facts.plan.model_copy(update={"members": (*facts.plan.members, more)})
    assert f"{peer.name}, pgbouncer/7 has gone: wait until the leader has noticed" in obstacles(
        alone.model_copy(update={"plan": plan})
    )
    silent = peer.model_copy(update={"serving": None})
    assert list(obstacles(facts.model_copy(update={"peers": (silent,)}))) == [
        f"{peer.name} does not serve the configuration that is in force"
    ]
    # A unit that has connections serves every database of the plan.
    idle = peer.model_copy(update={"serving": peer.serving.model_copy(update={"databases": ()})})
    assert list(obstacles(facts.model_copy(update={"peers": (idle,)}))) == [
        f"{peer.name} does not serve the configuration that is in force"
    ]
    # A unit without connections has no database to serve.
    members = tuple(
        member.model_copy(update={"share": 0}) if member.name == peer.name else member
        for member in facts.plan.members
    )
    without = facts.plan.model_copy(update={"members": members})
    assert list(obstacles(facts.model_copy(update={"peers": (idle,), "plan": without}))) == []
