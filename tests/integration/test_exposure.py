"""Checks C-1 to C-6: what clients are told while a real Kubernetes API exposes the application."""

import json

import pytest
from cluster import APPLICATIONS, HERE, NAMESPACE, Front, Refused
from exposed import BUDGETS, NODES, Exposed, clean

from kubeconfigs import kubeconfig

INSIDE = f"pgb-service.{NAMESPACE}.svc.cluster.local"
PENDING = "the load balancer has no address yet"


@pytest.fixture
def exposed(cluster, tmp_path, monkeypatch):
    """Return a platform whose leader reaches the API by a front that counts requests."""
    front = Front(cluster)

    def of(application="pgb", **how):
        (tmp_path / "kubeconfig").write_text(kubeconfig(front.url, APPLICATIONS[application][0]))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        return Exposed(cluster, front, application, **how)

    yield of
    front.close()
    clean(cluster)


def kind_of(told, platform):
    """Return the kind of the endpoints that a client has."""
    hosts = {endpoint.rpartition(":")[0] for endpoint in told.split(",")}
    if hosts == {platform.model.service_host}:
        return "false"
    return "nodeport" if all(host.startswith("10.30.") for host in hosts) else "loadbalancer"


def test_c1_endpoints_are_never_empty_nor_of_a_kind_before(exposed):
    platform = exposed()
    port = 6432
    for kind in ("nodeport", "loadbalancer", "nodeport", "false", "loadbalancer", "false"):
        platform.option(expose_external=kind)
        if kind == "loadbalancer":
            assert kind_of(platform.told, platform) != "loadbalancer"
            platform.balancer({"ip": "203.0.113.5"})
            platform.hook()
            platform.rest()
        assert kind_of(platform.told, platform) == kind
        port += 1
        platform.option(listen_port=port)
        assert kind_of(platform.told, platform) == kind
        expected = platform.node_port(port) if kind == "nodeport" else port
        assert {end.rpartition(":")[2] for end in platform.told.split(",")} == {str(expected)}
        types = {"false": "ClusterIP", "nodeport": "NodePort", "loadbalancer": "LoadBalancer"}
        assert platform.found()["spec"]["type"] == types[kind]
        assert [entry["port"] for entry in platform.found()["spec"]["ports"]] == [port]
    print(platform.history)
    assert all(platform.history)
    assert not any(":-1" in told or ":0" in told for told in platform.history)
    kinds = [kind_of(told, platform) for told in platform.history]
    turns = [kind for kind, before in zip(kinds, [None, *kinds], strict=False) if kind != before]
    assert turns == [
        "false", "nodeport", "loadbalancer", "nodeport", "false", "loadbalancer", "false",
    ]  # fmt: skip
    # The name inside of the cluster led to the units all the time.
    assert platform.told == f"{INSIDE}:{port}"


def test_c1_a_port_of_nodes_stays_when_the_service_is_applied_again(exposed):
    platform = exposed()
    platform.option(expose_external="nodeport")
    port = platform.node_port(6432)
    assert platform.told == f"10.30.0.1:{port},10.30.0.2:{port}"
    platform.edit({"spec": {"publishNotReadyAddresses": True}})
    platform.hook()
    assert platform.found()["spec"].get("publishNotReadyAddresses", False) is False
    platform.cluster.request("DELETE", f"{HERE}/services/pgb-service")
    platform.hook()
    assert platform.node_port(6432) == port
    platform.option(external_traffic_policy="local")
    platform.option(expose_external="loadbalancer")
    assert platform.node_port(6432) == port


def test_c1_a_port_of_nodes_that_another_service_has_is_replaced(exposed, cluster):
    platform = exposed()
    platform.option(expose_external="nodeport")
    port = platform.node_port(6432)
    cluster.request("DELETE", f"{HERE}/services/pgb-service")
    taken = {"name": "x", "port": 1, "nodePort": port}
    body = {"metadata": {"name": "taker"}, "spec": {"type": "NodePort", "ports": [taken]}}
    cluster.request("POST", f"{HERE}/services", body)
    try:
        platform.hook()
        other = platform.node_port(6432)
        assert other != port
        assert platform.told == f"10.30.0.1:{other},10.30.0.2:{other}"
    finally:
        cluster.request("DELETE", f"{HERE}/services/taker")


