"""A PostgreSQL of this platform's own, where none is given."""

from __future__ import annotations

import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pydantic

from adapters.local.owner import Owner, identity, own
from adapters.local.processes import command_of
from adapters.local.store import ServerRecord
from adapters.login import log_in, unproved
from adapters.said import one_line
from app.passwords import new_password
from domain.facts import Credentials
from domain.pools import Endpoint, endpoints_in

if TYPE_CHECKING:
    import psycopg

SUPERUSER = "pooler"
AUTH_DATABASE = "pgbouncer"
HOST = "127.0.0.1"
START_SECONDS = 60.0
ASK_SECONDS = 5.0
LOGIN_SECONDS = 5.0
LEAVE_SECONDS = 5.0

# Lines of postmaster.pid.
_PID_NUMBER, _PID_PORT, _PID_STATUS = 0, 3, 7


class ServerFailed(Exception):
    """PostgreSQL did not do what it was asked to; says what it said."""


class LocalServer:
    """One PostgreSQL server in a directory."""

    def __init__(self, home: pathlib.Path, owner: Owner | None) -> None:
        self._data = home / "postgresql"
        self._log = home / "postgresql.log"
        self._owner = owner

    def make(self, programs: pathlib.Path) -> ServerRecord:
        """A new cluster with a superuser who logs in by SCRAM. Raises ServerFailed."""
        password = new_password()
        # An `initdb` outlives the command that was killed, so every one gets a directory of its own,
        # and all that it leaves behind lies beside the data.
        new = pathlib.Path(tempfile.mkdtemp(prefix=f"{self._data.name}-", dir=self._data.parent))
        own(new, self._owner)
        with tempfile.NamedTemporaryFile(
            "w", prefix=f"{self._data.name}-", suffix=".password", dir=self._data.parent
        ) as file:
            file.write(password.get_secret_value())
            file.flush()
            own(pathlib.Path(file.name), self._owner)
            self._run(
                programs / "initdb",
                *("-D", str(new), "-U", SUPERUSER, f"--pwfile={file.name}"),
                *("-A", "scram-sha-256", "-E", "UTF8", "--locale=C"),
            )
        with open(new / "postgresql.auto.conf", "a") as settings:
            settings.write(f"listen_addresses = '{HOST}'\nunix_socket_directories = ''\n")
            settings.write("password_encryption = 'scram-sha-256'\nmax_connections = 300\n")
        shutil.rmtree(self._data, ignore_errors=True)
        new.rename(self._data)
        for left in self._data.parent.glob(f"{self._data.name}-*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()
        return ServerRecord(programs=str(programs), port=_free_port(), password=password)

    def start(self, server: ServerRecord) -> bool:
        """It takes connections at its port, another one if the last is taken by now.

        Returns whether it had to be started. Raises ServerFailed.
        """
        started = not self._runs()
        if started:
            self._clear()
            if not self._log.exists():
                self._log.touch(mode=0o600)
                own(self._log, self._owner)
            port = server.port if _is_free(server.port) else _free_port()
            try:
                self._run(
                    pathlib.Path(server.programs, "pg_ctl"),
                    *(
                        "-D",
                        str(self._data),
                        "-l",
                        str(self._log),
                        "-w",
                        "-t",
                        f"{START_SECONDS:.0f}",
                    ),
                    *("-o", f"-p {port}", "start"),
                )
            except ServerFailed:
                # That of a command which was killed may have been about to run.
                if not self._runs():
                    raise
        server.port = self._port_when_ready()
        return started

    def stop(self, server: ServerRecord) -> None:
        """It does not run. Raises ServerFailed."""
        if self._runs():
            pg_ctl = pathlib.Path(server.programs, "pg_ctl")
            self._run(pg_ctl, "-D", str(self._data), "-w", "-m", "fast", "stop")
        self._clear()

    def _runs(self) -> bool:
        return self._noted() in self._workers()

    def _clear(self) -> None:
        """Nobody writes to the data any more, and the number of one that died is not another's."""
        end = time.monotonic() + LEAVE_SECONDS
        while (workers := self._workers()) and time.monotonic() < end:
            # A busy one does not notice that it is alone.
            for pid in workers:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGQUIT)
            time.sleep(0.05)
        if not workers and command_of(self._noted()):
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _noted(self) -> int:
        """The process that PostgreSQL says it is; 0 if it says nothing."""
        lines = self._pid_file()
        return int(lines[_PID_NUMBER]) if lines and lines[_PID_NUMBER].isdecimal() else 0

    def _workers(self) -> list[int]:
        """PostgreSQL's processes on this data: their directory is that of the data."""
        found: list[int] = []
        for one in pathlib.Path("/proc").glob("[0-9]*"):
            name = [*command_of(int(one.name)), ""][0]
            if name.startswith("postgres:") or name.endswith("/postgres"):
                with suppress(OSError):
                    if (one / "cwd").samefile(self._data):
                        found.append(int(one.name))
        return found

    def _pid_file(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text(errors="replace").splitlines()
        except OSError:
            return []

    def _port_when_ready(self) -> int:
        """The port of the server that runs, once it takes connections (pidfile.h of PostgreSQL)."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            lines = self._pid_file()
            ready = len(lines) > _PID_STATUS and lines[_PID_STATUS].strip() == "ready"
            if ready and re.fullmatch("[0-9]{1,5}", lines[_PID_PORT].strip()):
                return int(lines[_PID_PORT])
            time.sleep(0.05)
        raise ServerFailed(
            f"PostgreSQL takes no connections after {START_SECONDS:.0f} s; see {self._log}"
        )

    def _run(self, program: pathlib.Path, *arguments: str) -> None:
        before = len(self._logged())
        done = self._call(program, *arguments)
        if done.returncode:
            logged = self._logged()[before:].decode(errors="replace")
            cause = _cause(logged + done.stdout)
            raise ServerFailed(f"{program.name} failed: {one_line(cause)}; see {self._log}")

    def _call(self, program: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        # Not a pipe: the server would keep it open, and we would wait for it for ever.
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            done = subprocess.run(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                cwd="/",
                **identity(self._owner),
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, output.read(), "")

    def _logged(self) -> bytes:
        return self._log.read_bytes() if self._log.exists() else b""


def _cause(said: str) -> str:
    """The first line that tells of an error; the last one if none does."""
    errors = re.findall(r"(?:FATAL|PANIC|error): +(.+)", said)
    return [*errors[:1], *said.strip().splitlines()[-1:], "no reason given"][0]


def own_credentials(server: ServerRecord) -> Credentials:
    """How to log in to a server of our own."""
    return Credentials(
        user=SUPERUSER,
        password=server.password,
        database=AUTH_DATABASE,
        endpoints=(Endpoint(host=HOST, port=server.port),),
    )


def given_credentials(uri: str) -> Credentials:
    """How to log in to a server that was given. Raises ServerFailed with what is wrong with it."""
    import psycopg.conninfo

    try:
        parts = psycopg.conninfo.conninfo_to_dict(uri)
    except (psycopg.Error, UnicodeError):
        raise ServerFailed("that is no postgresql:// address") from None
    password = parts.get("password") or os.environ.get("PGPASSWORD") or ""
    hosts, ports = (str(parts.get(key) or "").split(",") for key in ("host", "port"))
    user = parts.get("user")
    if not user or not password or not hosts[0]:
        raise ServerFailed("the address needs a user, a host, and a password (or $PGPASSWORD)")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    if len(ports) != len(hosts):
        raise ServerFailed("the address needs one port, or one for each host")
    named = (f"[{host}]" if ":" in host else host for host in hosts)
    pairs = zip(named, ports, strict=True)
    try:
        endpoints = endpoints_in(",".join(f"{host}:{port or 5432}" for host, port in pairs))
    except ValueError as error:
        raise ServerFailed(str(error)) from None
    try:
        str(password).encode()
        return Credentials(
            user=str(user),
            password=pydantic.SecretStr(str(password)),
            database=AUTH_DATABASE,
            endpoints=endpoints,
        )
    except ValueError:
        # Not the error itself: it would show the password.
        raise ServerFailed("the user and the password have to be one line of text each") from None


def greet(credentials: Credentials) -> tuple[str, bool]:
    """The server's version, and whether it has the auth database. Raises ServerFailed."""
    with _connected(credentials) as connection:
        said = connection.info.parameter_status("server_version") or ""
        query = "SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s"
        found = connection.execute(query, [AUTH_DATABASE]).fetchone()
        return said.partition(" ")[0], bool(found)


def make_auth_database(credentials: Credentials) -> None:
    """The auth database is there. Raises ServerFailed."""
    from psycopg import sql

    with _connected(credentials) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(AUTH_DATABASE)))


