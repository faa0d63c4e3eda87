"""Use the admin console of a PgBouncer process, through its own Unix socket.

Commands: https://www.pgbouncer.org/usage.html#admin-console. psycopg is imported on first use.
"""

from __future__ import annotations

import pathlib
import select
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, LiteralString, TypeVar

from adapters.connections import ping
from adapters.connections.messages import last_line
from adapters.connections.statement_timeout import timed_connection
from adapters.connections.waiting import WaitingBudget
from adapters.pgbouncer.console_rows import Row, alias_in, client_in, for_database, session_in
from app.errors import ConsoleFailed
from domain.console import (
    STAND_IN,
    DatabaseStats,
    PooledDatabase,
    PoolState,
    ServerState,
    first_line_not_applied,
)
from domain.instances import Instance
from domain.operations import ALL, ClientSession
from domain.users import AuthMaterial, Login

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator

    import psycopg
    import pydantic
    from psycopg.adapt import Loader

# The name of the console's database.
CONSOLE = "pgbouncer"

_CONNECT_SECONDS = 2
_ANSWER_SECONDS, _LEAST_ANSWER_SECONDS = 0.5, 0.02

# Seconds that a command may take without a waiting budget.
_COMMAND_SECONDS = 5.0

# Seconds in which a process that works answers a command. They are not subtracted from the waiting
# budget, and a process has this long when nothing is left of the budget.
_WORK_SECONDS = 0.1

# Seconds between two queries while the process changes.
_POLL_SECONDS = 0.05

T = TypeVar("T")


def _text_loader() -> type[Loader]:
    from psycopg.adapt import Buffer, Loader

    class Text(Loader):
        """Load text, and replace bytes that are no text by a character."""

        def load(self, data: Buffer) -> str:
            return bytes(data).decode(errors="replace")

    return Text


class PsycopgConsoles:
    """The consoles of the processes whose sockets are in `directory(index)`.

    All waiting for consoles is subtracted from `waiting`, the budget of a hook. Without `waiting`, each
    login has a budget of its own.
    """

    def __init__(
        self, directory: Callable[[int], str], waiting: WaitingBudget | None = None
    ) -> None:
        self._directory = directory
        self._waiting = waiting

    @contextmanager
    def open(self, index: int, port: int, auth: AuthMaterial) -> Generator[PsycopgConsole]:
        """Log in as the admin user, whose password may be changing. Raises ConsoleFailed."""
        admin = Login(username=auth.admin_user, password=auth.admin_password)
        with self.login(index, port, admin, auth.former_admin_password) as console:
            yield console

    @contextmanager
    def login(
        self, index: int, port: int, admin: Login, former: pydantic.SecretStr | None = None
    ) -> Generator[PsycopgConsole]:
        """Log in as a user that has the rights of an admin. Raises ConsoleFailed.

        A process that does not know the password yet still has the `former` password of the user.
        """
        waiting = self._waiting or WaitingBudget()
        self._check_answers(index, port, waiting)
        import psycopg

        try:
            try:
                opened = self._connect(index, port, admin, waiting)
            except psycopg.OperationalError:
                if former is None:
                    raise
                opened = self._connect(index, port, admin.with_password(former), waiting)
            with opened as connection:
                # Where every name leads to a database, clients choose the names, also bytes that are no text.
                connection.adapters.register_loader("text", _text_loader())
                yield PsycopgConsole(connection, waiting)
        except psycopg.Error as error:
            raise ConsoleFailed(last_line(str(error))) from None

    def _connect(
        self, index: int, port: int, admin: Login, waiting: WaitingBudget
    ) -> psycopg.Connection[Row]:
        from psycopg.rows import dict_row

        seconds = max(waiting.left(), _WORK_SECONDS) if self._waiting else _COMMAND_SECONDS
        return timed_connection(seconds).connect(
            host=self._directory(index),
            port=port,
            user=admin.username,
            password=admin.password.get_secret_value(),
            dbname=CONSOLE,
            connect_timeout=_CONNECT_SECONDS,
            autocommit=True,
            prepare_threshold=None,
            row_factory=dict_row,
        )

    def _check_answers(self, index: int, port: int, waiting: WaitingBudget) -> None:
        """Raise ConsoleFailed unless the process answers: a login would wait for two seconds or longer."""
        path = self._socket(index, port)
        if not path.exists():
            raise ConsoleFailed(f"process {index} has no socket for port {port}")
        with waiting.spent(_ANSWER_SECONDS, _WORK_SECONDS) as seconds:
            if ping.silent({index: str(path)}, max(seconds, _LEAST_ANSWER_SECONDS)):
                raise ConsoleFailed(f"PgBouncer process {index} does not answer")

    def reload(self, instance: Instance, admin: Login) -> str:
        """Tell a process to read its files again. Raises ConsoleFailed.

        Returns the error that the process reports; PgBouncer before 1.25 reports none.
        """
        with self.login(instance.index, instance.port, admin) as console:
            return console.reload()

    def first_line_not_applied(self, instance: Instance, admin: Login) -> str:
        """Return the first line of its file that a process does not run with; '' if it runs with every line.

        A process that was sent SIGHUP may take a moment to reload. Raises ConsoleFailed if the
        process still cannot be asked then.
        """
        waiting = self._waiting or WaitingBudget()
        while True:
            line, failure = "", None
            try:
                with self.login(instance.index, instance.port, admin) as console:
                    line = first_line_not_applied(instance, console.settings(), console.aliases())
            except ConsoleFailed as error:
                failure = error  # The process has not read the new auth file yet, or is gone.
            if not line and not failure:
                return ""
            if not self._socket(instance.index, instance.port).exists() or not waiting.pause(
                _POLL_SECONDS
            ):
                if failure:
                    raise failure
                return line

    def _socket(self, index: int, port: int) -> pathlib.Path:
        return pathlib.Path(self._directory(index), f".s.PGSQL.{port}")


