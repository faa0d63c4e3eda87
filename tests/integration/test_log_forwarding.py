"""Log lines that a real Pebble sends to Loki."""

import contextlib
import http.server
import json
import threading

import psycopg
import pytest
from postgresql import ADMIN, PASSWORD

from adapters.juju.topology import Topology
from adapters.pebble.log_forwarding import LogForwarding
from domain.telemetry import LogTarget

# A container's file system can be mounted by root only.
pytestmark = pytest.mark.root

UUID = "8e6a0a4f-1c86-4b2e-9a37-d1f0a3d3b6c5"
LABELS = Topology("dev", UUID, "pool", "pgbouncer-k8s").of_logs("pool/0")


class Loki:
    """A server that takes log lines as Loki does."""

    def __init__(self):
        self.streams = []
        # What it answers to a request.
        self.answer = 204
        loki = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if loki.answer == 204:
                    loki.streams += json.loads(body)["streams"]
                self.send_response(loki.answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Print nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/loki/api/v1/push"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def lines(self):
        return [text for stream in self.streams for _, text in stream["values"]]


@pytest.fixture
def lokis():
    with contextlib.ExitStack() as at_the_end:
        made = [Loki() for _ in range(2)]
        for loki in made:
            at_the_end.callback(loki.close)
        yield made


def test_every_line_has_the_labels_of_the_unit(unit, workload, lokis):
    loki, other = lokis
    unit.apply(unit.config())
    forwarding = LogForwarding(workload.observed(), LABELS)
    targets = tuple(
        LogTarget(name=f"loki/{index}", url=known.url) for index, known in enumerate(lokis)
    )
    forwarding.send(targets)
    assert forwarding.read() == targets
    assert unit.answers()
    workload.wait(lambda: loki.lines() and other.lines(), 20)
    labels = {json.dumps(stream["stream"], sort_keys=True) for stream in loki.streams}
    assert [json.loads(text) for text in labels] == [{**LABELS, "pebble_service": "pgbouncer-0"}]
    # A further process sends its lines without another step.
    unit.apply(unit.config(cpus=2))
    workload.wait(lambda: "pgbouncer-1" in str(loki.streams), 20)
    # Lines end at a unit of Loki that goes, and at no other.
    forwarding.send(targets[1:])
    assert forwarding.read() == targets[1:]
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(
            host="127.0.0.1", port=unit.port, user=ADMIN, password=PASSWORD, dbname="asked_later",
            connect_timeout=5,
        )  # fmt: skip
    workload.wait(lambda: "asked_later" in str(other.lines()), 20)
    assert "asked_later" not in str(loki.lines())
    forwarding.send(())
    assert forwarding.read() == ()
    assert unit.answers()


def test_lines_that_loki_cannot_take_yet_are_sent_later(unit, workload, lokis):
    loki = lokis[0]
    loki.answer = 429
    unit.apply(unit.config())
    LogForwarding(workload.observed(), LABELS).send((LogTarget(name="loki/0", url=loki.url),))
    assert unit.answers()
    loki.answer = 204
    workload.wait(loki.lines, 30)


def test_a_configuration_keeps_the_record_of_log_targets(unit, workload, lokis):
    target = LogTarget(name="loki/0", url=lokis[0].url)
    LogForwarding(workload.observed(), LABELS).send((target,))
    unit.apply(unit.config())
    unit.apply(unit.config(query_wait_timeout=10))
    assert LogForwarding(workload.observed(), LABELS).read() == (target,)
    assert unit.answers()
