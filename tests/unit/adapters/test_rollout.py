"""The StatefulSet as a Kubernetes API shows it, and what is written to it."""

import time

import pytest
from stateful_sets import FORBIDDEN, Api, api, ending, pod, stateful_set

from adapters.kubernetes.rollout import HELD, LightkubeRollout
from app.errors import RolloutFailed, RolloutForbidden
from domain.refresh import RollingUpdate, hold, let_next_go, unchanged


@pytest.fixture
def rollout(tmp_path, monkeypatch):
    with api(tmp_path) as config:
        monkeypatch.setenv("KUBECONFIG", config)
        yield LightkubeRollout("pgb", "dev", "pgb/2")


def change(partition, held):
    return {
        "metadata": {"resourceVersion": "7", "annotations": {HELD: held}},
        "spec": {"updateStrategy": {"rollingUpdate": {"partition": partition}}},
    }


def test_a_pod_that_is_replaced_sets_the_partition_with_a_note(rollout):
    assert rollout.adjust(hold) == RollingUpdate(number=2, replicas=3, under_way=True, ready=3)
    assert Api.written == [change(2, "2 0")]


def test_the_partition_of_another_manager_is_noted_and_comes_back(rollout):
    Api.found = stateful_set(partition=1)
    rollout.adjust(hold)
    Api.found = stateful_set(partition=2, held="2 1")
    Api.pods = [pod("pgb-2")]
    found = rollout.adjust(let_next_go)
    assert (found.owned, found.floor, found.newest) == (True, 1, (2,))
    assert Api.written == [change(2, "2 1"), change(1, None)]


@pytest.mark.parametrize("held", [None, "1 0", "2", "-2 0", "2 0 0", "2 2", "2 5", "x"])
def test_a_partition_without_a_note_of_it_is_that_of_another_manager(rollout, held):
    Api.found = stateful_set(partition=2, held=held)
    Api.pods = [pod("pgb-2")]
    assert not rollout.adjust(let_next_go).owned
    assert Api.written == []


def test_a_note_without_a_value_counts_as_no_note(rollout):
    Api.found["metadata"]["annotations"] = {HELD: None, "of-another-manager": None}
    assert rollout.adjust(hold).owned is False
    assert Api.written == [change(2, "2 0")]


def test_a_status_of_the_release_before_counts_for_nothing(rollout):
    Api.found = stateful_set(observedGeneration=1, updateRevision="pgb-1", currentRevision="pgb-1")
    Api.pods = [pod("pgb-2", "pgb-1")]
    found = rollout.adjust(unchanged)
    assert (found.under_way, found.newest, found.known) == (True, (), False)


@pytest.mark.parametrize(
    ("revisions", "under_way"),
    [
        ({"currentRevision": "pgb-2"}, False),
        ({"currentRevision": "pgb-1"}, True),
        ({"updateRevision": None}, True),
    ],
)
def test_the_revisions_say_whether_a_refresh_is_under_way(rollout, revisions, under_way):
    Api.found = stateful_set(**revisions)
    assert rollout.adjust(unchanged).under_way is under_way


def test_where_the_operator_deletes_pods_no_refresh_is_under_way(rollout):
    Api.found["spec"]["updateStrategy"] = {"type": "OnDelete"}
    assert not rollout.adjust(hold).under_way
    assert Api.written == []


def test_a_stateful_set_that_says_nothing_is_read(rollout):
    Api.found = {"metadata": {"name": "pgb"}}
    assert rollout.adjust(unchanged) == RollingUpdate(
        number=2, replicas=1, under_way=True, known=False
    )


def test_a_change_by_another_unit_is_read_again(rollout):
    conflict = {"kind": "Status", "code": 409, "message": "changed", "reason": "Conflict"}
    Api.answers = {"PATCH": [(409, conflict)]}
    rollout.adjust(hold, seconds=60.0)
    assert len(Api.written) == 2
    Api.answers = {"PATCH": [(409, conflict)] * 9}
    with pytest.raises(RolloutFailed, match="changes the StatefulSet all the time"):
        rollout.adjust(hold, seconds=60.0)