def annotations(platform):
    return platform.found()["metadata"].get("annotations", {})


def test_c2_annotations_equal_the_option_and_foreign_annotations_stay(exposed):
    platform = exposed()
    platform.edit({"metadata": {"annotations": {"theirs": "1"}}})
    wanted = {"cloud.example/a": "1", "cloud.example/b": "2"}
    for value in (wanted, {"cloud.example/a": "other"}, {"cloud.example/c": ""}, {}):
        text = json.dumps(value) if value else ""
        platform.option(expose_external="loadbalancer", loadbalancer_extra_annotations=text)
        assert annotations(platform) == {"theirs": "1", **value}
    platform.option(loadbalancer_extra_annotations=json.dumps(wanted))
    platform.option(expose_external="nodeport")
    assert annotations(platform) == {"theirs": "1"}


def test_c2_a_conflict_fails_no_hook(exposed):
    platform = exposed()
    platform.option(
        expose_external="loadbalancer", loadbalancer_extra_annotations='{"cloud.example/a": "1"}'
    )
    platform.edit({"metadata": {"annotations": {"cloud.example/a": "of a person"}}})
    platform.hook()
    assert annotations(platform) == {"cloud.example/a": "1"}
    platform.front.faults = {"PATCH": 409}
    platform.edit({"spec": {"type": "NodePort"}})
    platform.hook()
    assert platform.statuses == ["Kubernetes refuses the Service (409): this is tried again"]
    platform.front.faults = {}
    platform.hook()
    assert platform.found()["spec"]["type"] == "LoadBalancer"


def test_c2_an_annotation_that_kubernetes_refuses_is_named(exposed):
    platform = exposed()
    key = "service.beta.kubernetes.io/load-balancer-source-ranges"
    platform.option(
        expose_external="loadbalancer", loadbalancer_extra_annotations=json.dumps({key: "all"})
    )
    (text,) = platform.statuses
    assert text.startswith("Kubernetes refuses the Service (422): ")
    assert key in text
    assert platform.told == f"{INSIDE}:6432"


def test_c3_a_load_balancer_without_an_address_is_waited_for(exposed):
    platform = exposed()
    platform.option(expose_external="nodeport")
    before = platform.told
    platform.option(expose_external="loadbalancer")
    (text,) = platform.statuses
    assert text.startswith(PENDING)
    assert platform.told == before
    assert set(platform.model.ledger.outside) == {"10.30.0.1", "10.30.0.2"}
    for ingress, told in (
        ([{"ip": "203.0.113.5"}], "203.0.113.5:6432"),
        ([{"ip": "2001:db8::5"}], "[2001:db8::5]:6432"),
        ([{"hostname": "lb-1.cloud.example"}], "lb-1.cloud.example:6432"),
        ([{"ip": "203.0.113.7"}, {"ip": "203.0.113.6"}], "203.0.113.6:6432,203.0.113.7:6432"),
    ):
        platform.balancer(*ingress)
        platform.hook()
        assert platform.told == told
        assert platform.statuses == [""]
        hosts = {next(iter(entry.values())) for entry in ingress}
        platform.rest()
        assert set(platform.model.ledger.outside) == hosts
    platform.balancer()
    platform.hook()
    assert platform.statuses[0].startswith(PENDING)
    assert platform.told == "203.0.113.6:6432,203.0.113.7:6432"


def test_c3_a_new_client_waits_for_the_first_address(exposed):
    platform = exposed(expose="loadbalancer")
    assert platform.told == ""
    assert platform.statuses[0].startswith(PENDING)
    platform.balancer({"ip": "203.0.113.5"})
    platform.hook()
    assert platform.told == "203.0.113.5:6432"


