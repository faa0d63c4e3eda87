"""What Kubernetes really does with what LightkubeExposure asks for: a real API, its RBAC and validation."""

import contextlib
import json
import socket
import time

import pytest
from cluster import APPLICATIONS, HERE, MERGE, NAMESPACE, Front, Refused

from adapters.kubernetes.exposure import LightkubeExposure
from app.errors import ExposureFailed, ExposureForbidden
from domain.service import Service
from kubeconfigs import kubeconfig

APPLY = "application/apply-patch+yaml"

# What nobody waits for: two requests may take two seconds each, and the second follows an answer.
SOON = 3.5


@pytest.fixture
def front(cluster):
    front = Front(cluster)
    yield front
    front.close()


@pytest.fixture
def exposing(cluster, tmp_path, monkeypatch):
    """How an application finds the API, by a kubeconfig, as in its cluster by its service account."""

    def of(application="pgb", url=cluster.url, token=None):
        config = kubeconfig(url, token or APPLICATIONS[application][0], str(cluster.authority))
        (tmp_path / "kubeconfig").write_text(config)
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
        return LightkubeExposure(application, NAMESPACE, f"{application}-0")

    yield of
    for name in APPLICATIONS:
        delete(cluster, f"{name}-service")


def ports(*numbers, **how):
    """Return a Service inside of the cluster with these ports."""
    return Service(**{"kind": "false", "ports": numbers} | how)


def path(name="pgb-service"):
    return f"{HERE}/services/{name}"


def delete(cluster, name="pgb-service"):
    with contextlib.suppress(Refused):
        cluster.request("DELETE", path(name))


def service(cluster, name="pgb-service"):
    return cluster.request("GET", path(name))


def ports_of(found):
    return [(one["name"], one["port"], one["targetPort"]) for one in found["spec"]["ports"]]


def made_by_another(cluster, name="pgb-service", manager="the-charm-before", **spec):
    """A Service that somebody else created, with other thoughts about it."""
    body = {
        "metadata": {"name": name, "annotations": {"kept": "yes"}, "labels": {"whose": "theirs"}},
        "spec": {"selector": {"app": "old", "role": "primary"}, **spec},
    }  # fmt: skip
    return cluster.request("POST", f"{HERE}/services?fieldManager={manager}", body)


ONE_PORT = [{"name": "pgbouncer", "port": 6432, "targetPort": 5432}]


# ---- what is there afterwards ------------------------------------------------------------------


def test_a_service_leads_to_the_port_of_every_unit(cluster, exposing):
    exposing().expose(ports(6432))
    found = service(cluster)
    assert ports_of(found) == [("pgbouncer-6432", 6432, 6432)]
    assert found["spec"]["type"] == "ClusterIP"
    assert found["spec"]["selector"] == {"app.kubernetes.io/name": "pgb"}
    assert found["spec"]["clusterIP"].startswith("10.152.183.")


def test_what_is_as_it_should_be_stays_untouched(cluster, exposing):
    exposing().expose(ports(6432))
    before = service(cluster)["metadata"]["resourceVersion"]
    exposing().expose(ports(6432))
    assert service(cluster)["metadata"]["resourceVersion"] == before


def test_the_service_is_garbage_when_the_application_has_gone(cluster, exposing):
    exposing().expose(ports(6432))
    (owner,) = service(cluster)["metadata"]["ownerReferences"]
    owners = f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets/pgb"
    assert owner["uid"] == cluster.request("GET", owners)["metadata"]["uid"]
    assert (owner["kind"], owner["name"]) == ("StatefulSet", "pgb")


def test_ports_change_and_the_address_stays(cluster, exposing):
    exposing().expose(ports(6432))
    address = service(cluster)["spec"]["clusterIP"]
    exposing().expose(ports(7000, 6432))
    assert [port for _, port, _ in ports_of(service(cluster))] == [7000, 6432]
    exposing().expose(ports(7000))
    assert ports_of(service(cluster)) == [("pgbouncer-7000", 7000, 7000)]
    assert service(cluster)["spec"]["clusterIP"] == address


