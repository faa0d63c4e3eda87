"""Whatever Pebble, Kubernetes or a file that we left answers is understood, or is one sentence."""

import http.server
import json
import pathlib
import tempfile
import threading
import time
from types import SimpleNamespace

import ops
import pytest
from hostile.inputs import ANY_TEXT, BRACKETS, JSON_TEXT, LARGE, TEXT, damaged, outcome
from hypothesis import example
from hypothesis import strategies as st
from plans import plan
from profiles import given
from samples import AUTH

from adapters.kubernetes.exposure import LightkubeExposure
from adapters.local.pooler import LocalPooler
from adapters.pebble import pooler as pebble
from adapters.pebble.names import ASK_AGAIN
from adapters.pebble.observed import ObservedContainer
from adapters.pebble.pooler import PebblePooler
from adapters.pebble.reminder import DELAYS, PebbleReminder
from app.errors import ExposureFailed, ExposureForbidden, PoolerFailed
from domain.applied import AppliedState, applied_state, in_transition, steps
from domain.budget import next_process_limits, processes
from domain.capabilities import PgBouncerRuntime, Version
from domain.facts import Container
from domain.instances import Layout, pooler_config
from domain.service import Service
from kubeconfigs import kubeconfig

PROGRAM = PgBouncerRuntime(version=Version(1, 24), cpus=2, files=1000)
PLANNED = plan(databases=("shop",))
MEMORY = applied_state(pooler_config(PLANNED, "pgb/0", PROGRAM, pebble.LAYOUT, AUTH), PROGRAM)
LEFT = MEMORY.model_copy(
    update={"ending": (MEMORY.instances[0].model_copy(update={"index": 16}),)}
).model_dump(mode="json")


def answers(value):
    """Something that answers so, or raises it."""

    def answer(*_, **__):
        if isinstance(value, BaseException):
            raise value
        return value

    return answer


class Record:
    """The file of the charm, which has this text or cannot be read."""

    def __init__(self, applied):
        self.read_text = answers(
            applied
            if isinstance(applied, Exception)
            else json.dumps({"applied": applied, "files": {}, "layer": "", "pebble": ""})
        )


def observed(*, memory="", **how):
    """The container as a hook sees it, with a record of what was applied."""
    return ObservedContainer(container(**how), Record(memory))


def container(*, services=(), printed=("", ""), changes=(), checks=()):
    """What is used of an ops.Container; it runs nothing."""

    def run(command, *, working_dir, timeout):
        version, limits = printed
        error = next((part for part in printed if isinstance(part, Exception)), None)
        return SimpleNamespace(wait_output=answers(error or (limits + "\n" + version, "")))

    return SimpleNamespace(
        pebble=SimpleNamespace(
            get_services=answers(services),
            get_changes=answers(changes),
            get_checks=answers(()),
            start_checks=answers([]),
        ),
        exec=run,
        get_plan=answers(SimpleNamespace(checks=dict(checks))),
    )


def service(name):
    active = ops.pebble.ServiceStatus.ACTIVE
    return ops.pebble.ServiceInfo(name, ops.pebble.ServiceStartup.ENABLED, active)


# ---- Pebble ----------------------------------------------------------------------------------
SERVICES = st.lists(
    st.sampled_from(("pgbouncer-0", "pgbouncer-16")) | TEXT | TEXT.map("pgbouncer-{}".format)
)


@given(SERVICES, damaged(LEFT) | ANY_TEXT, st.lists(ANY_TEXT, max_size=3))
@example(["pgbouncer-exporter", "pgbouncer-0"], json.dumps(LEFT), [])
@example(["pgbouncer-\u00b2", "pgbouncer-" + "9" * 5000], json.dumps(LEFT), [])
@example([], json.dumps(LEFT), ['Stop service "pgbouncer-' + "9" * 5000 + '"'])
@example([], json.dumps(LEFT).replace('"limit": ', '"limit": -'), [])
def test_what_runs_is_seen_whatever_else_is_there(names, memory, summaries):
    tasks = [SimpleNamespace(summary=summary) for summary in summaries]
    changes = [SimpleNamespace(kind="stop", tasks=tasks)]
    there = observed(services=list(map(service, names)), memory=memory, changes=changes)
    found = PebblePooler(there).read()
    assert found.reachable
    assert {f"pgbouncer-{index}" for index in found.running} <= set(names)
    assert found.running.issuperset(
        {int(one[10:]) for one in names if one in ("pgbouncer-0", "pgbouncer-16")}
    )
    if found.applied:
        goes_on(found.applied, found.running)


def goes_on(known, running):
    """A memory that was read takes part in what comes next, and gives nobody more than there is."""
    wanted = processes(PLANNED, "pgb/0", PROGRAM.cpus)
    total = PLANNED.share_of("pgb/0")
    held = {process.index: process.most for process in known.running}
    given_out = {one.index: one.limit for one in next_process_limits(wanted, total, known.running)}
    more = [max(0, limit - held.get(index, 0)) for index, limit in given_out.items()]
    assert sum(more) <= max(0, total - sum(held.values()))
    config = pooler_config(PLANNED, "pgb/0", PROGRAM, pebble.LAYOUT, AUTH)
    after = applied_state(config, PROGRAM, known, running)
    assert {step.index for step in steps(known, after, running)} <= running | set(given_out) | {
        0,
        1,
    }
    assert AppliedState.model_validate_json(in_transition(known, after).model_dump_json())


