"""Any StatefulSet that Kubernetes may show is understood, or is a sentence, and no partition is set by mistake."""

import functools
import json

import pytest
from hostile.inputs import ANY_TEXT, JSON, JSON_TEXT, damaged, outcome
from hypothesis import example
from hypothesis import strategies as st
from profiles import given
from stateful_sets import Api, api, pod, stateful_set

from adapters.kubernetes.rollout import HELD, REVISION, LightkubeRollout
from app.errors import RolloutFailed, RolloutForbidden
from domain.refresh import hold, let_next_go, resume, unchanged, without_left

NUMBER = 2
DECISIONS = {
    "unchanged": unchanged,
    "hold": hold,
    "let_next_go": let_next_go,
    "without_left": functools.partial(without_left, highest=NUMBER),
    "resume": resume,
}


@pytest.fixture(scope="module")
def kubernetes(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, api(tmp_path_factory.mktemp("api")) as config:
        patch.setenv("KUBECONFIG", config)
        yield LightkubeRollout("pgb", "dev", f"pgb/{NUMBER}")


def decided(kubernetes, found, decision, pods=()):
    """Let a unit decide on a StatefulSet and a list of pods; return what it understood, and what it wrote."""
    Api.found, Api.written = found, []
    listed = pods if isinstance(pods, bytes) else {"items": pods}
    Api.answers = {"GET": [(200, found)], "pods": [(200, listed)]}
    update, refusal = outcome(
        lambda: kubernetes.adjust(DECISIONS[decision]), RolloutFailed, RolloutForbidden
    )
    if refusal:
        assert refusal == "Kubernetes answers something else: this is tried again"
        assert Api.written == []
    written = [change["spec"]["updateStrategy"]["rollingUpdate"] for change in Api.written]
    notes = [change["metadata"]["annotations"][HELD] for change in Api.written]
    return update, list(zip((change["partition"] for change in written), notes, strict=True))


def check(decision, update, written):
    """Check that a unit only raises the partition to its own number, and lowers only what a unit has set."""
    for partition, note in written:
        before = update.partition
        assert decision != "unchanged"
        assert 0 <= partition < 2**31
        if decision == "hold":
            assert before <= NUMBER <= partition < update.replicas
            assert before < partition
            assert NUMBER not in update.newest
            assert note == f"{partition} {update.floor if update.owned else before}"
            continue
        assert partition < before
        assert update.owned or decision == "resume"
        assert note is None or note == f"{partition} {update.floor}"


ODD = [
    None,
    "",
    "2",
    "two",
    -1,
    0,
    1,
    2,
    3,
    2**31 - 1,
    2**31,
    10**400,
    1.5,
    2.0,
    True,
    [],
    {},
    [2],
]
NUMBERS = st.integers(0, 4) | st.sampled_from(ODD) | JSON
TEXTS = st.sampled_from(["a", "b"]) | st.sampled_from(["", None, 5]) | JSON
NOTES = (
    st.from_regex(r"[0-4] [0-4]", fullmatch=True)
    | st.none()
    | st.sampled_from(
        ["2", "2 0 0", "-2 0", "2 3", "2 9999999999", " 2 0", "2 0\n", "\u0662 \u0660", 2]
    )
    | JSON
)
MISSING = object()


def without_missing(fields):
    return {key: value for key, value in fields.items() if value is not MISSING}


def usually(strategy, odd=JSON):
    """Return a strategy for a part of an object: what is expected, no such field, or anything."""
    return st.one_of(strategy, strategy, strategy, st.just(MISSING), odd)


def objects(**fields):
    return st.fixed_dictionaries({key: usually(field) for key, field in fields.items()}).map(
        without_missing
    )


SETS = objects(
    metadata=st.fixed_dictionaries(
        {
            "resourceVersion": usually(st.just("7")),
            "generation": usually(NUMBERS),
            "annotations": usually(st.fixed_dictionaries({HELD: NOTES, "other/label": JSON})),
        }
    ).map(without_missing),
    spec=objects(
        replicas=NUMBERS,
        updateStrategy=objects(
            type=st.sampled_from(["RollingUpdate", "OnDelete", "Other", ""]),
            rollingUpdate=objects(partition=NUMBERS),
        ),
    ),
    status=objects(
        observedGeneration=NUMBERS,
        currentRevision=TEXTS,
        updateRevision=TEXTS,
        readyReplicas=NUMBERS,
    ),
)


@given(SETS, st.sampled_from(sorted(DECISIONS)), times=1)
@example(stateful_set(partition=2, held="2 5"), "let_next_go")
@example(stateful_set(partition=2, held="2 2"), "resume")
def test_a_stateful_set_with_odd_fields_sets_no_odd_partition(kubernetes, found, decision):
    check(decision, *decided(kubernetes, found, decision))


@given(
    damaged(stateful_set(partition=2, held="2 0")) | JSON_TEXT | ANY_TEXT,
    st.sampled_from(sorted(DECISIONS)),
    times=0.3,
)
def test_an_answer_in_place_of_a_stateful_set_is_a_sentence(kubernetes, text, decision):
    check(decision, *decided(kubernetes, text.encode(errors="surrogatepass"), decision))


PODS = st.lists(
    objects(
        metadata=objects(
            name=st.sampled_from(["pgb-0", "pgb-1", "pgb-2", "pgb-3", "other-2"]) | JSON,
            labels=st.fixed_dictionaries({REVISION: TEXTS}),
            deletionTimestamp=st.sampled_from([None, "2026-01-01T00:00:00Z"]) | JSON,
        )
    )
)


@given(
    PODS.map(lambda pods: json.dumps({"items": pods})) | JSON_TEXT | ANY_TEXT,
    st.sampled_from(sorted(DECISIONS)),
    times=0.5,
)
def test_odd_pods_set_no_odd_partition(kubernetes, pods, decision):
    found = stateful_set(partition=2, held="2 0")
    check(decision, *decided(kubernetes, found, decision, pods.encode(errors="surrogatepass")))


@given(st.integers(1, 5), st.integers(0, 4), st.integers(0, 3), st.booleans(), times=0.3)
def test_what_a_unit_holds_it_lets_go(kubernetes, replicas, partition, updated, other_labels):
    """In a refresh of any size that is at any unit, with any partition of an operator."""
    found = stateful_set(partition=partition)
    found["spec"]["replicas"] = replicas
    pods = [pod(f"pgb-{number}") for number in range(replicas)]
    if other_labels:
        found["metadata"]["annotations"] = {"other/partition": "2 0"}
    first = replicas - updated - 1
    _, held = decided(kubernetes, found, "hold", pods[first + 1 :])
    assert held == (
        [(first, f"{first} {partition}")] if partition <= NUMBER <= first > partition else []
    )
    for number, note in held if first == NUMBER else ():
        found = stateful_set(partition=number, held=note)
        found["spec"]["replicas"] = replicas
        _, let_go = decided(kubernetes, found, "let_next_go", pods[NUMBER:])
        assert let_go == [(NUMBER - 1, f"1 {partition}" if partition < 1 else None)]
        found["status"]["currentRevision"] = found["status"]["updateRevision"]
        _, left = decided(kubernetes, found, "without_left")
        assert left == [(partition, None)]
