"""What does a hook cost that has nothing to do? Ratios and counts, against a charm that does nothing.

    python tests/bench.py

Real processes, real ops: the charm is run as Juju's agent runs it. The hook tools answer from a
recorded state, Pebble and PostgreSQL are sockets that answer what the real ones would. Two charms
take turns in one run, so a noisy machine disturbs both alike.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import json
import os
import pathlib
import shutil
import socketserver
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import Counter

HERE = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HERE / "src"), str(HERE / "tests" / "unit")]

from on_juju import APP, CONFIG, TOLD, V0, Juju  # noqa: E402 — after the path that leads there

ROUNDS = 15

TOOLS = (
    "application-version-set", "config-get", "goal-state", "is-leader", "juju-log", "network-get",
    "relation-get", "relation-ids", "relation-list", "relation-model-get", "relation-set",
    "secret-get", "secret-info-get", "secret-ids", "state-get", "state-set", "status-get", "status-set",
)  # fmt: skip

# A call that was answered before is answered by the shell: Juju's own tools are as quick.
TOOL = """#!/bin/sh
call="${{0##*/}} $*"
echo "$call" >> "{folder}/calls"
[ -f "{folder}/answers/$call" ] && exec cat "{folder}/answers/$call"
exec "{python}" "{answer}" "{folder}" "${{0##*/}}" "$@"
"""

ANSWER = """
import json, pathlib, sys
folder, tool, *words = sys.argv[1:]
state = json.loads(pathlib.Path(folder, "state.json").read_text())
flags = {"--format=json", "--app", "--refresh", "--peek"}
named, plain, words_left = {}, [], iter([word for word in words if word not in flags])
for word in words_left:
    if word.startswith("-") and word != "-":
        named[word] = next(words_left, "")
    else:
        plain.append(word)
relation = state["relations"].get(named.get("-r", "").rpartition(":")[2], {})
if tool == "relation-ids":
    said = [f"{plain[0]}:{n}" for n, one in state["relations"].items() if one["endpoint"] == plain[0]]
elif tool == "relation-list":
    said = relation["app"] if "--app" in words else relation["units"]
elif tool == "relation-get":
    said = relation["bags"].get(plain[1], {})
elif tool == "relation-model-get":
    said = {"uuid": "model"}
elif tool == "config-get":
    said = state["options"]
elif tool == "is-leader":
    said = state["leader"]
elif tool == "network-get":
    said = state["network"]
elif tool == "status-get":
    said = state["status"]
elif tool == "goal-state":
    said = {"units": {}, "relations": {}}
elif tool == "secret-get":
    key = plain[0] if plain else named["--label"]
    if key not in state["secrets"]:
        sys.exit("ERROR secret not found")
    said = state["secrets"][key]
elif tool in ("juju-log", "status-set", "relation-set", "application-version-set"):
    sys.exit()
else:
    sys.exit(f"{tool} {words} is not what a quiet hook should ask")
answer = pathlib.Path(folder, "answers", " ".join([tool, *words]))
answer.parent.mkdir(parents=True, exist_ok=True)
answer.write_text(json.dumps(said))
print(json.dumps(said))
"""

# Pebble's socket is at a place that only root may make; both charms start like this.
START = """
import os, runpy, sys
import ops.pebble
begin = ops.pebble.Client.__init__
ops.pebble.Client.__init__ = lambda self, socket_path=None, **how: begin(
    self, os.environ["PEBBLE_SOCKET"], **how)
runpy.run_path(sys.argv[1], run_name="__main__")
"""

BARE = """
import ops

class Bare(ops.CharmBase):
    pass

