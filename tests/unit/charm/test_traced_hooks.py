"""Hooks in processes of their own, as Juju's agent runs them: what they send to a receiver of traces, and when."""

import contextlib
import http.server
import json
import pathlib
import socketserver
import sqlite3
import subprocess
import sys

import pytest
from on_juju import BACKEND_PASSWORD
from otlp import receiving, silent

import bench
from authority import Authority
from bench_agent import HERE, Charm, Kubernetes, Pebble, PostgreSQL, listening
from kubeconfigs import kubeconfig

pytestmark = pytest.mark.long

TEMPO = {"endpoint": "tracing", "app": "tempo", "units": ["tempo/0"]}
HOOK = {"JUJU_RELATION": "tracing", "JUJU_RELATION_ID": "tracing:9", "JUJU_REMOTE_APP": "tempo"}


@pytest.fixture(scope="module")
def unit(tmp_path_factory):
    """Return a unit that leads, with a client and nothing left to do."""
    folder = tmp_path_factory.mktemp("agent")
    socket = str(folder / "pebble.socket")
    with (
        listening(socketserver.ThreadingUnixStreamServer(socket, Pebble)),
        listening(socketserver.ThreadingTCPServer(("127.0.0.1", 0), PostgreSQL)) as postgresql,
        listening(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Kubernetes)) as kubernetes,
    ):
        port = postgresql.server_address[1]
        with contextlib.closing(bench.settled(folder / "unit", port, "leader", clients=1)) as juju:
            config = kubeconfig(f"http://127.0.0.1:{kubernetes.server_port}")
            yield Charm(folder / "charm", HERE / "src" / "charm.py", juju, config)


@pytest.fixture
def charm(unit):
    """Return the unit without the relation `tracing`."""
    for name in (".traces.json", ".tracing-data.db", ".tracing-data.db-journal", ".unchanged"):
        unit.folder.joinpath(name).unlink(missing_ok=True)
    yield unit
    related(unit, None)


def related(charm, fields):
    """Relate Tempo, which has written these fields, without a hook; None ends the relation."""
    file = charm.folder / "state.json"
    state = json.loads(file.read_text())
    state["relations"].pop("9", None)
    if fields is not None:
        bags = {"tempo": fields, "tempo/0": {}, "pgbouncer-k8s": {}, "pgbouncer-k8s/0": {}}
        state["relations"]["9"] = {**TEMPO, "bags": bags}
    file.write_text(json.dumps(state))
    # The hook tools repeat answers that they have given.
    for answer in (charm.folder / "answers").rglob("*"):
        if answer.is_file():
            answer.unlink()


def traced(charm, url, authorities=""):
    """Let the traces of hooks go to a URL."""
    known = {"url": f"{url}/v1/traces", "authorities": authorities}
    charm.folder.joinpath(".traces.json").write_text(json.dumps(known))


def busy(charm):
    """Run a hook that reads everything, and return the lines that it logs."""
    charm.folder.joinpath(".unchanged").unlink(missing_ok=True)
    charm.hook()
    return logged(charm)


def logged(charm):
    calls = charm.folder.joinpath("calls").read_text().splitlines()
    return [line.partition(" -- ")[2] for line in calls if line.startswith("juju-log")]


def until(charm, receiver, count):
    """Run hooks until the receiver has traces of so many hooks: a busy machine sends a trace in a later hook."""
    for _ in range(10):
        if len(receiver.hooks) >= count:
            return
        assert busy(charm) == []
    raise AssertionError(receiver.titles)


def waiting(charm):
    """Return how many traces wait in the buffer."""
    with contextlib.closing(sqlite3.connect(charm.folder / ".tracing-data.db")) as buffer:
        return buffer.execute("SELECT count(*) FROM tracing").fetchone()[0]


@pytest.fixture(scope="module")
def sent(unit):
    """Return what the receiver got of a hook."""
    with receiving() as receiver:
        traced(unit, receiver.url)
        until(unit, receiver, 1)
    return receiver


@pytest.fixture
def spans(sent):
    """Return the spans of a single hook."""
    trace = sent.hooks[0]["traceId"]
    return [span for span, _ in sent.spans if span["traceId"] == trace]


def test_a_trace_has_spans_of_the_hook_its_intents_ports_and_tools(sent, spans):
    assert {path for path, _ in sent.requests} == {"/v1/traces"}
    assert {span["name"] for span in spans} >= {
        "hook update-status", "start of the charm", "application.update_status", "facts.read",
        "intent ReconcileAccess", "intent ConfigurePooler", "relation-get", "status-set",
        "peers.announce", "databases.answers",
    }  # fmt: skip
    known = {span["spanId"] for span in spans}
    parents = [span["parentSpanId"] for span in spans if span.get("parentSpanId")]
    assert len(parents) == len(spans) - 1
    assert known >= set(parents)


