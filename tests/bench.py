"""Measure the hooks that bring nothing new, of every kind: CPU as a ratio to a bare ops charm, and counts.

    python tests/bench.py

The charm and a bare charm run their hooks in turn, so that other load of the machine slows both. It takes
four minutes, under load up to nine, and exits with 1 if a number is above its limit.
"""

from __future__ import annotations

import http.server
import json
import pathlib
import socketserver
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from kubeconfigs import kubeconfig

HERE = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(HERE / folder) for folder in ("src", "tests", "tests/unit")]

from on_juju import APP, TOLD, V0, Juju  # noqa: E402 — after the path

from adapters.juju.names import OBSERVERS  # noqa: E402 — after the path
from bench_agent import BARE, Charm, Kubernetes, Pebble, PostgreSQL, listening  # noqa: E402 — after the path

# The rounds of a leader and of a follower. After ROUND_SECONDS no further round begins.
ROUNDS = 7
FEWEST_ROUNDS = 3
ROUND_SECONDS = 120


class Numbers(NamedTuple):
    """What a hook costs, or the most that it may cost; the field `ratio` is CPU in multiples of the bare charm."""

    ratio: float
    # Calls of hook tools, how many of them write a log line, and how many write anything else.
    tools: int
    logs: int
    writes: int
    # Requests.
    pebble: int
    kubernetes: int


# A leader with a relation at every endpoint for observers.
OBSERVED = "observed leader"

COLUMNS = ("CPU / bare", "hook tools", "juju-log", "writes", "to Pebble", "to Kubernetes")
LIMITS = {
    "leader": Numbers(ratio=1.2, tools=14, logs=1, writes=0, pebble=1, kubernetes=0),
    "follower": Numbers(ratio=1.2, tools=8, logs=1, writes=0, pebble=1, kubernetes=0),
    # A hook of logging compares the databags of Loki and of its units, too.
    OBSERVED: Numbers(ratio=1.2, tools=18, logs=1, writes=0, pebble=1, kubernetes=0),
}


class Total(NamedTuple):
    """A number that is not about a single kind of hook."""

    what: str
    measured: float
    limit: float


def settled(folder: pathlib.Path, port: int, role: str, clients: int) -> Juju:
    """Return a unit of three that has nothing left to do; a follower is the same unit without its lease."""
    juju = Juju(folder, others=(1, 2)).deploy()
    juju.backend(TOLD | {"endpoints": f"127.0.0.1:{port}"})
    for number in range(clients):
        juju.client(f"app-{number}", {"database": f"db{number}", **V0})
    if role == OBSERVED:
        loki = {"endpoint": json.dumps({"url": "http://loki:3100/loki/api/v1/push"})}
        for endpoint in OBSERVERS:
            juju.client(f"of-{endpoint}", {}, endpoint=endpoint, unit_asks=loki)
    juju.change(leader=role != "follower")
    return juju


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


def ratios(
    charm: Charm, bare: Charm, hooks: Mapping[str, Mapping[str, str]]
) -> tuple[dict[str, float], int]:
    """Return for each kind of hook the median of its CPU in multiples of the bare charm's, and the rounds."""
    times: dict[str, list[float]] = {kind: [] for kind in hooks}
    bares: list[float] = []
    begin = time.monotonic()
    for number in range(ROUNDS):
        if number >= FEWEST_ROUNDS and time.monotonic() - begin > ROUND_SECONDS:
            break
        if sys.stderr.isatty():
            print(f"\r  round {number + 1} of {ROUNDS}", end="\r", file=sys.stderr, flush=True)
        for kind, variables in hooks.items():
            bares.append(bare.hook()[0])
            times[kind].append(charm.hook(kind, **variables)[0])
    middle = statistics.median(bares)
    found = {kind: statistics.median(seconds) / middle for kind, seconds in times.items()}
    return found, len(bares) // len(hooks)


# Endpoints of metadata.yaml to which nothing is related.
UNRELATED = "".join(f"\n  spare-{number}:\n    interface: spare_{number}" for number in range(8))