@pytest.mark.parametrize("kind", ["nodeport", "loadbalancer"])
@pytest.mark.parametrize("damage", ["deleted", "rewritten", "disowned"])
def test_c4_a_service_is_repaired_by_the_next_update_status(exposed, cluster, kind, damage):
    platform = exposed()
    platform.option(expose_external=kind)
    if kind == "loadbalancer":
        platform.balancer({"ip": "203.0.113.5"})
        platform.hook()
        platform.rest()
    before, told = platform.found()["spec"], platform.told
    if damage == "deleted":
        cluster.request("DELETE", f"{HERE}/services/pgb-service")
    elif damage == "rewritten":
        ports = [{"name": "x", "port": 6432, "targetPort": 1}]
        platform.edit({"spec": {"type": "ClusterIP", "ports": ports, "selector": {"a": "b"}}})
    else:
        platform.edit({"metadata": {"ownerReferences": None, "labels": None}})
    platform.hook()
    after = platform.found()["spec"]
    assert platform.found()["metadata"]["ownerReferences"]
    ours = ("type", "selector", "ports")
    assert {key: after[key] for key in ours} == {key: before[key] for key in ours}
    assert platform.told == told


@pytest.mark.parametrize("kind", ["nodeport", "loadbalancer"])
@pytest.mark.parametrize("application", ["pgb", "shy"])
def test_c4_an_update_status_without_news_makes_a_single_request(exposed, kind, application):
    platform = exposed(application)
    platform.option(expose_external=kind)
    host = platform.model.ledger.exposed.host.partition(".")[0]
    if kind == "loadbalancer":
        platform.balancer({"ip": "203.0.113.5"}, service=host)
        platform.hook()
    platform.rest()
    version = platform.found(host)["metadata"]["resourceVersion"]
    platform.front.asked.clear()
    outcome = platform.leader.update_status()
    assert platform.front.asked == ["GET"]
    assert outcome.unchanged
    platform.leader.peers_changed()
    assert platform.front.asked == ["GET"]
    assert platform.found(host)["metadata"]["resourceVersion"] == version


def test_c5_endpoints_follow_a_unit_to_another_node(exposed):
    platform = exposed()
    platform.option(expose_external="nodeport")
    port = platform.node_port(6432)
    platform.moves(1, "node-6")
    assert platform.told == f"10.30.0.1:{port},10.30.0.7:{port}"
    platform.moves(1, "node-0")
    assert platform.told == f"10.30.0.1:{port}"
    assert set(platform.model.ledger.outside) == {"10.30.0.1"}


def test_c5_with_trust_the_best_address_of_a_node_is_told(exposed):
    platform = exposed()
    platform.node("node-0", ("Hostname", "n0"), ("InternalIP", "10.9.0.1"), ("ExternalIP", "::1"))
    platform.node("node-1", ("Hostname", "n1.example"), ("InternalIP", "not a host"))
    platform.option(expose_external="nodeport")
    port = platform.node_port(6432)
    assert platform.told == f"[::1]:{port},n1.example:{port}"
    platform.cluster.request("DELETE", f"{NODES}/node-1")
    platform.hook("leader_elected")
    assert platform.told == f"10.30.0.2:{port},[::1]:{port}"


def test_c5_without_trust_the_address_that_a_pod_has_is_told(exposed):
    platform = exposed("shy")
    platform.node("node-0", ("ExternalIP", "203.0.113.9"))
    assert platform.told == f"shy.{NAMESPACE}.svc.cluster.local:6432"
    command = "run `juju trust pgbouncer --scope=cluster`"
    assert command in platform.statuses[0]
    platform.option(expose_external="nodeport")
    port = platform.node_port(6432, "shy")
    assert platform.told == f"10.30.0.1:{port},10.30.0.2:{port}"
    platform.moves(0, "node-4")
    assert platform.told == f"10.30.0.2:{port},10.30.0.5:{port}"
    # Juju makes its Service a ClusterIP again when it applies it.
    platform.edit({"spec": {"type": "ClusterIP"}}, "shy", "juju")
    platform.hook()
    assert platform.node_port(6432, "shy") == port
    platform.option(expose_external="false")
    spec = platform.found("shy")["spec"]
    assert spec["type"] == "ClusterIP"
    assert {entry["port"] for entry in spec["ports"]} == {6432, 65535}
    assert spec["selector"] == {"app.kubernetes.io/name": "shy"}


