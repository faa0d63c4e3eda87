"""What attacks are tried on: the command `pooler` in a home of its own before a PostgreSQL server."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from attack import NotHeld, hold
from packets import Wire, answers
from platform_under_test import Pooler
from postgresql import ADMIN, PASSWORD, PostgreSQL

PROCESSES = min(2, len(os.sched_getaffinity(0)))
VERB_SECONDS = 90
TOO_LONG = 124  #: the exit code of a verb that was ended, as of timeout(1)
MEGABYTE = 2**20

# Groups of the PostgreSQL charms, by the statements with which the charms make them.
# (canonical/postgresql-single-kernel-library, utils/postgresql.py)
CHARM_ROLES = """
CREATE ROLE charmed_stats NOLOGIN IN ROLE pg_monitor;
CREATE ROLE charmed_read NOLOGIN IN ROLE pg_read_all_data;
CREATE ROLE charmed_dml NOLOGIN IN ROLE pg_write_all_data;
CREATE ROLE charmed_backup NOLOGIN IN ROLE charmed_stats;
CREATE ROLE charmed_dba NOLOGIN;
CREATE ROLE charmed_databases_owner LOGIN CREATEDB PASSWORD NULL;
CREATE ROLE charmed_admin NOLOGIN IN ROLE charmed_databases_owner;
CREATE ROLE charmed_instance_admin NOLOGIN IN ROLE charmed_dba, charmed_admin;
CREATE ROLE admin NOLOGIN CREATEDB;
"""

# The extension set_user, which the charms install in the template, gives a superuser's rights to
# its callers. This function has its name, and does that to the role that logged in.
SET_USER = """
CREATE FUNCTION public.set_user_u(name text) RETURNS text LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN EXECUTE format('ALTER ROLE %I SUPERUSER', session_user); RETURN name; END $$;
REVOKE ALL ON FUNCTION public.set_user_u(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.set_user_u(text) TO charmed_dba;
"""


@dataclasses.dataclass(frozen=True)
class Client:
    """An application and what it was told."""

    name: str
    user: str
    password: str
    database: str
    address: tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Process:
    """A PgBouncer process of the platform."""

    pid: int
    ini: pathlib.Path

    @property
    def settings(self) -> dict[str, str]:
        """The settings of its configuration file."""
        lines = self.ini.read_text().splitlines()
        pairs = (line.partition("=") for line in lines if "=" in line)
        return {name.strip(): value.strip() for name, _, value in pairs}

    @property
    def socket(self) -> str:
        """Its own Unix socket."""
        settings = self.settings
        return f"{settings['unix_socket_dir']}/.s.PGSQL.{settings['listen_port']}"

    @property
    def alive(self) -> bool:
        """Whether it runs, and is not a process that ended and that nothing has waited for."""
        with contextlib.suppress(OSError):
            return bool(pathlib.Path(f"/proc/{self.pid}/cmdline").read_bytes())
        return False

    @property
    def answers(self) -> bool:
        """Whether it answers on its own socket within two seconds."""
        with contextlib.suppress(OSError):
            return self.alive and answers(self.socket)
        return False

    @property
    def memory(self) -> int:
        """Its resident memory in bytes; 0 if it has ended."""
        with contextlib.suppress(OSError):
            status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
            if found := re.search(r"VmRSS:\s+(\d+) kB", status):
                return int(found[1]) * 1024
        return 0

    @property
    def seconds(self) -> float:
        """The processor time that it has used."""
        with contextlib.suppress(OSError):
            fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0


class Stage:
    """A platform of a single unit with two processes, and its server."""

    def __init__(
        self,
        program: pathlib.Path,
        version: str,
        programs: pathlib.Path,
        say: Callable[[str], None],
    ) -> None:
        self.program = program
        self.version = version
        self.programs = programs
        self.say = say
        self.server = PostgreSQL(programs=programs, settings={"log_statement": "ddl"})
        self.pooler = Pooler(PGBOUNCER=str(program), PGPASSWORD=PASSWORD)

    def __enter__(self) -> Stage:
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.server)
            self.server.sql(CHARM_ROLES)
            self.server.sql(SET_USER, database="template1")
            stack.callback(self.pooler.close)
            self.up()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # ---- the command ---------------------------------------------------------------------------
    def up(self) -> None:
        """The platform runs before its server. Raises RuntimeError.

        The exit code is not enough: it may tell of a known vulnerability of PgBouncer.
        """
        uri = f"postgresql://{ADMIN}@{self.server.endpoint}"
        _, said = self.tried(
            "up", f"listen_port={self.pooler.port}", "--backend", uri, "--units", "1"
        )
        if len(self.processes()) < PROCESSES:
            raise RuntimeError(f"`pooler up` fails: {said}")
        # The exit code is that of the status.
        self.tried("relate", "demo")

    def do(self, *words: str) -> str:
        """A verb of the command, which has to succeed."""
        code, said = self.tried(*words)
        if code:
            raise RuntimeError(f"`pooler {' '.join(words)}` fails: {said}")
        return said

    def tried(self, *words: str, seconds: float = VERB_SECONDS) -> tuple[int, str]:
        """A verb of the command, with its exit code and what it printed."""
        try:
            done = self.pooler.run(*words, timeout=seconds)
        except subprocess.TimeoutExpired:
            return TOO_LONG, f"`pooler {words[0]}` does not end within {seconds:.0f} s"
        return done.returncode, done.stdout + done.stderr

    @contextlib.contextmanager
    def related(self, name: str, *words: str) -> Iterator[Client]:
        """An application that the operator relates, until the end of the block."""
        try:
            self.do("relate", name, *words)
            yield self.client(name)
        finally:
            self.tried("unrelate", name)

    @contextlib.contextmanager
    def option(self, name: str, value: str, after: str = "") -> Iterator[bool]:
        """An option has this value inside of the block; False if the command knows no such option."""
        for spelling in (name, name.replace("-", "_")):
            if self.tried("config", f"{spelling}={value}")[0] == 0:
                break
        else:
            yield False
            return
        try:
            yield True
        finally:
            self.tried("config", f"{spelling}={after}")

    def client(self, name: str) -> Client:
        """What an application was told. Raises RuntimeError if it cannot connect."""
        for number, record in self.state()["clients"].items():
            told, password = record["told"], record["password"]
            if record["application"] == name and told and password:
                host, _, port = told["endpoints"].split(",")[0].partition(":")
                user, database = f"relation_id_{number}", told["database"]
                return Client(name, user, password, database, (host, int(port)))
        raise RuntimeError(f"{name} was not told how to connect")

    # ---- connections ---------------------------------------------------------------------------
    def by_pool(self, client: Client, **options: Any) -> psycopg.Connection:
        """A session of a client through PgBouncer. Raises psycopg.OperationalError."""
        host, port = client.address
        return _connect(client, host, port, options)

    def directly(self, client: Client, **options: Any) -> psycopg.Connection:
        """A session of a client at PostgreSQL. Raises psycopg.OperationalError."""
        return _connect(client, self.server.host, self.server.port, options)

    def locked_out(self, client: Client) -> None:
        """Raises NotHeld if the client can log in, by pool or directly, or could without a lock."""
        self.forget_settings(client)
        rows = self.server.sql(
            "SELECT 1 FROM pg_roles WHERE rolname = %s AND rolcanlogin", [client.user]
        )
        hold(not rows, f"the user of {client.name} may log in after its relation has ended")
        for way, connect, database in (
            ("directly", self.directly, "postgres"),
            ("directly", self.directly, client.database),
            ("by pool", self.by_pool, client.database),
        ):
            with contextlib.suppress(psycopg.OperationalError):
                connect(client, dbname=database, connect_timeout=2).close()
                raise NotHeld(f"{client.name} logs in {way} after its relation has ended")

    def forget_settings(self, client: Client) -> None:
        """What a client set for its database and its user is no more, if they are there."""
        for kind, name in (("DATABASE", client.database), ("ROLE", client.user)):
            with contextlib.suppress(psycopg.Error):
                self.server.sql(f'ALTER {kind} "{name}" RESET ALL')

    def login_seconds(self, client: Client, times: int = 5) -> tuple[float, float]:
        """The median and the longest time of some logins through PgBouncer with a query each."""
        found: list[float] = []
        for _ in range(times):
            begin = time.monotonic()
            with self.by_pool(client) as session:
                session.execute("SELECT 1")
            found.append(time.monotonic() - begin)
        return statistics.median(found), max(found)

    def wire(self, seconds: float = 5) -> Wire:
        """A connection to PgBouncer's port."""
        return Wire(self.address, seconds)

    @property
    def address(self) -> tuple[str, int]:
        """Where clients find the unit."""
        return self.demo.address

    @property
    def demo(self) -> Client:
        """The application that every platform has."""
        if not hasattr(self, "_demo"):
            self._demo = self.client("demo")
        return self._demo

    def secrets(self) -> dict[str, str]:
        """PgBouncer's own users and their passwords, as the state on disk has them."""
        known: dict[str, object] = self.state()["auth"]
        return {name: value for name, value in known.items() if value and isinstance(value, str)}

    def state(self) -> dict[str, Any]:
        """What the units share, as it is on disk: the command itself takes a second to say it."""
        return json.loads((self.pooler.home / "state.json").read_text())["model"]

    # ---- processes -----------------------------------------------------------------------------
    def processes(self) -> list[Process]:
        """The PgBouncer processes of the platform."""
        return self.processes_below(self.pooler.home)

    @staticmethod
    def processes_below(home: pathlib.Path) -> list[Process]:
        """The PgBouncer processes with a configuration file below a directory."""
        found: list[Process] = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                inis = [word for word in words if word.endswith("/pgbouncer.ini")]
                if inis and inis[0].startswith(f"{home}/"):
                    found.append(Process(int(folder.name), pathlib.Path(inis[0])))
        return sorted(found, key=lambda process: process.ini)

    def untouched(self, before: list[Process]) -> None:
        """Raises NotHeld if a process has ended or does not answer."""
        time.sleep(0.2)
        if dead := [process for process in before if not process.alive]:
            raise NotHeld(f"{len(dead)} of {len(before)} processes have ended")
        if hung := [process for process in before if not process.answers]:
            busy = hung[0].seconds
            time.sleep(0.5)
            used = (hung[0].seconds - busy) / 0.5
            raise NotHeld(
                f"{len(hung)} of {len(before)} processes do not answer, at {used:.0%} of a processor"
            )

    def recover(self) -> None:
        """Every process answers, whatever the last attack did."""
        found = self.processes()
        sick = [process for process in found if not process.answers]
        if len(found) >= PROCESSES and not sick:
            return
        for process in sick:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        self.tried("up")

    @contextlib.contextmanager
    def grows_less_than(self, megabytes: float) -> Iterator[Callable[[], float]]:
        """Raises NotHeld if a process has kept more memory than that at the end, in megabytes.

        The value in the block can be called for how much the process that grew most has grown.
        """
        before = {process.pid: process.memory for process in self.processes()}

        def growth() -> float:
            grown = (
                process.memory - before[process.pid]
                for process in self.processes()
                if process.pid in before
            )
            return max(grown, default=0) / MEGABYTE

        yield growth
        kept = growth()
        if kept > megabytes:
            raise NotHeld(f"a process keeps {kept:.0f} MB")


def _connect(client: Client, host: str, port: int, options: dict[str, Any]) -> psycopg.Connection:
    return psycopg.connect(
        **{
            "host": host,
            "port": port,
            "user": client.user,
            "password": client.password,
            "dbname": client.database,
            "connect_timeout": 5,
            "sslmode": "disable",
            "gssencmode": "disable",
            "autocommit": True,
            **options,
        }
    )