class PsycopgConsole:
    """An open console of a process."""

    def __init__(self, connection: psycopg.Connection[Row], waiting: WaitingBudget) -> None:
        self._connection = connection
        self._waiting = waiting

    def settings(self) -> dict[str, str]:
        """Return the settings of the section [pgbouncer] that the process runs with."""
        return dict(self._read("SHOW CONFIG", lambda row: (row["key"], row["value"] or "")))

    def aliases(self) -> frozenset[str]:
        """Return the names under which clients can reach databases."""
        return frozenset(self._read("SHOW DATABASES", lambda row: str(row["name"])))

    def databases(self) -> tuple[PooledDatabase, ...]:
        """Return each database with its server connections, without the console."""
        databases = self._read(
            "SHOW DATABASES",
            lambda row: PooledDatabase(
                alias=alias_in(row["name"]),
                database=row["database"],
                connections=row["current_connections"],
                most=row["max_connections"] or 0,
                paused=bool(row["paused"]),
            ),
        )
        return tuple(database for database in databases if database.alias != CONSOLE)

    def pools(self) -> tuple[PoolState, ...]:
        """Return the pools with their clients and server connections, without the console."""
        pools = self._read(
            "SHOW POOLS",
            lambda row: PoolState(
                alias=row["database"],
                user=row["user"],
                clients_active=row["cl_active"],
                clients_waiting=row["cl_waiting"],
                servers_active=row["sv_active"],
                servers_idle=row["sv_idle"] + row["sv_used"] + row["sv_tested"],
                longest_wait=row["maxwait"] + row["maxwait_us"] / 1_000_000,
                mode=row["pool_mode"],
            ),
        )
        # Stand-ins for unknown names have pools without connections.
        return tuple(
            pool for pool in pools if pool.alias != CONSOLE and not pool.user.startswith(STAND_IN)
        )

    def drain_surplus(self, seconds: float, *, reconnect: bool) -> tuple[PooledDatabase, ...]:
        """Wait up to `seconds` until server connections above a limit have ended; return the databases then.

        With `reconnect`, connections that are never idle end, too: each with its transaction, or its session.
        """
        end, asked = time.monotonic() + seconds, False
        while True:
            now = self.databases()
            above = [database for database in now if 0 < database.most < database.connections]
            if not above or time.monotonic() > end or self._waiting.left() < _POLL_SECONDS:
                return now
            if reconnect and not asked:
                # PgBouncer closes idle connections itself; a connection in constant use is never idle.
                asked = True
                for database in above:
                    self._tell(for_database("RECONNECT", database.alias))
            self._waiting.pause(_POLL_SECONDS)

    def reload(self) -> str:
        """Tell the process to read its files again, and return the error that it reports; '' if none."""
        import psycopg

        try:
            self._tell("RELOAD")
        except psycopg.Error as error:
            if error.sqlstate is None:  # The connection has broken.
                raise
            return last_line(str(error))
        return ""

    def reconnect(self) -> None:
        """Replace every server connection at the end of its transaction."""
        self._tell("RECONNECT")

    def end_plain_sessions(self, *, at_once: bool) -> int:
        """End sessions from the network without TLS that have no server connection; return how many stay.

        With `at_once` all of them end, also in a transaction.
        """
        sessions = self._read("SHOW CLIENTS", session_in)
        plain = [session for session in sessions if session.plain]
        ended = [session for session in plain if at_once or not session.linked]
        for session in ended:
            self.kill(session.number)
        return len(plain) - len(ended)

    def kill(self, number: int) -> None:
        """Disconnect a client; do nothing if it has left."""
        import psycopg

        try:
            self._tell(f"KILL_CLIENT {number}")
        except psycopg.Error as error:
            if error.sqlstate is None:  # The connection has broken; else the client has just left.
                raise

    def paused(self) -> frozenset[str]:
        """Return the names of the databases that are paused, with ALL for all databases."""
        paused = {"key": "paused", "value": "yes"}
        everything = any(self._read("SHOW STATE", lambda row: row == paused))
        names = {database.alias for database in self.databases() if database.paused}
        return frozenset(names | {ALL} if everything else names)

    def pause(self, alias: str = ALL) -> None:
        """Let no transaction begin on a database. The console takes no command after this."""
        # PgBouncer answers when the last transaction has ended. The pause stays without the answer.
        raw = self._connection.pgconn
        raw.send_query((for_database("PAUSE", alias) if alias else "PAUSE").encode())
        raw.flush()
        # A short wait lets PgBouncer read the command before the connection closes.
        select.select([raw.socket], [], [], _POLL_SECONDS)
        self._connection.close()

    def resume(self, besides: Collection[str] = ()) -> None:
        """End every pause but those of these databases."""
        paused = self.paused()
        if ALL in paused and ALL not in besides:
            self._tell("RESUME")
        # RESUME without a name does not end the pause of a single database, for example after KILL.
        for alias in sorted(paused.difference(besides, {ALL})):
            self._tell(for_database("RESUME", alias))

    def sessions(self) -> tuple[ClientSession, ...]:
        """Return the clients that have logged in, without those of the console."""
        clients = self._read("SHOW CLIENTS", client_in)
        return tuple(client for client in clients if client.user and client.alias != CONSOLE)

    def servers(self) -> tuple[ServerState, ...]:
        """Return the server connections."""
        servers = self._read(
            "SHOW SERVERS",
            lambda row: ServerState(
                alias=str(row["database"]),
                user=str(row["user"]),
                state=str(row["state"]),
                address=f"{row['addr']}:{row['port']}",
            ),
        )
        return tuple(servers)

    def stats(self) -> tuple[DatabaseStats, ...]:
        """Return the statistics of each database, without the console."""
        stats = self._read(
            "SHOW STATS",
            lambda row: DatabaseStats(
                alias=str(row["database"]),
                transactions=int(row["total_xact_count"]),
                queries=int(row["total_query_count"]),
                transactions_per_second=int(row["avg_xact_count"]),
                queries_per_second=int(row["avg_query_count"]),
                transaction_microseconds=int(row["avg_xact_time"]),
                wait_microseconds=int(row["avg_wait_time"]),
            ),
        )
        return tuple(row for row in stats if row.alias != CONSOLE)

    def _read(self, command: LiteralString, meaning: Callable[[Row], T]) -> list[T]:
        """Return the rows of an answer as values. Raises ConsoleFailed for a row of an unknown form."""
        with self._waiting.spent(_COMMAND_SECONDS, _WORK_SECONDS):
            rows = self._connection.execute(command).fetchall()
        try:
            return [meaning(row) for row in rows]
        except (ArithmeticError, LookupError, TypeError, ValueError):
            raise ConsoleFailed(f"PgBouncer answers {command} in an unknown form") from None

    def _tell(self, command: str) -> None:
        with self._waiting.spent(_COMMAND_SECONDS, _WORK_SECONDS):
            self._connection.execute(command.encode())