ops.main(Bare)
"""


class Pebble(http.server.BaseHTTPRequestHandler):
    """The three requests of a look: services, one file, and checks, of which there are none."""

    services: tuple[str, ...] = ()
    applied = ""
    seen: Counter[str] = Counter()

    def do_GET(self):
        Pebble.seen["pebble"] += 1
        if self.path.startswith("/v1/services"):
            found = [
                {"name": name, "startup": "enabled", "current": "active"} for name in self.services
            ]
            self._reply("application/json", json.dumps({"type": "sync", "result": found}))
            return
        if self.path.startswith("/v1/checks"):
            self._reply("application/json", json.dumps({"type": "sync", "result": []}))
            return
        path = "/var/lib/pgbouncer/applied.json"
        parts = [
            ("files", f'; filename="{path}"', self.applied),
            ("response", "", json.dumps({"type": "sync", "result": [{"path": path}]})),
        ]
        body = "".join(
            f'--b\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n{text}\r\n'
            for name, extra, text in parts
        )
        self._reply("multipart/form-data; boundary=b", body + "--b--\r\n")

    def _reply(self, kind, body):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def address_string(self):
        return "unix"

    def log_message(self, *_):
        pass


class Kubernetes(http.server.BaseHTTPRequestHandler):
    """Counts; there is nothing to say."""

    def do_GET(self):
        Pebble.seen["kubernetes"] += 1
        self.send_error(500)

    do_PATCH = do_GET  # noqa: N815 — the name that http.server looks for

    def log_message(self, *_):
        pass


class PostgreSQL(socketserver.BaseRequestHandler):
    """Says no to TLS, as a server does that goes on without."""

    def handle(self):
        if self.request.recv(8):
            self.request.sendall(b"N")


@contextlib.contextmanager
def listening(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def settled(folder: pathlib.Path, port: int, *, leader: bool, clients: int) -> Juju:
    """A unit of three that has all it needs; a follower is that unit after it lost the election."""
    juju = Juju(folder, others=(1, 2)).deploy()
    juju.backend(TOLD | {"endpoints": f"127.0.0.1:{port}"})
    for number in range(clients):
        juju.client(f"app-{number}", {"database": f"db{number}", **V0})
    juju.change(leader=leader)
    return juju


def recorded(juju: Juju) -> dict:
    """Juju's state, as its hook tools tell it."""
    me = f"{APP}/0"
    relations = {}
    for one in juju.state.relations:
        peer = one.endpoint == "pgb-peers"
        app = APP if peer else one.remote_app_name
        remote = one.peers_data if peer else one.remote_units_data
        bags = {f"{app}/{number}": data for number, data in remote.items()}
        bags |= {me: one.local_unit_data, APP: one.local_app_data}
        if not peer:
            bags[app] = one.remote_app_data
        units = [name for name in bags if "/" in name and name != me]
        relations[str(one.id)] = {
            "endpoint": one.endpoint,
            "app": app,
            "units": units,
            "bags": bags,
        }
    secrets = {}
    for one in juju.state.secrets:
        content = one.latest_content or one.tracked_content
        secrets |= {one.id: content} | ({one.label: content} if one.label else {})
    options = {name: option["default"] for name, option in CONFIG["options"].items()}
    address = {"hostname": "", "value": "10.0.0.0", "cidr": ""}
    network = {
        "bind-addresses": [{"mac-address": "", "interface-name": "", "addresses": [address]}],
        "egress-subnets": [], "ingress-addresses": ["10.0.0.0"],
    }  # fmt: skip
    return {
        "relations": relations, "secrets": secrets, "options": options,
        "leader": juju.state.leader, "network": network,
        "status": {"status": juju.status, "message": juju.state.unit_status.message, "status-data": {}},
    }  # fmt: skip


class Charm:
    """A charm's directory with a Juju around it, in which hooks can be run."""

    def __init__(
        self, folder: pathlib.Path, program: pathlib.Path, juju: Juju, kubernetes: str
    ) -> None:
        self.folder, self.program = folder, program
        (folder / "answers").mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps(recorded(juju)))
        (folder / "answer.py").write_text(ANSWER)
        (folder / "start.py").write_text(START)
        (folder / "kubeconfig").write_text(kubernetes)
        for name in ("metadata.yaml", "config.yaml"):
            shutil.copy(HERE / name, folder)
        (folder / "tools").mkdir()
        for name in TOOLS:
            tool = folder / "tools" / name
            text = TOOL.format(folder=folder, python=sys.executable, answer=folder / "answer.py")
            tool.write_text(text)
            tool.chmod(0o755)
        self.services = tuple(juju.services)
        self.applied = (juju.disk / "applied.json").read_text()

    def hook(self) -> tuple[float, Counter[str]]:
        """Seconds of CPU of one update-status hook, its tools included, and what it asked for."""
        calls = self.folder / "calls"
        calls.unlink(missing_ok=True)
        Pebble.services, Pebble.applied, Pebble.seen = self.services, self.applied, Counter()
        environment = {
            key: text for key, text in os.environ.items() if not key.startswith("PYTHON")
        }
        environment |= {
            "PATH": f"{self.folder / 'tools'}:{os.environ['PATH']}",
            "PYTHONPATH": str(HERE / "src"),
            "JUJU_CHARM_DIR": str(self.folder),
            "JUJU_DISPATCH_PATH": "hooks/update-status",
            "JUJU_UNIT_NAME": "pgbouncer-k8s/0",
            "JUJU_MODEL_NAME": "dev",
            "JUJU_MODEL_UUID": "00000000-0000-4000-8000-000000000000",
            "JUJU_VERSION": "3.6.0",
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "PEBBLE_SOCKET": str(self.folder.parent / "pebble.socket"),
        }
        command = [sys.executable, str(self.folder / "start.py"), str(self.program)]
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=said, stderr=subprocess.STDOUT
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                calls_made = calls.read_text() if calls.exists() else ""
                raise SystemExit(
                    f"the hook failed ({process.returncode}):\n{said.read().decode()}\n{calls_made}"
                )
        tools = (
            [line.split(" ")[0] for line in calls.read_text().splitlines()]
            if calls.exists()
            else []
        )
        seen = Counter(Pebble.seen, tools=len(tools))
        seen["writes"] = sum(name.endswith("-set") and name != "status-set" for name in tools)
        return usage.ru_utime + usage.ru_stime, seen


