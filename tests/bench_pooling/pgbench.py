"""What does pgbench find out about whoever answers at a port?"""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from postgresql import binaries

CLIENTS = 24  #: twice as many as there are connections to PostgreSQL, so the pool has work to do
SCALE = 5  #: half a million rows, all in memory
DATABASE = "demo"

SELECT, UPDATE, CONNECT = "select-only", "simple-update", "connection per transaction"
STEADY = "select-only at 2000/s"

LOADS = {
    SELECT: ("-S",),
    UPDATE: ("-N",),
    CONNECT: ("-S", "-C"),
    STEADY: ("-S", "-R", "2000"),
}


@dataclasses.dataclass(frozen=True)
class Target:
    """Somebody who answers queries."""

    host: str
    port: int


@dataclasses.dataclass(frozen=True)
class Run:
    """Transactions in a second, and how long they took, in milliseconds."""

    tps: float
    p50: float
    p99: float


class Bench:
    """pgbench, with a login."""

    def __init__(self, folder: pathlib.Path, user: str, password: str) -> None:
        self._program, self._prefix = _program(), folder / "transactions"
        self._environment = os.environ | {"PGUSER": user, "PGPASSWORD": password}

    def fill(self, target: Target) -> None:
        """The tables are there, and belong to the user."""
        _wait(self._start(target, "-i", "-q", "-s", str(SCALE)))

    def run(self, target: Target, load: str, seconds: int) -> Run:
        """One load on one target."""
        options = LOADS[load]
        connects = "-C" in options
        # A log of every transaction would be a load of its own; with -C there are few.
        log = ("-l", f"--log-prefix={self._prefix}", f"--sampling-rate={1 if connects else 0.2}")
        words = ("-n", "-c", str(CLIENTS), "-T", str(seconds), *options, *log)
        said = _wait(self._start(target, *words))
        times = sorted(_milliseconds(self._prefix, with_connection=connects))
        return Run(_tps(said), times[len(times) // 2], times[int(len(times) * 0.99)])

    def spread(self, targets: Sequence[Target], seconds: int) -> float:
        """Transactions in a second of fifteen pgbenches: 1, 3 and 5 units can share them evenly."""
        words = ("-n", "-S", "-c", "2", "-T", str(seconds))
        turns = itertools.islice(itertools.cycle(targets), 15)
        return sum(_tps(_wait(one)) for one in [self._start(to, *words) for to in turns])

    def _start(self, target: Target, *words: str) -> subprocess.Popen[str]:
        command = [str(self._program), "-h", target.host, "-p", str(target.port), *words, DATABASE]
        return subprocess.Popen(
            command,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _program() -> pathlib.Path:
    folder, on_path = binaries(), shutil.which("pgbench")
    if os.access(folder / "pgbench", os.X_OK):
        return folder / "pgbench"
    if on_path:
        return pathlib.Path(on_path)
    raise SystemExit(
        f"there is no pgbench in {folder} nor on the PATH: install the package that has it"
        " (postgresql-contrib, on most systems), or set $PG_BIN_DIR to a PostgreSQL that has it"
    )


def _wait(process: subprocess.Popen[str]) -> str:
    said = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"pgbench failed: {process.args}\n{said}")
    return said


def _tps(said: str) -> float:
    found = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
    if not found:
        raise SystemExit(f"pgbench does not say how fast it was:\n{said}")
    return float(found[1])


def _milliseconds(prefix: pathlib.Path, *, with_connection: bool) -> Iterator[float]:
    """From pgbench's log, which is gone then.

    pgbench begins to count when it has its connection. With that, a transaction lasts from the
    client's last answer to this one: nobody pauses in between.
    """
    last: dict[str, int] = {}
    for file in prefix.parent.glob(f"{prefix.name}.*"):
        for line in file.read_text().splitlines():
            client, _, took, _, seconds, microseconds = line.split()[:6]
            if not with_connection:
                yield int(took) / 1000
                continue
            now = int(seconds) * 1_000_000 + int(microseconds)
            if client in last:
                yield (now - last[client]) / 1000
            last[client] = now
        file.unlink()