@pytest.mark.parametrize(
    "error",
    [
        ops.pebble.ConnectionError("gone"),
        ops.pebble.ProtocolError("<html>"),
        ops.pebble.APIError({}, 500, "", "no"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_pebble_that_makes_no_sense_is_a_container_out_of_reach(error):
    assert PebblePooler(observed(services=error)).read() == Container()


def test_a_pebble_that_is_too_slow_is_there_and_says_nothing():
    late = ops.pebble.TimeoutError("late")
    assert PebblePooler(observed(services=late)).read() == Container(timed_out=True)


NO_TEXT = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


@pytest.mark.parametrize("error", [FileNotFoundError("no"), NO_TEXT], ids=str)
def test_a_memory_that_cannot_be_read_is_none(error):
    found = PebblePooler(observed(services=[service("pgbouncer-0")], memory=error)).read()
    assert found == Container(reachable=True, running=frozenset({0}))


SAID = st.lists(
    st.sampled_from(("1048576", "unlimited", "2", "max", "100000", "-1", "0")) | TEXT, max_size=6
).map("\n".join)


@given(st.sampled_from(("PgBouncer 1.24.1", "PgBouncer 1.²")) | ANY_TEXT, SAID | ANY_TEXT)
@example("PgBouncer 1.24.1", "\u00b2\n\u00b2")
@example("PgBouncer 1.24.1", "9" * 5000 + "\n" + "9" * 5000)
@example("PgBouncer 1.24.1", "1024\n4\n1 0")
@example("1." + "9" * 5000, "")
@example("PgBouncer 1.24.1", NO_TEXT)
@example(NO_TEXT, "")
@example(ops.pebble.ChangeError("a\x1b[2Jb" * LARGE, SimpleNamespace(tasks=[])), "")
@example(ops.pebble.ExecError(["pgbouncer"], 1, "\ud800", "\0"), "")
def test_a_program_says_its_version_or_that_it_has_none(printed, said):
    pooler = PebblePooler(observed(printed=(printed, said)))
    found, refusal = outcome(pooler.program, PoolerFailed)
    if not refusal:
        assert found.cpus >= 1
        assert found.files >= 0
        assert PgBouncerRuntime.model_validate_json(found.model_dump_json()) == found


@given(ANY_TEXT | st.floats().map(str), ANY_TEXT | st.floats().map(str))
@example("inf", "-inf")
@example("nan", "nan")
@example(str(time.time() + 10**9), "1e300")
def test_a_reminder_goes_on_whatever_the_last_one_says(since, attempt):
    known = {"TOPIC": "a client", "SINCE": since, "ATTEMPT": attempt}
    check = ops.pebble.Check(ASK_AGAIN, {"exec": {"command": "sh", "environment": known}})
    there = container(checks={ASK_AGAIN: check})
    sent = []
    there.add_layer = lambda _, layer, combine: sent.append(layer.checks[ASK_AGAIN])
    assert PebbleReminder(there).remind("a client")
    # What is written is what the next reminder goes by: not in the future, so that time runs out.
    assert all(float(one.exec["environment"]["SINCE"]) <= time.time() for one in sent)
    assert {one.period for one in sent} <= {f"{delay}s" for delay in DELAYS}


# ---- what we left on a disk ------------------------------------------------------------------
@given(
    damaged(LEFT).map(lambda text: text.encode(errors="surrogatepass")) | st.binary(),
    st.lists(st.integers(0, 40).map(str) | st.sampled_from(("0.bak", "0x", "9" * 200, "٣"))),
)
@example(b"\xff", ["0.bak"])
def test_a_local_unit_sees_its_processes_among_other_files(memory, names):
    with tempfile.TemporaryDirectory() as home:
        for name in names:
            pathlib.Path(home, name).mkdir(exist_ok=True)
            pathlib.Path(home, name, "pgbouncer.pid").write_bytes(memory[:20])
        pathlib.Path(home, "applied.json").write_bytes(memory)
        found = LocalPooler(pathlib.Path("pgbouncer"), Layout(root=home), None).read()
        assert found.running == frozenset()
        if found.applied:
            goes_on(found.applied, frozenset())


# ---- Kubernetes ------------------------------------------------------------------------------
class Api(http.server.BaseHTTPRequestHandler):
    """Answers all that is asked with the same."""

    code, body, protocol_version = 200, b"", "HTTP/1.1"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.code)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_PATCH = do_DELETE = do_GET  # noqa: N815 — http.server looks for this name

    def log_message(self, *_):
        pass


@pytest.fixture
def exposure(tmp_path, monkeypatch):
    api = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=api.serve_forever, args=(0.01,), daemon=True).start()
    config = tmp_path / "config"
    config.write_text(kubeconfig(f"http://127.0.0.1:{api.server_port}"))
    monkeypatch.setenv("KUBECONFIG", str(config))
    yield LightkubeExposure("pgb", "dev", "pgb-0")
    api.shutdown()
    api.server_close()


POD = {
    "metadata": {
        "name": "pgb-0",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Set", "name": "pgb", "uid": "u-1"}],
    }
}
STATUS = {"kind": "Status", "code": 403, "message": 'User "x" cannot patch', "reason": "Forbidden"}


@given(
    st.sampled_from((200, 403, 409, 500)), damaged(POD, STATUS) | JSON_TEXT | ANY_TEXT, times=0.4
)
@example(200, "[" * BRACKETS + "]" * BRACKETS)
@example(200, "[1]")
@example(200, '{"metadata": 5}')
@example(200, '{"metadata": {"ownerReferences": "x"}}')
@example(403, '{"message": ["a"], "code": 403}')
@example(403, '{"message": "\\u001b[2J\\n no"}')
@example(500, "[]")
@example(500, '{"code": "' + "x" * 10_000 + '"}')
def test_kubernetes_did_as_asked_or_there_is_a_sentence(exposure, code, body):
    Api.code, Api.body = code, body.encode(errors="surrogatepass")
    _, refusal = outcome(
        lambda: exposure.expose(Service(kind="false", ports=(6432,))),
        ExposureFailed,
        ExposureForbidden,
    )
    assert refusal.startswith("Kubernetes ") if refusal else code == 200


SERVICE = {
    "metadata": {
        "name": "pgb-service",
        "ownerReferences": POD["metadata"]["ownerReferences"],
        "managedFields": [
            {
                "manager": "pgb",
                "operation": "Apply",
                "fieldsV1": {
                    "f:metadata": {"f:annotations": {".": {}, "f:a": {}}},
                    "f:spec": {"f:ports": {'k:{"port":6432,"protocol":"TCP"}': {}}},
                },
            }
        ],
    },
    # The answer is read as a pod, too.
    "spec": {
        "containers": [],
        "type": "LoadBalancer",
        "ports": [{"port": 6432, "nodePort": 30000}],
    },
    "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.5"}, {"hostname": "lb.example"}]}},
}
PODS = {
    "metadata": {},
    "items": [
        {
            "metadata": {"name": "pgb-0"},
            "spec": {"containers": [], "nodeName": "node-0"},
            "status": {
                "hostIP": "10.0.0.1",
                "addresses": [{"type": "ExternalIP", "address": "203.0.113.5"}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    ],
}
BUDGETS = {
    "metadata": {},
    "items": [
        {
            "metadata": {"name": "pgb-pdb"},
            "spec": {"selector": {"matchLabels": {"app.kubernetes.io/name": "pgb"}}},
        }
    ],
}
EXPOSED = {"kind": "loadbalancer", "ports": (6432,), "node_ports": ((6432, 30000),)}


@given(
    st.sampled_from(("expose", "borrow", "nodes", "protect", "release")),
    st.sampled_from((200, 403, 404, 422)),
    damaged(SERVICE, PODS, BUDGETS, STATUS) | JSON_TEXT,
    times=0.4,
)
@example("expose", 200, json.dumps(SERVICE | {"status": {"loadBalancer": {"ingress": [{}]}}}))
@example("expose", 200, json.dumps(SERVICE | {"status": {"loadBalancer": {"ingress": "x"}}}))
@example(
    "expose", 200, json.dumps(SERVICE | {"spec": {"ports": [{"port": 6432, "nodePort": -1}]}})
)
@example("nodes", 200, json.dumps({"metadata": {}, "items": [{"spec": {"nodeName": "../../x"}}]}))
@example("nodes", 200, json.dumps({"items": [{"metadata": {}, "status": {"hostIP": "a b"}}]}))
def test_an_odd_answer_of_kubernetes_is_understood_or_is_a_sentence(
    exposure, request_, code, body
):
    Api.code, Api.body = code, body.encode(errors="surrogatepass")
    service = Service(**EXPOSED, borrowed=request_ == "borrow")
    calls = {
        "expose": lambda: exposure.expose(service),
        "borrow": lambda: exposure.expose(service),
    }
    call = calls.get(request_) or getattr(exposure, request_)
    _, refusal = outcome(call, ExposureFailed, ExposureForbidden)
    assert refusal.startswith(("Kubernetes ", "there is no Service ")) or not refusal
    assert len(refusal) < 1000


@pytest.mark.parametrize(
    "host", ["", "a b", "-x", "x" * 300, "::1%eth0", "1.2.3.4/24", "é.example"]
)
def test_an_address_of_a_load_balancer_that_is_no_host_is_not_told(exposure, host):
    listed = [{"hostname": host}, {"ip": host}, {"ip": "203.0.113.5"}]
    body = SERVICE | {"status": {"loadBalancer": {"ingress": listed}}}
    Api.code, Api.body = 200, json.dumps(body).encode()
    assert exposure.expose(Service(**EXPOSED)).ingress == ("203.0.113.5",)