class Bench:
    """Measures a leader and a follower of three units."""

    def __init__(self, folder: pathlib.Path, postgresql: int, kubernetes: str) -> None:
        self._folder, self._postgresql, self._kubernetes = folder, postgresql, kubernetes
        self._bare = folder / "bare.py"
        self._bare.write_text(BARE)
        self.rows: dict[tuple[str, str], Numbers] = {}
        self.totals: list[Total] = []
        self.rounds: dict[str, int] = {}

    def measure(self, role: str) -> None:
        """Fill `rows` and `totals` with the numbers of a leader or follower."""
        tools: dict[int, int] = {}
        for clients in (1, 5):
            name = f"{role.replace(' ', '-')}-{clients}"
            juju = settled(
                self._folder / f"{name}-juju",
                self._postgresql,
                role,
                clients,
            )
            charm = self._charm(name, juju)
            first = charm.hook()[1]
            about = f"{role}, {clients} client{'s'[: clients - 1]}"
            self.totals.append(Total(f"{about}: writes of the first hook", first["writes"], 0))
            tools[clients] = charm.hook()[1]["tools"]
            if clients == 1:
                self._kinds(role, charm, juju)
                wide = self._charm(f"{name}-wide", juju, UNRELATED)
                wide.hook()
                more = wide.hook()[1]["tools"] - tools[1]
                what = f"{role}: hook tools for 8 endpoints without a relation"
                self.totals.append(Total(what, more, 0))
        more = (tools[5] - tools[1]) / 4
        limit = 0 if role == "follower" else 2
        self.totals.append(Total(f"{role}: hook tools for each further client", more, limit))

    def _charm(self, name: str, juju: Juju, unrelated: str = "") -> Charm:
        program = HERE / "src" / "charm.py"
        return Charm(self._folder / name, program, juju, self._kubernetes, unrelated)

    def _kinds(self, role: str, charm: Charm, juju: Juju) -> None:
        bare = Charm(self._folder / f"{role}-bare", self._bare, juju, self._kubernetes)
        bare.hook()
        hooks = kinds(juju)
        seen = {kind: charm.hook(kind, **variables)[1] for kind, variables in hooks.items()}
        found, self.rounds[role] = ratios(charm, bare, hooks)
        for kind, ratio in found.items():
            self.rows[role, kind] = numbers(ratio, seen[kind])


def numbers(ratio: float, seen: Counter[str]) -> Numbers:
    """Return the numbers of a hook by its counts."""
    counts = (seen[name] for name in Numbers._fields[1:])
    return Numbers(ratio, *counts)


def table(rows: Mapping[tuple[str, str], Numbers]) -> list[str]:
    """Return the lines of the table by kind of hook; a number above its limit has a `!`."""
    lines = [" " * 44 + " ".join(f"{column:>13}" for column in COLUMNS)]
    for role, limits in LIMITS.items():
        lines.append(line(f"{role}: at most", limits, limits))
        lines += [line(f"  {kind}", row, limits) for (at, kind), row in rows.items() if at == role]
    return lines


def line(what: str, row: Numbers, limits: Numbers) -> str:
    """Return a line of the table."""
    cells = [f"{row.ratio:.2f}", *(str(count) for count in row[1:])]
    marks = ["!" if found > most else " " for found, most in zip(row, limits, strict=True)]
    return f"{what:<44}" + "".join(f"{c:>13}{m}" for c, m in zip(cells, marks, strict=True))


def main() -> int:
    """Print the tables, and return 1 if a number is above its limit."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = pathlib.Path(name)
        pebble = socketserver.ThreadingUnixStreamServer(str(folder / "pebble.socket"), Pebble)
        postgresql = socketserver.ThreadingTCPServer(("127.0.0.1", 0), PostgreSQL)
        kubernetes = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Kubernetes)
        with listening(pebble), listening(postgresql), listening(kubernetes):
            port, config = (
                postgresql.server_address[1],
                kubeconfig(f"http://127.0.0.1:{kubernetes.server_port}"),
            )
            bench = Bench(folder, port, config)
            for role in LIMITS:
                bench.measure(role)
    print(*table(bench.rows), sep="\n")
    print(f"\n{'':<60} {'found':>6} {'at most':>8}")
    for what, found, most in bench.totals:
        print(f"{what:<60} {found:>6g} {most:>8g}{' !' if found > most else ''}")
    above = [
        f"{role}, {kind}" for (role, kind), row in bench.rows.items() if above_limit(role, row)
    ]
    above += [total.what for total in bench.totals if total.measured > total.limit]
    rounds = " and ".join(f"{count} rounds of a {role}" for role, count in bench.rounds.items())
    print(f"\n{rounds} in {time.monotonic() - begin:.0f} s")
    if above:
        print(f"above the limit: {'; '.join(above)}")
    return 1 if above else 0


def above_limit(role: str, row: Numbers) -> bool:
    """Return whether a number of a hook is above its limit."""
    return any(found > most for found, most in zip(row, LIMITS[role], strict=True))


if __name__ == "__main__":
    sys.exit(main())