def test_c5_with_the_policy_local_only_nodes_with_a_ready_unit_are_told(exposed):
    platform = exposed()
    platform.pod(1, "node-1", ready=False)
    platform.option(expose_external="nodeport", external_traffic_policy="local")
    port = platform.node_port(6432)
    assert platform.found()["spec"]["externalTrafficPolicy"] == "Local"
    assert platform.told == f"10.30.0.1:{port}"
    platform.pod(1, "node-1")
    platform.hook()
    assert platform.told == f"10.30.0.1:{port},10.30.0.2:{port}"
    platform.pod(0, "node-0", ready=False)
    platform.pod(1, "node-1", ready=False)
    platform.hook("leader_elected")
    assert platform.told == f"10.30.0.1:{port},10.30.0.2:{port}"
    assert platform.statuses[0].startswith("Kubernetes names no node with a ready unit")


def test_c5_trust_that_comes_later_moves_clients_and_gives_the_service_back(exposed, cluster):
    platform = exposed("shy")
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    before = cluster.allow("shy", rules)
    try:
        platform.hook("config_changed")
        platform.rest()
        assert platform.told == f"shy-service.{NAMESPACE}.svc.cluster.local:6432"
        ports = [entry["name"] for entry in platform.found("shy")["spec"]["ports"]]
        assert ports == ["placeholder"]
        assert platform.statuses == [""]
    finally:
        cluster.allow("shy", before)


def evict(cluster, pod):
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    cluster.request("POST", f"{HERE}/pods/{pod}/eviction", body)


def test_c6_a_second_unit_is_not_evicted(exposed, cluster):
    platform = exposed(units=2)
    budget = cluster.request("GET", f"{BUDGETS}/pgb-pdb")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    (owner,) = budget["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("StatefulSet", "pgb")
    # The controller of Kubernetes writes how many units may be evicted now.
    status = {
        "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2,
        "observedGeneration": budget["metadata"]["generation"],
    }  # fmt: skip
    cluster.request(
        "PATCH", f"{BUDGETS}/pgb-pdb/status", {"status": status}, "application/merge-patch+json"
    )
    evict(cluster, "pgb-1")
    with pytest.raises(Refused, match="disruption budget"):
        evict(cluster, "pgb-0")
    platform.pod(1, "node-1")


def test_c6_without_trust_the_status_says_that_evictions_have_no_limit(exposed, cluster):
    platform = exposed("shy")
    with pytest.raises(Refused, match="404"):
        cluster.request("GET", f"{BUDGETS}/shy-pdb")
    assert "limit evictions" in platform.statuses[0]


def test_c6_a_limit_of_an_operator_stays_the_only_limit(exposed, cluster):
    platform = exposed()
    selector = {"matchLabels": {"app.kubernetes.io/name": "pgb"}}
    theirs = {"metadata": {"name": "theirs"}, "spec": {"minAvailable": 1, "selector": selector}}
    cluster.request("POST", BUDGETS, theirs)
    try:
        platform.hook("config_changed")
        names = [entry["metadata"]["name"] for entry in cluster.request("GET", BUDGETS)["items"]]
        assert names == ["theirs"]
    finally:
        cluster.request("DELETE", f"{BUDGETS}/theirs")
    platform.hook("config_changed")
    assert cluster.request("GET", f"{BUDGETS}/pgb-pdb")
