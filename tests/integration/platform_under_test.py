"""The command `pooler` in a home of its own, driven as a user does."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

import psycopg

ROOT = pathlib.Path(__file__).parents[2]
# As the script `pooler` runs it: no module comes from the directory in which the command runs.
COMMAND = (sys.executable, "-P", "-m", "pooler")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Pooler:
    """One platform; every verb is a process of its own."""

    def __init__(self, home: pathlib.Path | None = None, **environment: str) -> None:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="pooler-", dir="/tmp"))
        folder.chmod(0o711)  # servers run as another user where we are root
        self.home = home or folder / "home"
        here = {"POOLER_HOME": str(self.home), "PYTHONPATH": str(ROOT / "src")}
        self.environment = os.environ | here | environment
        self.port = free_port()

    def run(self, *words: str, **how) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *words],
            capture_output=True,
            text=True,
            env=self.environment,
            check=False,
            **how,
        )

    def __call__(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def up(self, *words: str) -> str:
        """Run `up` with two units, so that a test meets what units share; `--units` in `words` wins."""
        return self("up", "--units", "2", f"listen_port={self.port}", *words)

    def credentials(self, name: str) -> dict[str, str]:
        return json.loads(self("credentials", name, "--json"))

    @contextlib.contextmanager
    def client(self, name: str, unit: int = 0, **options):
        """A connection through one unit."""
        told = self.credentials(name)
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

    def close(self) -> None:
        self.run("down")
        shutil.rmtree(self.home.parent, ignore_errors=True)


def value(connection, statement, *parameters, **how):
    return connection.execute(statement, *parameters, **how).fetchone()[0]


def lives(pid: int) -> bool:
    """A process that has ended and that nobody asked about has no command line any more."""
    try:
        return bool(pathlib.Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False
