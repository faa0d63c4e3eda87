"""A Kubernetes API that answers well, badly or not at all."""

import contextlib
import http.server
import json
import socket
import threading
import time
from urllib.parse import parse_qs, urlparse

import pytest

from adapters.kubernetes.exposure import LightkubeExposure, service_name
from app.errors import ExposureFailed, ExposureForbidden
from domain.service import Service
from kubeconfigs import kubeconfig

OWNER = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "pgb", "uid": "u-1"}
SERVICE = Service(kind="false", ports=(6432,))
POD = {"metadata": {"name": "pgb-0", "ownerReferences": [OWNER]}}


class Api(http.server.BaseHTTPRequestHandler):
    """Answers for a pod and takes a Service; `faults` are given first, by method."""

    faults = {}
    applied = []
    # The PodDisruptionBudgets of the namespace.
    budgets = ()
    said = "no"

    def do_GET(self):
        if self.path.endswith("/poddisruptionbudgets"):
            self._answer({"items": self.budgets})
            return
        if "/services/" in self.path and not self.faults.get("GET"):
            status = {"kind": "Status", "code": 404, "message": "not found", "reason": "NotFound"}
            self._reply(404, json.dumps(status).encode())
        else:
            self._answer(POD)

    def do_PATCH(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Api.applied.append((urlparse(self.path), self.headers["Content-Type"], body))
        self._answer(body)

    def _answer(self, body):
        fault = self.faults.get(self.command)
        if fault == "garbage":
            self._reply(200, b"<html>")
        elif fault:
            status = {"kind": "Status", "code": fault, "message": self.said, "reason": "Because"}
            self._reply(fault, json.dumps(status).encode())
        else:
            self._reply(200, json.dumps(body).encode())

    def _reply(self, code, body):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """lightkube finds this server by a kubeconfig, as it does outside of a cluster."""

    def to(port):
        (tmp_path / "config").write_text(kubeconfig(f"http://127.0.0.1:{port}"))
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        return LightkubeExposure("pgb", "dev", "pgb-0")

    return to


@pytest.fixture
def exposure(configured):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    Api.faults, Api.applied, Api.said = {}, [], "no"
    yield configured(server.server_port)
    server.shutdown()
    server.server_close()


def test_the_service_is_ours_whoever_wrote_it_before(exposure):
    exposure.expose(Service(kind="false", ports=(7000, 6432)))
    ((path, kind, body),) = Api.applied
    assert path.path == "/api/v1/namespaces/dev/services/pgb-service"
    assert parse_qs(path.query) == {"fieldManager": ["pgb"], "force": ["true"]}
    assert kind == "application/apply-patch+yaml"
    assert body["spec"] == {
        "type": "ClusterIP",
        "selector": {"app.kubernetes.io/name": "pgb"},
        "ipFamilyPolicy": "PreferDualStack",
        "publishNotReadyAddresses": False,
        "ports": [
            {"name": "pgbouncer-7000", "port": 7000, "targetPort": 7000, "protocol": "TCP"},
            {"name": "pgbouncer-6432", "port": 6432, "targetPort": 6432, "protocol": "TCP"},
        ],
    }
    assert body["metadata"]["ownerReferences"] == [OWNER]


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_what_a_human_has_to_allow_is_said_with_the_command(exposure, method):
    Api.faults[method] = 403
    Api.said = 'services "pgb-service" is forbidden: User "x" cannot create resource "services"'
    with pytest.raises(ExposureForbidden, match="run `juju trust pgb --scope=cluster`"):
        exposure.expose(SERVICE)


def test_what_is_forbidden_to_everybody_is_said_in_the_words_of_kubernetes(exposure):
    Api.faults["PATCH"] = 403
    Api.said = "exceeded quota: none,\n requested: services=1"
    with pytest.raises(ExposureForbidden) as caught:
        exposure.expose(SERVICE)
    assert str(caught.value) == (
        "Kubernetes forbids a Service: exceeded quota: none, requested: services=1"
    )


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("fault", [401, 409, 422, 429, 500, 503, "garbage"])
def test_anything_else_is_tried_again(exposure, method, fault):
    Api.faults[method] = fault
    with pytest.raises(ExposureFailed, match="tried again") as caught:
        exposure.expose(SERVICE)
    assert "the-token" not in str(caught.value)
    Api.faults.clear()
    exposure.expose(SERVICE)


def test_nobody_there_is_tried_again(configured):
    with pytest.raises(ExposureFailed, match="Kubernetes does not answer"):
        configured(1).expose(SERVICE)


def test_silence_is_not_waited_for(configured):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begin = time.monotonic()
        with contextlib.closing(listener), pytest.raises(ExposureFailed, match="does not answer"):
            configured(listener.getsockname()[1]).expose(SERVICE)
        assert time.monotonic() - begin < 5


def test_outside_of_a_cluster_there_is_a_sentence_too(tmp_path, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(ExposureFailed, match="Kubernetes does not answer"):
        LightkubeExposure("pgb", "dev", "pgb-0").expose(SERVICE)


def test_the_name_of_a_service_has_63_letters_at_most_and_is_unique():
    names = [service_name("a" * length) for length in (10, 55, 56, 60, 63)]
    assert names[:2] == ["a" * 10 + "-service", "a" * 55 + "-service"]
    assert [len(name) for name in names[1:]] == [63] * 4
    assert len(set(names)) == 5


NAME = "app.kubernetes.io/name"


@pytest.mark.parametrize(
    ("selector", "covers"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {NAME: "pgb"}}, True),
        ({"matchLabels": {NAME: "other"}}, False),
        ({"matchExpressions": [{"key": NAME, "operator": "In", "values": ["pgb", "x"]}]}, True),
        ({"matchExpressions": [{"key": NAME, "operator": "In", "values": ["x"]}]}, False),
        ({"matchExpressions": [{"key": NAME, "operator": "NotIn", "values": ["x"]}]}, True),
        ({"matchExpressions": [{"key": NAME, "operator": "NotIn", "values": ["pgb"]}]}, False),
        ({"matchExpressions": [{"key": NAME, "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": NAME, "operator": "Unheard"}]}, False),
        (
            {
                "matchLabels": {NAME: "pgb"},
                "matchExpressions": [{"key": "tier", "operator": "Exists"}],
            },
            False,
        ),
    ],
)
def test_no_budget_is_made_beside_another_that_selects_the_pods(
    exposure, monkeypatch, selector, covers
):
    spec = {} if selector is None else {"selector": selector}
    budget = {"metadata": {"name": "theirs"}, "spec": spec}
    monkeypatch.setattr(Api, "budgets", [budget])
    exposure.protect()
    made = [at.path for at, *_ in Api.applied if "poddisruptionbudgets" in at.path]
    assert bool(made) is not covers
