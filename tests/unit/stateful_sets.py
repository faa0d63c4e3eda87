"""A Kubernetes API that shows a StatefulSet and takes changes, for the adapter `LightkubeRollout`."""

import contextlib
import http.server
import json
import threading

from adapters.kubernetes.rollout import HELD

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
            "updatedReplicas": 0, "readyReplicas": 3,
        } | status,
    }  # fmt: skip


class Api(http.server.BaseHTTPRequestHandler):
    """Shows a StatefulSet and takes changes; `answers` are given first, by method."""

    found, answers, written = {}, {}, []

    def do_GET(self):
        self.reply(self.found)

    def do_PATCH(self):
        Api.written.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.reply(self.found)

    def reply(self, body):
        waiting = self.answers.get(self.command, [])
        code, body = waiting.pop(0) if waiting else (200, body)
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
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
    Api.found, Api.answers, Api.written = stateful_set(), {}, []
    config = {
        "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [
            {"name": "k", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
        ],
        "users": [{"name": "u", "user": {"token": "the-token"}}],
    }  # fmt: skip
    (folder / "config").write_text(json.dumps(config))
    yield str(folder / "config")
    server.shutdown()
    server.server_close()
