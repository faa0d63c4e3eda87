"""A Kubernetes API that shows a StatefulSet and takes changes, for the adapter `LightkubeRollout`."""

import contextlib
import http.server
import json
import threading
import time

from adapters.kubernetes.rollout import HELD, REVISION
from kubeconfigs import kubeconfig

FORBIDDEN = {
    "kind": "Status",
    "code": 403,
    "message": 'User "x" cannot get',
    "reason": "Forbidden",
}


def stateful_set(partition=0, held=None, **status):
    """Return a StatefulSet of three pods in a refresh that has begun."""
    annotations = {"annotations": {HELD: held}} if held else {}
    return {
        "metadata": {"name": "pgb", "resourceVersion": "7", "generation": 2, **annotations},
        "spec": {
            "replicas": 3,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}},
        },
        "status": {
            "observedGeneration": 2, "currentRevision": "pgb-1", "updateRevision": "pgb-2",
            "readyReplicas": 3,
        } | status,
    }  # fmt: skip


def pod(name, revision="pgb-2"):
    """Return a pod with its revision."""
    return {"metadata": {"name": name, "labels": {REVISION: revision}}}


def ending(name):
    """Return a pod with the newest revision that ends."""
    made = pod(name)
    made["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return made


class Api(http.server.BaseHTTPRequestHandler):
    """Shows a StatefulSet with its pods and takes changes; `answers` are given first, by request.

    Each answer comes after the seconds in `delays`, by request.
    """

    found, pods, answers, written, delays = {}, [], {}, [], {}

    def do_GET(self):
        lists = "/pods?" in self.path
        self.reply({"items": self.pods} if lists else self.found, "pods" if lists else "GET")

    def do_PATCH(self):
        Api.written.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.reply(self.found, "PATCH")

    def reply(self, body, request):
        waiting = self.answers.get(request, [])
        code, body = waiting.pop(0) if waiting else (200, body)
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        time.sleep(self.delays.get(request, 0))
        # A client that has waited too long has gone.
        with contextlib.suppress(ConnectionError):
            self.send(code, text)

    def send(self, code, text):
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def api(folder):
    """Serve the API, and yield the path of a configuration for its clients."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    Api.found, Api.pods, Api.answers, Api.written = stateful_set(), [], {}, []
    Api.delays = {}
    url = f"http://127.0.0.1:{server.server_port}"
    (folder / "config").write_text(kubeconfig(url))
    yield str(folder / "config")
    server.shutdown()
    server.server_close()