def test_a_span_of_a_port_is_within_its_intent(spans):
    known = {span["spanId"]: span for span in spans}
    call = next(span for span in spans if span["name"] == "peers.announce")
    path = []
    while call:
        path.append(call["name"])
        call = known.get(call.get("parentSpanId"))
    assert path == [
        "peers.announce", "intent ConfigurePooler", "application.update_status",
        "hook update-status",
    ]  # fmt: skip


def test_a_span_of_the_hook_begins_with_its_process(spans):
    named = {span["name"]: span for span in spans}
    hook, start = named["hook update-status"], named["start of the charm"]
    assert hook["startTimeUnixNano"] == start["startTimeUnixNano"]
    # No interpreter imports ops in less.
    assert int(start["endTimeUnixNano"]) - int(start["startTimeUnixNano"]) > 50_000_000


def test_every_span_names_the_unit_by_the_labels_of_juju(unit, sent):
    expected = {
        "juju_model": "dev",
        "juju_model_uuid": unit.model,
        "juju_application": "pgbouncer-k8s",
        "juju_unit": "pgbouncer-k8s/0",
        "service.name": "pgbouncer-k8s",
    }
    for _, resource in sent.spans:
        assert expected.items() <= resource.items()


def test_no_span_has_a_secret_or_an_option(unit, sent):
    state = json.loads(unit.folder.joinpath("state.json").read_text())
    secrets = {
        value
        for content in state["secrets"].values()
        for value in content.values()
        if len(value) > 8
    }
    assert BACKEND_PASSWORD in secrets
    text = "".join(body.decode() for _, body in sent.requests)
    assert [value for value in secrets if value in text or json.dumps(value)[1:-1] in text] == []
    assert [option for option in state["options"] if option in text] == []


def imported(charm):
    """Return the modules that a quiet hook imports, and the hook tools that it calls."""
    charm.hook(PYTHONPROFILEIMPORTTIME="1")
    names = {
        line.rpartition("|")[2].strip()
        for line in charm.said.splitlines()
        if line.startswith("import time:")
    }
    return names, charm.folder.joinpath("calls").read_text()


def test_a_hook_with_nothing_to_do_costs_the_same_with_the_relation(charm, tmp_path):
    busy(charm)
    plain = imported(charm)
    assert "ops.pebble" in plain[0]
    # Python names ops_tracing itself, which it does not find.
    heavy = ("ops_tracing.", "pydantic", "opentelemetry.sdk")
    assert [name for name in plain[0] if name.startswith(heavy)] == []
    with receiving() as receiver:
        traced(charm, receiver.url)
        assert imported(charm) == plain
    assert receiver.requests == []


def test_a_hook_costs_the_same_without_ops_tracing(charm, tmp_path):
    busy(charm)
    plain = imported(charm)
    without = {"PYTHONPATH": f"{missing(tmp_path)}:{HERE / 'src'}"}
    charm.hook(**without)
    assert charm.folder.joinpath("calls").read_text() == plain[1]
    traced(charm, "http://127.0.0.1:1")
    charm.folder.joinpath(".unchanged").unlink()
    charm.hook(**without)
    assert logged(charm) == ["This hook is not traced: ImportError: not installed"]


def missing(folder):
    """Return a directory that hides ops-tracing from Python."""
    folder.joinpath("ops_tracing.py").write_text('raise ImportError("not installed")')
    return folder


def test_the_hook_that_brings_the_address_is_traced_and_the_last_is_not(charm):
    with receiving() as receiver:
        protocol = {"name": "otlp_http", "type": "http"}
        receivers = json.dumps([{"protocol": protocol, "url": receiver.url}])
        related(charm, {"receivers": receivers})
        charm.hook("tracing-relation-changed", **HOOK)
        until(charm, receiver, 2)
        assert receiver.titles[:2] == ["hook tracing-relation-changed", "hook update-status"]
        charm.hook("tracing-relation-broken", **HOOK)
        related(charm, None)
        before = len(receiver.requests)
        busy(charm)
        assert len(receiver.requests) == before
    assert list(charm.folder.glob(".trac*")) == []


