"""The command `pooler` in a home of its own, driven as a user does."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import forking
import psycopg
from folders import new_folder
from ports import free_port

ROOT = pathlib.Path(__file__).parents[2]
# As the script `pooler` runs it: no module comes from the directory in which the command runs.
COMMAND = (sys.executable, "-P", "-m", "pooler")


class Pooler:
    """One platform; every verb is a process of its own."""

    def __init__(self, home: pathlib.Path | None = None, **environment: str) -> None:
        self.home = home or new_folder("pooler-") / "home"
        here = {
            "POOLER_HOME": str(self.home),
            "PYTHONPATH": str(ROOT / "src"),
            # A process that watches would start again what a test has ended.
            "POOLER_NO_WATCH": "1",
        }
        self.environment = os.environ | here | environment
        self.port = free_port()
        # The credentials of each application, with the state file from which they were read.
        self._known: dict[str, tuple[tuple[int, int], dict[str, str]]] = {}

    def run(self, *words: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run one verb in a fork, and return how it ended. The pages run `./pooler` in new interpreters."""
        return forking.run(words, self.environment, timeout)

    def __call__(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self, *words: str) -> str:
        """Run `up` with two units, so that a test meets what units share; `--units` in `words` wins.

        In front of a server that is given, the application `demo` is related as well.
        """
        said = self("up", "--units", "2", f"listen_port={self.port}", *words)
        if "--backend" in words:
            self("relate", "demo")
        return said

    def credentials(self, name: str) -> dict[str, str]:
        return json.loads(self("credentials", name, "--json"))

    def _credentials(self, name: str) -> dict[str, str]:
        """Return the credentials of an application, without another process while the state is the same file."""
        state = (self.home / "state.json").stat()
        read = (state.st_ino, state.st_mtime_ns)
        known = self._known.get(name)
        if known is None or known[0] != read:
            known = self._known[name] = (read, self.credentials(name))
        return known[1]

    @contextlib.contextmanager
    def client(self, name: str, unit: int = 0, **options):
        """A connection through one unit."""
        told = self._credentials(name)
        host, _, port = told["endpoints"].split(",")[unit].partition(":")
        login = {
            "user": told["username"],
            "password": told["password"],
            "dbname": told["database"],
        }
        with psycopg.connect(
            **{"host": host, "port": port, "connect_timeout": 5, **login, **options}
        ) as connection:
            connection.autocommit = True
            yield connection

    def pids(self) -> list[int]:
        return [int(one.read_text()) for one in self.home.glob("run/*/*/pgbouncer.pid")]

    def delete(self) -> str:
        """Stop everything, and delete all data."""
        return self("down", "--delete", "--yes")

    def close(self) -> None:
        """Leave no process, also if a server that was given does not answer any more."""
        if self.run("down", "--delete", "--yes").returncode:
            self.run("down")
        shutil.rmtree(self.home.parent, ignore_errors=True)


def value(connection, statement, *parameters, **how):
    return connection.execute(statement, *parameters, **how).fetchone()[0]


def lives(pid: int) -> bool:
    """Return whether a thread of a process runs: its files are open until the last thread has ended."""
    return any(map(_runs, pathlib.Path(f"/proc/{pid}/task").glob("*/stat")))


def _runs(status: pathlib.Path) -> bool:
    try:
        text = status.read_text()
    except OSError:
        return False
    # The state stands behind the name, which may contain spaces.
    return text.rpartition(")")[2].split()[0] not in {"Z", "X"}
