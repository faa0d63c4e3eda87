"""Measure the hooks that bring nothing new, of every kind: CPU as a ratio to a bare ops charm, and counts.

    python tests/bench.py

The charm runs as Juju's agent runs it, in processes of its own with the real ops. Hook tools answer from a
recorded state. Pebble and PostgreSQL are sockets that give the answers of the real programs. Both charms
take turns, so that other load of the machine slows both.
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

ROUNDS = 7

TOOLS = (
    "application-version-set", "config-get", "goal-state", "is-leader", "juju-log", "network-get",
    "relation-get", "relation-ids", "relation-list", "relation-model-get", "relation-set",
    "secret-get", "secret-info-get", "secret-ids", "state-get", "state-set", "status-get", "status-set",
)  # fmt: skip

# The shell answers a repeated call, which takes about as long as a tool of Juju.
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
    said = [f"{plain[0]}:{n}" for n, at in state["relations"].items() if at["endpoint"] == plain[0]]
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

# Only root can make Pebble's socket at its usual path, so both charms start like this.
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
    """Answers requests for services, and for checks, of which there are none."""

    services: tuple[str, ...] = ()
    seen: Counter[str] = Counter()

    def do_GET(self):
        Pebble.seen["pebble"] += 1
        services = [
            {"name": name, "startup": "enabled", "current": "active"} for name in self.services
        ]
        result = services if self.path.startswith("/v1/services") else []
        self._reply("application/json", json.dumps({"type": "sync", "result": result}))

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
    """Counts requests, and answers with an error."""

    def do_GET(self):
        Pebble.seen["kubernetes"] += 1
        self.send_error(500)

    do_PATCH = do_GET  # noqa: N815 — the name that http.server looks for

    def log_message(self, *_):
        pass


class PostgreSQL(socketserver.BaseRequestHandler):
    """Refuses TLS, and waits for the client to go on without TLS."""

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
    """Return a unit of three that has nothing left to do; a follower is the same unit without its lease."""
    juju = Juju(folder, others=(1, 2)).deploy()
    juju.backend(TOLD | {"endpoints": f"127.0.0.1:{port}"})
    for number in range(clients):
        juju.client(f"app-{number}", {"database": f"db{number}", **V0})
    juju.change(leader=leader)
    return juju


def recorded(juju: Juju) -> dict:
    """Return Juju's state in the form in which the hook tools print it."""
    me = f"{APP}/0"
    relations = {}
    for relation in juju.state.relations:
        peer = relation.endpoint == "pgb-peers"
        app = APP if peer else relation.remote_app_name
        remote = relation.peers_data if peer else relation.remote_units_data
        bags = {f"{app}/{number}": data for number, data in remote.items()}
        bags |= {me: relation.local_unit_data, APP: relation.local_app_data}
        if not peer:
            bags[app] = relation.remote_app_data
        units = [name for name in bags if "/" in name and name != me]
        relations[str(relation.id)] = {
            "endpoint": relation.endpoint,
            "app": app,
            "units": units,
            "bags": bags,
        }
    secrets = {}
    for secret in juju.state.secrets:
        content = secret.latest_content or secret.tracked_content
        secrets |= {secret.id: content} | ({secret.label: content} if secret.label else {})
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
    """A charm's directory with the files and tools of an agent, in which hooks can be run."""

    def __init__(
        self,
        folder: pathlib.Path,
        program: pathlib.Path,
        juju: Juju,
        kubernetes: str,
        unrelated: str = "",
    ) -> None:
        self.folder, self.program = folder, program
        (folder / "answers").mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps(recorded(juju)))
        (folder / "answer.py").write_text(ANSWER)
        (folder / "start.py").write_text(START)
        (folder / "kubeconfig").write_text(kubernetes)
        for name in ("metadata.yaml", "config.yaml"):
            shutil.copy(HERE / name, folder)
        with (folder / "metadata.yaml").open("a") as metadata:
            metadata.write(unrelated)
        shutil.copy(juju.record, folder)
        (folder / "tools").mkdir()
        for name in TOOLS:
            tool = folder / "tools" / name
            text = TOOL.format(folder=folder, python=sys.executable, answer=folder / "answer.py")
            tool.write_text(text)
            tool.chmod(0o755)
        self.services = tuple(juju.services)

    def hook(self, kind: str = "update-status", **more: str) -> tuple[float, Counter[str]]:
        """Return the seconds of CPU of a hook, with its tools, and its numbers of calls."""
        calls = self.folder / "calls"
        calls.unlink(missing_ok=True)
        Pebble.services, Pebble.seen = self.services, Counter()
        environment = {
            key: text for key, text in os.environ.items() if not key.startswith("PYTHON")
        }
        environment |= {
            "PATH": f"{self.folder / 'tools'}:{os.environ['PATH']}",
            "PYTHONPATH": str(HERE / "src"),
            "JUJU_CHARM_DIR": str(self.folder),
            "JUJU_DISPATCH_PATH": f"hooks/{kind}",
            "JUJU_UNIT_NAME": "pgbouncer-k8s/0",
            "JUJU_MODEL_NAME": "dev",
            "JUJU_MODEL_UUID": "00000000-0000-4000-8000-000000000000",
            "JUJU_VERSION": "3.6.0",
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "PEBBLE_SOCKET": str(self.folder.parent / "pebble.socket"),
        } | more
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
        seen = Counter(Pebble.seen, tools=len(tools), logs=tools.count("juju-log"))
        seen["writes"] = sum(name.endswith("-set") and name != "status-set" for name in tools)
        return usage.ru_utime + usage.ru_stime, seen