def test_without_trust_the_command_is_named(rollout):
    Api.answers = {"GET": [(403, FORBIDDEN)]}
    with pytest.raises(RolloutForbidden, match="run `juju trust pgb --scope=cluster`"):
        rollout.adjust(unchanged)


def test_with_rights_to_read_only_the_command_is_named_and_asked_again(rollout):
    Api.answers = {"PATCH": [(403, FORBIDDEN)]}
    with pytest.raises(RolloutFailed, match="not change it: run `juju trust pgb --scope=cluster`"):
        rollout.adjust(hold)


def test_without_rights_to_read_pods_the_command_is_named_and_asked_again(rollout):
    Api.answers = {"pods": [(403, FORBIDDEN)]}
    with pytest.raises(RolloutFailed, match="not its pods: run `juju trust pgb --scope=cluster`"):
        rollout.adjust(hold)
    assert Api.written == []


def test_the_labels_of_the_pods_say_which_pods_have_the_newest_release(rollout):
    """Also the pod of this unit, which ends, and no pod of another application."""
    Api.pods = [
        ending("pgb-2"), pod("pgb-1", "pgb-1"), pod("pgb-0"), pod("xpgb-1"), pod("pgb-1-x"), {},
    ]  # fmt: skip
    assert rollout.adjust(hold).newest == (0, 2)
    assert Api.written == []


def test_a_pod_of_another_unit_that_ends_counts_for_nothing(rollout):
    Api.found = stateful_set(partition=2)
    Api.pods = [pod("pgb-2"), ending("pgb-1"), ending("pgb-0")]
    assert rollout.adjust(unchanged).newest == (2,)


@pytest.mark.parametrize("slow", [("GET",), ("pods",), ("PATCH",), ("GET", "pods", "PATCH")])
def test_all_requests_together_have_a_deadline(rollout, slow):
    rollout.adjust(unchanged)
    Api.delays = {request: 0.3 if len(slow) > 1 else 2.0 for request in slow}
    begin = time.monotonic()
    with pytest.raises(RolloutFailed, match="Kubernetes does not answer: this is tried again"):
        rollout.adjust(hold, 0.5)
    assert time.monotonic() - begin < 1.5


def test_requests_that_are_repeated_have_the_same_deadline(rollout):
    conflict = {"kind": "Status", "code": 409, "message": "changed", "reason": "Conflict"}
    Api.answers, Api.delays = {"PATCH": [(409, conflict)] * 9}, {"PATCH": 0.6}
    with pytest.raises(RolloutFailed, match="Kubernetes does not answer: this is tried again"):
        rollout.adjust(hold, 1.0)
    assert len(Api.written) < 3


@pytest.mark.parametrize("method", ["GET", "pods", "PATCH"])
@pytest.mark.parametrize(
    "answer",
    [(500, {"code": 500}), (404, {"code": 404}), (200, b"<html>"), (200, b"5"), (422, b"")],
)
def test_any_other_answer_is_tried_again(rollout, method, answer):
    if (method, answer[0]) == ("PATCH", 200):
        answer = (503, b"")
    Api.answers = {method: [answer]}
    with pytest.raises(RolloutFailed, match="this is tried again"):
        rollout.adjust(hold)


@pytest.mark.parametrize(
    "field",
    [
        {"replicas": -1}, {"replicas": "x"}, {"updateStrategy": 5},
        {"updateStrategy": {"rollingUpdate": {"partition": -1}}},
        {"updateStrategy": {"rollingUpdate": {"partition": "a"}}},
    ],
)  # fmt: skip
def test_a_number_that_cannot_be_is_something_else(rollout, field):
    Api.found["spec"] |= field
    with pytest.raises(RolloutFailed, match="answers something else"):
        rollout.adjust(unchanged)