def medians(one: Charm, other: Charm) -> tuple[float, float]:
    """Medians of both, taken in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        if sys.stderr.isatty():
            print(f"\r  round {number + 1} of {ROUNDS}", end="\r", file=sys.stderr, flush=True)
        for charm, found in zip((one, other), times, strict=True):
            found.append(charm.hook()[0])
    return statistics.median(times[0]), statistics.median(times[1])


@dataclasses.dataclass
class Line:
    """One thing that was measured, and how much of it is allowed."""

    what: str
    measured: float
    allowed: float

    def __str__(self) -> str:
        verdict = "ok" if self.measured <= self.allowed else "TOO MUCH"
        return f"{self.what:<66} {self.measured:>7.2f} {self.allowed:>8.2f}  {verdict}"


def measured(folder: pathlib.Path, port: int, kubernetes: str) -> list[Line]:
    """All lines of the table."""
    bare_program = folder / "bare.py"
    bare_program.write_text(BARE)
    charm_program = HERE / "src" / "charm.py"
    lines: list[Line] = []
    counts = {}
    for role, leader in (("leader", True), ("follower", False)):
        for clients in (1, 5):
            juju = settled(folder / f"{role}-{clients}-juju", port, leader=leader, clients=clients)
            charm = Charm(folder / f"{role}-{clients}", charm_program, juju, kubernetes)
            _, looked = charm.hook()
            _, quiet = charm.hook()
            counts[role, clients] = quiet
            lines.append(
                Line(f"{role}, {clients} client(s), first look: writes", looked["writes"], 0)
            )
            if clients > 1:
                continue
            bare = Charm(folder / f"{role}-bare", bare_program, juju, kubernetes)
            bare.hook()
            ours, theirs = medians(charm, bare)
            lines.append(
                Line(
                    f"{role}, quiet: CPU, as a multiple of a bare ops charm's", ours / theirs, 1.5
                )
            )
            lines.append(
                Line(f"{role}, quiet: calls of hook tools", quiet["tools"], 24 if leader else 14)
            )
            lines.append(Line(f"{role}, quiet: requests to Pebble", quiet["pebble"], 3))
            lines.append(
                Line(f"{role}, quiet: requests to Kubernetes", quiet["kubernetes"], int(leader))
            )
            lines.append(Line(f"{role}, quiet: writes", quiet["writes"], 0))
        more = (counts[role, 5]["tools"] - counts[role, 1]["tools"]) / 4
        lines.append(Line(f"{role}, quiet: calls of hook tools for each further client", more, 4))
    return lines


def main() -> int:
    """Print the table; 1 if anything costs more than it may."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = pathlib.Path(name)
        pebble = socketserver.ThreadingUnixStreamServer(str(folder / "pebble.socket"), Pebble)
        postgresql = socketserver.ThreadingTCPServer(("127.0.0.1", 0), PostgreSQL)
        kubernetes = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Kubernetes)
        with listening(pebble), listening(postgresql), listening(kubernetes):
            config = json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                    "clusters": [
                        {
                            "name": "k",
                            "cluster": {"server": f"http://127.0.0.1:{kubernetes.server_port}"},
                        }
                    ],
                    "users": [{"name": "u", "user": {}}],
                }
            )
            lines = measured(folder, postgresql.server_address[1], config)
    print(f"{'':<66} {'found':>7} {'allowed':>8}")
    print(*lines, sep="\n")
    return int(any(line.measured > line.allowed for line in lines))


if __name__ == "__main__":
    sys.exit(main())
