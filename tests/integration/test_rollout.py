"""What a real Kubernetes API does with the partition: its RBAC, its validation, and changes at the same time."""

import pytest
from cluster import APPLICATIONS, HERE, MERGE, NAMESPACE

from adapters.kubernetes.rollout import HELD, REVISION, LightkubeRollout
from app.errors import RolloutForbidden
from domain.refresh import hold, let_next_go, unchanged
from kubeconfigs import kubeconfig

POD = {"serviceAccountName": "pgb", "containers": [{"name": "charm", "image": "charm"}]}
SETS = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets"


@pytest.fixture
def rollout(cluster, tmp_path, monkeypatch):
    """Return the port of a unit, by the service account of its application."""

    def of(unit="pgb/2"):
        application = unit.partition("/")[0]
        token = APPLICATIONS[application][0]
        config = kubeconfig(cluster.url, token, str(cluster.authority))
        (tmp_path / "kubeconfig").write_text(config)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        return LightkubeRollout(application, NAMESPACE, unit)

    return of


@pytest.fixture(autouse=True)
def begun(cluster):
    """Begin a refresh of three pods, as the controller would say it."""
    no_note = {"metadata": {"annotations": {HELD: None}}}
    strategy = {"updateStrategy": {"rollingUpdate": {"partition": 0}}}
    cluster.request("PATCH", f"{SETS}/pgb", {"spec": {"replicas": 3} | strategy} | no_note, MERGE)
    says(cluster)
    for number in (1, 2):
        pod = {"metadata": {"name": f"pgb-{number}"}, "spec": POD}
        cluster.request("POST", f"{HERE}/pods", pod)
    yield
    has(cluster, 0, None)
    for number in (1, 2):
        cluster.request("DELETE", f"{HERE}/pods/pgb-{number}?gracePeriodSeconds=0")


def has(cluster, number, revision):
    """Let a pod have a revision, as the controller would make the pod."""
    labels = {"metadata": {"labels": {REVISION: revision}}}
    cluster.request("PATCH", f"{HERE}/pods/pgb-{number}", labels, MERGE)


def says(cluster):
    generation = found(cluster)["metadata"]["generation"]
    status = {
        "replicas": 3, "readyReplicas": 3, "currentRevision": "a", "updateRevision": "b",
        "observedGeneration": generation,
    }  # fmt: skip
    cluster.request("PATCH", f"{SETS}/pgb/status", {"status": status}, MERGE)


def found(cluster):
    return cluster.request("GET", f"{SETS}/pgb")


def partition(cluster):
    return found(cluster)["spec"]["updateStrategy"]["rollingUpdate"]["partition"]


def test_units_hold_and_let_go_one_after_another(cluster, rollout):
    for number in (2, 1):
        rollout(f"pgb/{number}").adjust(hold)
        assert partition(cluster) == number
        says(cluster)
        has(cluster, number, "b")
        rollout(f"pgb/{number}").adjust(let_next_go)
        assert partition(cluster) == number - 1
    assert HELD not in (found(cluster)["metadata"].get("annotations") or {})


def test_a_pod_that_came_early_is_no_reason_to_let_the_release_go_on(cluster, rollout):
    has(cluster, 0, "b")
    has(cluster, 1, "a")
    assert rollout().adjust(hold).newest == (0,)
    assert partition(cluster) == 2


def test_the_partition_outlives_what_juju_applies(cluster, rollout):
    """Juju patches the object that it wants, with an empty strategy, by a strategic merge."""
    rollout().adjust(hold)
    wanted = {
        "metadata": {"annotations": {"juju.is/version": "3.6.11"}},
        "spec": {"updateStrategy": {}},
    }
    kind = "application/strategic-merge-patch+json"
    cluster.request("PATCH", f"{SETS}/pgb?fieldManager=juju", wanted, kind)
    assert partition(cluster) == 2
    assert rollout().adjust(unchanged).owned


def test_a_unit_that_reads_before_another_writes_decides_again(cluster, rollout):
    seen = []

    def decide(update):
        if not seen:
            cluster.request("PATCH", f"{SETS}/pgb", {"spec": {"replicas": 4}}, MERGE)
        seen.append(update.replicas)
        return 2

    rollout().adjust(decide)
    assert seen == [3, 4]


def test_without_trust_the_stateful_set_is_not_shown(rollout):
    with pytest.raises(RolloutForbidden, match="run `juju trust shy --scope=cluster`"):
        rollout("shy/2").adjust(unchanged)