def drop_auth_database(credentials: Credentials) -> None:
    """The auth database is gone. Raises ServerFailed."""
    from psycopg import sql

    with _connected(credentials) as connection:
        drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        connection.execute(drop.format(sql.Identifier(AUTH_DATABASE)))


def ask(credentials: Credentials, statement: str) -> str:
    """The first value of the answer. Raises ServerFailed, also if it takes long."""
    answers: queue.SimpleQueue[str | ServerFailed] = queue.SimpleQueue()

    def wait() -> None:
        try:
            with _connected(credentials, credentials.database) as connection:
                row = connection.execute(statement.encode()).fetchone()
                answers.put(str(row[0]) if row else "")
        except ServerFailed as error:
            answers.put(error)

    # A daemon: in a pool whose connections are all taken an answer may take minutes.
    threading.Thread(target=wait, daemon=True).start()
    try:
        answer = answers.get(timeout=ASK_SECONDS)
    except queue.Empty:
        raise ServerFailed(f"no answer in {ASK_SECONDS:.0f} s: see `pooler top`") from None
    if isinstance(answer, ServerFailed):
        raise answer
    return answer


@contextmanager
def _connected(
    credentials: Credentials, database: str = "postgres"
) -> Generator[psycopg.Connection]:
    import psycopg

    try:
        with log_in(
            psycopg.connect,
            LOGIN_SECONDS,
            host=",".join(endpoint.host for endpoint in credentials.endpoints),
            port=",".join(str(endpoint.port) for endpoint in credentials.endpoints),
            user=credentials.user,
            password=credentials.password.get_secret_value(),
            dbname=database,
            connect_timeout=round(LOGIN_SECONDS),
            autocommit=True,
        ) as connection:
            yield connection
    except psycopg.Error as error:
        if ends := unproved(error):
            raise ServerFailed(
                f"PostgreSQL is not trusted with user {credentials.user}: it {ends}"
            ) from None
        first, _, _ = str(error).strip().partition("\n")
        raise ServerFailed(f"PostgreSQL says: {one_line(first)}") from None


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return listener.getsockname()[1]


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True