def test_a_service_that_was_deleted_is_made_again(cluster, exposing):
    exposing().expose(ports(6432))
    delete(cluster)
    exposing().expose(ports(6432))
    assert ports_of(service(cluster)) == [("pgbouncer-6432", 6432, 6432)]


def test_what_somebody_edited_is_put_right_and_what_is_theirs_stays(cluster, exposing):
    exposing().expose(ports(6432))
    edit = {
        "metadata": {"annotations": {"kept": "yes"}, "ownerReferences": None},
        "spec": {
            "selector": {"app.kubernetes.io/name": None, "nobody": "at-all"},
            "ports": [{"name": "other", "port": 6432, "targetPort": 1}],
            "sessionAffinity": "ClientIP",
        },
    }
    cluster.request("PATCH", f"{path()}?fieldManager=kubectl-edit", edit, MERGE)
    exposing().expose(ports(6432))
    found = service(cluster)
    assert ports_of(found) == [("pgbouncer-6432", 6432, 6432)]
    assert found["spec"]["selector"] == {"app.kubernetes.io/name": "pgb"}
    assert found["metadata"]["annotations"] == {"kept": "yes"}
    assert found["spec"]["sessionAffinity"] == "ClientIP"
    assert len(found["metadata"]["ownerReferences"]) == 1


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "ClusterIP", "ports": ONE_PORT},
        {"type": "NodePort", "ports": ONE_PORT},
        {"type": "LoadBalancer", "ports": ONE_PORT, "externalTrafficPolicy": "Local"},
        {"type": "ExternalName", "externalName": "old.example", "ports": ONE_PORT},
    ],
    ids=lambda spec: spec["type"],
)
def test_a_service_of_a_former_owner_becomes_ours(cluster, exposing, spec):
    made_by_another(cluster, **spec)
    exposing().expose(ports(6432))
    found = service(cluster)
    assert ports_of(found) == [("pgbouncer-6432", 6432, 6432)]
    assert found["spec"]["type"] == "ClusterIP"
    assert found["spec"]["selector"] == {"app.kubernetes.io/name": "pgb"}
    assert found["spec"]["clusterIP"].startswith("10.152.183.")
    assert "nodePort" not in found["spec"]["ports"][0]
    assert found["metadata"]["annotations"] == {"kept": "yes"}
    assert len(found["metadata"]["ownerReferences"]) == 1


def test_who_applied_it_before_loses_every_field_that_we_name(cluster, exposing):
    theirs = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "pgb-service"},
        "spec": {"type": "NodePort", "selector": {"app": "old"}, "ports": ONE_PORT},
    }  # fmt: skip
    cluster.request("PATCH", f"{path()}?fieldManager=the-charm-before", theirs, APPLY)
    exposing().expose(ports(6432))
    assert ports_of(service(cluster)) == [("pgbouncer-6432", 6432, 6432)]
    # Whoever comes again with the old one is refused, as long as it does not insist.
    with pytest.raises(Refused, match="409"):
        cluster.request("PATCH", f"{path()}?fieldManager=the-charm-before", theirs, APPLY)
    managers = [one["manager"] for one in service(cluster)["metadata"]["managedFields"]]
    assert "pgb" in managers


# ---- what Kubernetes refuses -------------------------------------------------------------------


def test_without_trust_the_ports_are_added_to_the_service_of_juju(cluster, exposing):
    assert exposing("shy").expose(ports(6432)).host == f"shy.{NAMESPACE}.svc.cluster.local"
    assert ports_of(service(cluster, "shy")) == [
        ("placeholder", 65535, 65535),
        ("pgbouncer-6432", 6432, 6432),
    ]
    exposing("shy").expose(ports(7000))
    assert [port for _, port, _ in ports_of(service(cluster, "shy"))] == [65535, 7000]
    with pytest.raises(Refused, match="404"):
        service(cluster, "shy-service")
    exposing("shy").release()
    assert ports_of(service(cluster, "shy")) == [("placeholder", 65535, 65535)]