def test_the_trace_of_a_hook_that_fails_has_the_class_of_the_error(charm):
    state = charm.folder / "state.json"
    before = state.read_text()
    with receiving() as receiver:
        traced(charm, receiver.url)
        # relation-list then fails.
        broken = json.loads(before)
        broken["relations"]["1"].pop("units")
        state.write_text(json.dumps(broken))
        for answer in (charm.folder / "answers").rglob("relation-list*"):
            answer.unlink()
        with pytest.raises(SystemExit, match="the hook update-status failed"):
            busy(charm)
        state.write_text(before)
        until(charm, receiver, 1)
    assert receiver.hooks[0]["status"] == {"code": 2, "message": "ModelError"}


def test_a_receiver_that_does_not_answer_gets_the_traces_later(charm):
    with silent() as url:
        traced(charm, url)
        assert busy(charm) == []
    traced(charm, "http://127.0.0.1:1")
    assert busy(charm) == []
    # A hook of more than five seconds keeps its spans in several parts.
    assert waiting(charm) >= 2
    with receiving() as receiver:
        traced(charm, receiver.url)
        until(charm, receiver, 3)


def test_a_receiver_that_refuses_the_traces_is_a_line_in_the_log(charm):
    with receiving(answer=503) as receiver:
        traced(charm, receiver.url)
        assert busy(charm) == [
            f"Tracing collector at {receiver.url}/v1/traces rejected our data, e.code=503 resp=b''"
        ]


@pytest.mark.parametrize("text", [b"no database", b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_buffer_that_cannot_be_read_is_made_again(charm, text):
    charm.folder.joinpath(".tracing-data.db").write_bytes(text)
    with receiving() as receiver:
        traced(charm, receiver.url)
        until(charm, receiver, 1)


def test_a_buffer_of_another_release_is_made_again(charm):
    with contextlib.closing(sqlite3.connect(charm.folder / ".tracing-data.db")) as buffer:
        buffer.execute("CREATE TABLE tracing (other INTEGER, priority INTEGER, id INTEGER)")
    with receiving() as receiver:
        traced(charm, receiver.url)
        # The first hook finds that the buffer cannot be used, and removes it.
        assert len(busy(charm)) <= 1
        until(charm, receiver, 1)


def test_a_buffer_that_is_locked_does_not_fail_the_hook(charm):
    traced(charm, "http://127.0.0.1:1")
    busy(charm)
    file = charm.folder / ".tracing-data.db"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as buffer:
        buffer.execute("BEGIN EXCLUSIVE")
        assert busy(charm) == []
    with receiving() as receiver:
        traced(charm, receiver.url)
        until(charm, receiver, 1)


def test_https_needs_an_authority_that_the_relation_gave(charm, tmp_path):
    right, wrong = (Authority(tmp_path / name, name) for name in ("right", "wrong"))
    with receiving(tls=right.issue("tempo", "127.0.0.1")) as receiver:
        traced(charm, receiver.url, wrong.root.read_text())
        assert busy(charm) == []
        assert receiver.requests == []
        traced(charm, receiver.url, right.root.read_text())
        until(charm, receiver, 2)


WAIT = """
import pathlib, sys, time
sys.modules["ops_tracing"] = None
import ops
from adapters.juju import delivery
from adapters.juju.tracing import Destination
folder = pathlib.Path(sys.argv[1])
before = time.monotonic()
assert delivery.begin(folder, Destination(sys.argv[2], ""))
begun = time.monotonic()
delivery.end(None)
print(begun - before, time.monotonic() - begun, flush=True)
delivery.end_process(0)
"""


def test_a_hook_waits_less_than_a_second_for_a_receiver(tmp_path):
    """Measure the waits themselves, because a whole hook takes longer on a busy machine."""
    pathlib.Path(tmp_path, "metadata.yaml").write_text("name: pgbouncer-k8s")
    environment = {
        "PYTHONPATH": str(HERE / "src"), "JUJU_CHARM_DIR": str(tmp_path),
        "JUJU_DISPATCH_PATH": "hooks/update-status", "JUJU_UNIT_NAME": "pgbouncer-k8s/0",
        "JUJU_MODEL_NAME": "dev", "JUJU_VERSION": "3.6.0",
        "JUJU_MODEL_UUID": "00000000-0000-4000-8000-000000000000",
    }  # fmt: skip
    waits = []
    with silent() as url:
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, "-c", WAIT, str(tmp_path), url],
                env=environment, capture_output=True, text=True, check=True, timeout=60,
            )  # fmt: skip
            waits.append([float(number) for number in done.stdout.split()])
    # ops-tracing itself would wait a second for each trace that waits in the buffer.
    assert min(wait for _, wait in waits) < 1
    assert all(wait < 1.5 for _, wait in waits)