def kinds(juju: Juju) -> dict[str, dict[str, str]]:
    """Return the hooks that may bring nothing new, with their variables, for every relation that there is."""
    relations = {relation.endpoint: relation for relation in juju.state.relations}
    check = {"JUJU_WORKLOAD_NAME": "pgbouncer", "JUJU_PEBBLE_CHECK_NAME": "postgresql"}
    found: dict[str, dict[str, str]] = {
        "update-status": {},
        "config-changed": {},
        "leader-elected": {},
        "pgbouncer-pebble-check-failed": check,
        "pgbouncer-pebble-check-recovered": check,
    }
    for endpoint, relation in relations.items():
        app, unit = (APP, f"{APP}/1")
        if endpoint != "pgb-peers":
            app, unit = relation.remote_app_name, f"{relation.remote_app_name}/0"
        variables = {
            "JUJU_RELATION": endpoint,
            "JUJU_RELATION_ID": f"{endpoint}:{relation.id}",
            "JUJU_REMOTE_APP": app,
            "JUJU_REMOTE_UNIT": unit,
        }
        found[f"{endpoint}-relation-joined"] = variables
        found[f"{endpoint}-relation-changed"] = variables
    return found


def ratios(charm: Charm, bare: Charm, hooks: dict[str, dict[str, str]]) -> dict[str, float]:
    """Return for each kind of hook the median of its CPU, in multiples of the bare charm's."""
    times: dict[str, list[float]] = {kind: [] for kind in hooks}
    bares: list[float] = []
    for number in range(ROUNDS):
        if sys.stderr.isatty():
            print(f"\r  round {number + 1} of {ROUNDS}", end="\r", file=sys.stderr, flush=True)
        for kind, variables in hooks.items():
            bares.append(bare.hook()[0])
            times[kind].append(charm.hook(kind, **variables)[0])
    return {
        kind: statistics.median(found) / statistics.median(bares) for kind, found in times.items()
    }


@dataclasses.dataclass
class Line:
    """A measured number, and the most that is allowed."""

    what: str
    measured: float
    allowed: float

    def __str__(self) -> str:
        verdict = "ok" if self.measured <= self.allowed else "TOO MUCH"
        return f"{self.what:<66} {self.measured:>7.2f} {self.allowed:>8.2f}  {verdict}"


# Endpoints of metadata.yaml to which nothing is related.
UNRELATED = "".join(f"\n  spare-{number}:\n    interface: spare_{number}" for number in range(8))


def measured(folder: pathlib.Path, port: int, kubernetes: str) -> list[Line]:
    """Return all lines of the table."""
    bare_program = folder / "bare.py"
    bare_program.write_text(BARE)
    program = HERE / "src" / "charm.py"
    lines: list[Line] = []
    for role, leader in (("leader", True), ("follower", False)):
        counts: dict[int, int] = {}
        for clients in (1, 5):
            name = f"{role}-{clients}"
            juju = settled(folder / f"{name}-juju", port, leader=leader, clients=clients)
            charm = Charm(folder / name, program, juju, kubernetes)
            looked = charm.hook()[1]
            lines.append(
                Line(f"{role}, {clients} client(s), first look: writes", looked["writes"], 0)
            )
            counts[clients] = charm.hook()[1]["tools"]
            if clients > 1:
                continue
            bare = Charm(folder / f"{name}-bare", bare_program, juju, kubernetes)
            bare.hook()
            hooks = kinds(juju)
            seen = {kind: charm.hook(kind, **variables)[1] for kind, variables in hooks.items()}
            for kind, ratio in ratios(charm, bare, hooks).items():
                about = f"{role}, {kind}"
                lines += [
                    Line(f"{about}: CPU / bare charm", ratio, 1.3 if leader else 1.2),
                    Line(f"{about}: hook tools", seen[kind]["tools"], 14 if leader else 8),
                    Line(f"{about}: juju-log", seen[kind]["logs"], 1),
                    Line(f"{about}: requests to Pebble", seen[kind]["pebble"], 1),
                    Line(f"{about}: requests to Kubernetes", seen[kind]["kubernetes"], 0),
                    Line(f"{about}: writes", seen[kind]["writes"], 0),
                ]
            wide = Charm(folder / f"{name}-wide", program, juju, kubernetes, UNRELATED)
            wide.hook()
            more = wide.hook()[1]["tools"] - counts[clients]
            lines.append(Line(f"{role}: hook tools for 8 endpoints without a relation", more, 0))
        more = (counts[5] - counts[1]) / 4
        lines.append(Line(f"{role}: hook tools for each further client", more, 2 if leader else 0))
    return lines


def main() -> int:
    """Print the table, and return 1 if a number is above what is allowed."""
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