def test_without_trust_a_service_that_is_there_can_be_kept(cluster, exposing):
    made_by_another(cluster, "shy-service", ports=ONE_PORT)
    exposing("shy").expose(ports(6432))
    assert ports_of(service(cluster, "shy-service")) == [("pgbouncer-6432", 6432, 6432)]


def test_a_token_that_is_worth_nothing_is_tried_again(exposing):
    with pytest.raises(ExposureFailed, match=r"\(401\): this is tried again") as caught:
        exposing(token="a-token-that-has-expired").expose(ports(6432))
    assert "a-token" not in str(caught.value)


def test_a_pod_that_is_not_there_is_tried_again(cluster, exposing):
    exposing()
    with pytest.raises(ExposureFailed, match=r"\(404\): this is tried again"):
        LightkubeExposure("pgb", NAMESPACE, "pgb-9").expose(ports(6432))


def test_what_cannot_be_valid_is_said_and_is_no_obstacle_for_long(cluster, exposing):
    """Another's port has no name, which only the single port of a Service may do without."""
    made_by_another(cluster, ports=[{"port": 5432}])
    with pytest.raises(ExposureFailed, match=r"\(422\)"):
        exposing().expose(ports(6432))
    delete(cluster)
    exposing().expose(ports(6432))


def test_a_quota_is_not_a_lack_of_trust(cluster, exposing):
    quotas = f"{HERE}/resourcequotas"
    hard = {"services": "0"}
    quota = {"metadata": {"name": "none"}, "spec": {"hard": hard}}
    cluster.request("POST", quotas, quota)
    status = {"status": {"hard": hard, "used": {"services": "0"}}}
    cluster.request("PATCH", f"{quotas}/none/status", status, MERGE)
    try:
        with pytest.raises(ExposureForbidden, match="exceeded quota") as caught:
            until_refused(cluster, exposing())
        assert "juju trust" not in str(caught.value)
    finally:
        cluster.request("DELETE", f"{quotas}/none")


def until_refused(cluster, exposure):
    """The server hears of a quota a moment later."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        exposure.expose(ports(6432))
        delete(cluster)


# ---- an API that is not well -------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("fault", [409, 422, 429, 500, 503, "garbage", "hangs up", "silence"])
def test_a_fault_is_tried_again_and_not_waited_for(cluster, exposing, front, method, fault):
    front.faults = {method: fault}
    front.headers = {"Retry-After": "30"} if fault in {429, 503} else {}
    begin = time.monotonic()
    with pytest.raises(ExposureFailed, match="this is tried again"):
        exposing(url=front.url).expose(ports(6432))
    assert time.monotonic() - begin < SOON
    front.faults = {}
    exposing(url=front.url).expose(ports(6432))
    assert ports_of(service(cluster)) == [("pgbouncer-6432", 6432, 6432)]


def test_an_api_that_is_not_there_is_tried_again(exposing):
    begin = time.monotonic()
    with pytest.raises(ExposureFailed, match="Kubernetes does not answer: this is tried again"):
        exposing(url="https://127.0.0.1:1").expose(ports(6432))
    assert time.monotonic() - begin < SOON


def test_an_api_that_takes_connections_and_says_nothing_is_not_waited_for(exposing):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        with pytest.raises(ExposureFailed, match="does not answer"):
            exposing(url=f"https://127.0.0.1:{silent.getsockname()[1]}").expose(ports(6432))
        assert time.monotonic() - begin < SOON


def test_a_server_that_another_authority_vouches_for_is_none_of_ours(exposing, cluster, tmp_path):
    exposure = exposing()
    config = json.loads((tmp_path / "kubeconfig").read_text())
    del config["clusters"][0]["cluster"]["certificate-authority"]
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    with pytest.raises(ExposureFailed, match="does not answer"):
        exposure.expose(ports(6432))
    with pytest.raises(Refused, match="404"):
        service(cluster)
