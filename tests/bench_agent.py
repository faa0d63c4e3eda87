"""Run hooks of a charm in processes of their own, as Juju's agent does, with answers from a recorded state.

Hook tools are scripts. Pebble, PostgreSQL and Kubernetes are sockets that give the answers of the real programs.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pathlib
import resource
import shutil
import socketserver
import subprocess
import sys
import threading
from collections import Counter

from on_juju import APP, CONFIG, Juju

HERE = pathlib.Path(__file__).resolve().parents[1]

# A hook takes about a second; a hook that takes longer than this is stopped, and ends the benchmark.
HOOK_SECONDS = 60

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

# Only root can make Pebble's socket at its usual path, so both charms start like this. What they import of
# ops, and when, is left to them.
START = """
import importlib.util, os, runpy, sys

class Finder:
    def find_spec(self, name, path, target=None):
        if name != "ops.pebble":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (load(module), lead(module.Client))
        return spec

def lead(client):
    begin = client.__init__
    client.__init__ = lambda self, socket_path=None, **how: begin(
        self, os.environ["PEBBLE_SOCKET"], **how)

sys.meta_path.insert(0, Finder())
runpy.run_path(sys.argv[1], run_name="__main__")
"""

# ops would import ops-tracing.
BARE = """
import sys
sys.modules["ops_tracing"] = None
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
    """Serve in a thread while the block runs."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


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
    options = {
        name: option["default"]
        for name, option in CONFIG["options"].items()
        if "default" in option
    }
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
        for name in ("metadata.yaml", "config.yaml", "actions.yaml"):
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
        # The labels of metrics and logs have it.
        self.model = juju.state.model.uuid
        # What the last hook wrote to its standard output and error.
        self.said = ""

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
            "JUJU_MODEL_UUID": self.model,
            "JUJU_VERSION": "3.6.0",
            "KUBECONFIG": str(self.folder / "kubeconfig"),
            "PEBBLE_SOCKET": str(self.folder.parent / "pebble.socket"),
        } | more
        command = [sys.executable, str(self.folder / "start.py"), str(self.program)]
        before = _cpu_of_children()
        done = subprocess.run(
            command, env=environment, cwd=self.folder, timeout=HOOK_SECONDS, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        seconds = _cpu_of_children() - before
        self.said = done.stdout
        made = calls.read_text().splitlines() if calls.exists() else []
        if done.returncode:
            lines = "\n".join([done.stdout, *made])
            raise SystemExit(f"the hook {kind} failed ({done.returncode}):\n{lines}")
        tools = [line.split(" ")[0] for line in made]
        seen = Counter(Pebble.seen, tools=len(tools), logs=tools.count("juju-log"))
        seen["writes"] = sum(name.endswith("-set") and name != "status-set" for name in tools)
        return seconds, seen


def _cpu_of_children() -> float:
    """Return the seconds of CPU of all processes that have ended below this process."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
