"""Make, start and stop a PostgreSQL server, and ask any PostgreSQL server."""

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
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from adapters.connections.login import log_in, tls_parameters, weak_method
from adapters.connections.messages import one_line
from adapters.local import environment, files, listeners
from adapters.local.run_as import RunAs, chown, identity
from adapters.local.system_processes import command_of, pid_in, pids, send, user_of
from adapters.passwords import new_password
from domain.backend import BackendLogin
from domain.capabilities import Version
from domain.endpoints import Endpoint
from pooler.address import AUTH_DATABASE, FIRST_DATABASE, with_cure
from pooler.binaries import version_of
from pooler.store import DELETED, ServerRecord

if TYPE_CHECKING:
    import psycopg

SUPERUSER = "pooler"
HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
ASK_SECONDS = 5.0
LOGIN_SECONDS = 5.0
LEAVE_SECONDS = 5.0

# Lines of postmaster.pid.
_PID_PORT, _PID_STATUS = 3, 7

# Clients cannot use the last connections, so that `pooler` can always log in as the superuser.
_SETTINGS = f"""
listen_addresses = '{HOST}'
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 300
superuser_reserved_connections = 10
"""

# From this version on PostgreSQL also reserves connections for members of pg_use_reserved_connections.
_RESERVES = Version(16)
_RESERVED = "reserved_connections = 10\n"


class ServerFailed(Exception):
    """PostgreSQL does not run, does not answer or refuses; the text says which, and what to do next."""


class LocalServer:
    """A PostgreSQL server with its data in a directory.

    The data belongs to the server's user, `owner`, so `pooler` as root writes no file below it.
    """

    def __init__(self, home: pathlib.Path, owner: RunAs | None) -> None:
        self._data = home / "postgresql"
        self._log = home / "postgresql.log"
        self._owner = owner

    def make(self, programs: pathlib.Path) -> ServerRecord:
        """Make a cluster whose superuser logs in by SCRAM, and return its record. Raises ServerFailed.

        Data of a server that has run is removed only if it was being deleted.
        """
        used = (self._data / "postmaster.opts").exists()
        if used and not (self._data.parent / DELETED).exists():
            raise ServerFailed(
                f"{self._data} has data of PostgreSQL, but {self._data.parent / 'state.json'}, which has"
                " its password, is missing: bring that file back, or move the data to another place"
            )
        password = new_password()
        # `initdb` outlives a `pooler` that is killed, so each `initdb` has a directory of its own. What a
        # killed command leaves lies beside the data, and is removed below.
        new = pathlib.Path(tempfile.mkdtemp(prefix=f"{self._data.name}-", dir=self._data.parent))
        chown(new, self._owner)
        with tempfile.NamedTemporaryFile(
            "w", prefix=f"{self._data.name}-", suffix=".password", dir=self._data.parent
        ) as file:
            file.write(password.get_secret_value())
            file.flush()
            # PostgreSQL's user cannot replace a file in this directory.
            chown(pathlib.Path(file.name), self._owner)
            self._run(
                programs / "initdb",
                *("-D", str(new), "-U", SUPERUSER, f"--pwfile={file.name}"),
                *("-A", "scram-sha-256", "-E", "UTF8", "--locale=C"),
            )
        reserved = (
            _RESERVED if version_of(programs / "postgres", "PostgreSQL") >= _RESERVES else ""
        )
        self._append(new / "postgresql.auto.conf", _SETTINGS + reserved)
        shutil.rmtree(self._data, ignore_errors=True)
        new.rename(self._data)
        for left in self._data.parent.glob(f"{self._data.name}-*"):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()
        return ServerRecord(programs=str(programs), port=_free_port(), password=password)

    def start(self, server: ServerRecord) -> bool:
        """Start the server unless it runs, at another port if another program uses its port.

        Returns whether it was started. Raises ServerFailed.
        """
        started = not self.runs()
        if started:
            self.end()
            port = server.port if listeners.is_free(HOST, server.port) else _free_port()
            pg_ctl = pathlib.Path(server.programs, "pg_ctl")
            wait = ("-s", "-w", "-t", f"{START_SECONDS:.0f}")
            try:
                # `pooler` itself opens the log, so that PostgreSQL's user cannot replace it by a link.
                with open(files.open_log(self._log), "a") as log:
                    self._run(
                        pg_ctl, "-D", str(self._data), *wait, "-o", f"-p {port}", "start", log=log
                    )
            except ServerFailed:
                # A command that was killed may have started the server at this moment.
                if not self.runs():
                    raise
        server.port = self._port_when_ready()
        return started

    def stop(self) -> bool:
        """Stop the server, also without its record, and return whether it ran. Raises ServerFailed."""
        ran, pid = bool(self._workers()), self._recorded_pid()
        end = time.monotonic() + STOP_SECONDS
        if self.runs():
            # A fast shutdown: sessions end, and then the data is written.
            send(pid, signal.SIGINT, self._is_worker)
        while self.runs():
            if time.monotonic() > end:
                raise ServerFailed(
                    f"PostgreSQL (process {pid}) has not ended after {STOP_SECONDS:.0f} s: see {self._log}"
                )
            time.sleep(0.05)
        self.end()
        return ran

    def runs(self) -> bool:
        """Return whether the server runs."""
        pid = self._recorded_pid()
        return bool(pid) and self._is_worker(pid)

    def end(self) -> None:
        """End every process that writes to the data, and remove a pid file that names another program."""
        end = time.monotonic() + LEAVE_SECONDS
        while (workers := self._workers()) and time.monotonic() < end:
            # A busy process does not notice that the server has ended.
            for pid in workers:
                send(pid, signal.SIGQUIT, self._is_worker)
            time.sleep(0.05)
        if not workers and command_of(self._recorded_pid()):
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def _recorded_pid(self) -> int:
        """Return the process ID in the pid file of PostgreSQL; 0 if there is none."""
        return pid_in("\n".join(self._pid_file()))

    def _workers(self) -> list[int]:
        """Return the processes of PostgreSQL that use this data."""
        return [pid for pid in pids() if self._is_worker(pid)]

    def _is_worker(self, pid: int) -> bool:
        """Return whether a process is PostgreSQL, runs as its user, and has the data as its directory."""
        name = [*command_of(pid), ""][0]
        if not (name.startswith("postgres:") or name.endswith("/postgres")):
            return False
        user = self._owner.user if self._owner else os.geteuid()
        try:
            here = pathlib.Path(f"/proc/{pid}/cwd").samefile(self._data)
        except OSError:
            return False
        return here and user_of(pid) == user

    def _pid_file(self) -> list[str]:
        try:
            return files.read(self._data / "postmaster.pid").splitlines()
        except OSError:
            return []

    def _append(self, path: pathlib.Path, text: str) -> None:
        """Append settings to a file of PostgreSQL, as PostgreSQL's user. Raises ServerFailed."""
        done = self._call(pathlib.Path("/bin/sh"), "-c", 'cat >>"$0"', str(path), text=text)
        if done.returncode:
            raise ServerFailed(f"{path} cannot be written: {one_line(_cause(done.stdout))}")

    def _port_when_ready(self) -> int:
        """Return the port of the server when it accepts connections. Raises ServerFailed.

        The pid file has the port and the state (pidfile.h of PostgreSQL).
        """
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            lines = self._pid_file()
            ready = len(lines) > _PID_STATUS and lines[_PID_STATUS].strip() == "ready"
            if ready and re.fullmatch("[0-9]{1,5}", lines[_PID_PORT].strip()):
                return int(lines[_PID_PORT])
            time.sleep(0.05)
        raise ServerFailed(
            f"PostgreSQL accepts no connections after {START_SECONDS:.0f} s: see {self._log}"
        )

    def _run(self, program: pathlib.Path, *arguments: str, log: IO[str] | None = None) -> None:
        before = len(self._logged())
        done = self._call(program, *arguments, log=log)
        if done.returncode:
            logged = self._logged()[before:].decode(errors="replace")
            cause = _cause(logged + done.stdout)
            raise ServerFailed(f"{program.name} failed: {one_line(cause)}: see {self._log}")

    def _call(
        self, program: pathlib.Path, *arguments: str, text: str = "", log: IO[str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as PostgreSQL's user with this text as its input, and return its output.

        With `log`, its output goes to the log, and so does the later output of a server that it starts.
        """
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            # With a pipe, `subprocess.run` would wait for the end of a server that `pg_ctl` starts.
            done = subprocess.run(
                [program, *arguments],
                input=text.encode(),
                stdout=log or output,
                stderr=subprocess.STDOUT,
                check=False,
                cwd="/",
                env=environment.for_servers(),
                **identity(self._owner),
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, output.read(), "")

    def _logged(self) -> bytes:
        return self._log.read_bytes() if self._log.exists() else b""


def _cause(output: str) -> str:
    """Return the first line about an error in the output of a program, or else the last line."""
    errors = re.findall(r"(?:FATAL|PANIC|error): +(.+)", output)
    return [*errors[:1], *output.strip().splitlines()[-1:], "it gave no reason"][0]


def own_credentials(server: ServerRecord) -> BackendLogin:
    """Return how to log in to the server that `pooler` has made."""
    return BackendLogin(
        user=SUPERUSER,
        password=server.password,
        database=AUTH_DATABASE,
        endpoints=(Endpoint(host=HOST, port=server.port),),
    )


def inspect_server(credentials: BackendLogin, database: str = FIRST_DATABASE) -> tuple[str, bool]:
    """Return the server's version, and whether it has the auth database, after a login to `database`.

    Raises ServerFailed, also if the user has no right to make roles and databases.
    """
    with connected(credentials, database) as connection:
        version = connection.info.parameter_status("server_version") or ""
        _check_rights(connection)
        query = "SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s"
        row = connection.execute(query, [AUTH_DATABASE]).fetchone()
        return version.partition(" ")[0], bool(row)


def _check_rights(connection: psycopg.Connection) -> None:
    """Raise ServerFailed, with the command to run, if the user of this connection lacks an attribute."""
    from psycopg import sql

    row = connection.execute(
        "SELECT rolname, rolsuper OR rolcreaterole, rolsuper OR rolcreatedb"
        " FROM pg_catalog.pg_roles WHERE rolname = current_user"
    ).fetchone()
    name, *attributes = row or ("", True, True)
    named = zip(("CREATEROLE", "CREATEDB"), attributes, strict=True)
    lacks = [word for word, has in named if not has]
    if lacks:
        alter = sql.SQL("ALTER ROLE {}").format(sql.Identifier(name)).as_string(connection)
        raise ServerFailed(
            f"user {name} of PostgreSQL lacks {' and '.join(lacks)}, and cannot make users and databases"
            f" for clients: run `{alter} {' '.join(lacks)}`, or name a superuser in --backend"
        )


def reads_passwords(credentials: BackendLogin) -> bool:
    """Return whether the user may read pg_authid in the auth database. Raises ServerFailed."""
    with connected(credentials, credentials.database) as connection:
        query = "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')"
        return connection.execute(query).fetchone() == (True,)


def make_auth_database(credentials: BackendLogin, database: str = FIRST_DATABASE) -> None:
    """Make the auth database, after a login to `database`. Raises ServerFailed."""
    from psycopg import sql

    with connected(credentials, database) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(AUTH_DATABASE)))


def ask(credentials: BackendLogin, statement: str) -> str:
    """Return the first value of a query's answer. Raises ServerFailed, also after ASK_SECONDS."""
    answers: queue.SimpleQueue[str | ServerFailed] = queue.SimpleQueue()

    def wait() -> None:
        try:
            with connected(credentials, credentials.database) as connection:
                row = connection.execute(statement.encode()).fetchone()
                answers.put(str(row[0]) if row else "")
        except ServerFailed as error:
            answers.put(error)

    # The thread is a daemon, because a query may wait for minutes in a pool without a free connection.
    threading.Thread(target=wait, daemon=True).start()
    try:
        answer = answers.get(timeout=ASK_SECONDS)
    except queue.Empty:
        raise ServerFailed(f"no answer within {ASK_SECONDS:.0f} s: see `pooler top`") from None
    if isinstance(answer, ServerFailed):
        raise answer
    return answer


@contextmanager
def connected(
    credentials: BackendLogin, database: str = FIRST_DATABASE
) -> Generator[psycopg.Connection]:
    """Yield a connection that commits each statement. Raises ServerFailed."""
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
            client_encoding="utf8",  # With a server in SQL_ASCII psycopg would return bytes.
            autocommit=True,
            **tls_parameters(credentials),
        ) as connection:
            yield connection
    except psycopg.Error as error:
        if reason := weak_method(error):
            raise ServerFailed(
                f"PostgreSQL is not trusted with user {credentials.user}: it {reason}"
            ) from None
        first, _, _ = str(error).strip().partition("\n")
        said = f"PostgreSQL says: {one_line(first)}"
        raise ServerFailed(said if database == credentials.database else with_cure(said)) from None


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        return listener.getsockname()[1]
