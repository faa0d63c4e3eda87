"""How is a PgBouncer process asked and told? On its console, by its own Unix socket, as the admin user.

Commands: https://www.pgbouncer.org/usage.html#admin-console. By psycopg, imported on first use.
"""

from __future__ import annotations

import pathlib
import select
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, LiteralString, TypeVar

from adapters.connections import ping
from adapters.connections.messages import last_line
from adapters.connections.statement_timeout import patient
from adapters.connections.waiting import WaitingBudget
from app.errors import ConsoleFailed
from domain.console import STAND_IN, PooledDatabase, PoolState, first_line_not_applied
from domain.instances import Instance
from domain.users import AuthMaterial, Login

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import psycopg
    from psycopg.adapt import Loader

CONSOLE = "pgbouncer"  #: the name of the console's database

_CONNECT_SECONDS = 2
_ANSWER_SECONDS, _LEAST_ANSWER_SECONDS = 0.5, 0.02
_PATIENCE = 5.0  #: seconds without a waiting budget

# Seconds in which a process that works answers a command. They are not subtracted from the waiting
# budget, and a process has this long when nothing is left of the budget.
_MOMENT = 0.1
_LOOK_EVERY = 0.05

Row = dict[str, Any]
T = TypeVar("T")

# What stands for bytes that are no text.
_NO_TEXT = "\N{REPLACEMENT CHARACTER}"


def _named(command: str, alias: str) -> str:
    """The command for one database; for all of them, if its name cannot be told."""
    quoted = alias.replace('"', '""')
    return command if _NO_TEXT in alias else f'{command} "{quoted}"'


def _alias(name: object) -> str:
    """A name that can be said in a command. Raises ValueError for what is none."""
    if not isinstance(name, str) or not name:
        raise ValueError("no name")
    return name.encode().decode()


def _text_loader() -> type[Loader]:
    from psycopg.adapt import Buffer, Loader

    class Text(Loader):
        """Text in which bytes that are none have a character of their own."""

        def load(self, data: Buffer) -> str:
            return bytes(data).decode(errors="replace")

    return Text


class PsycopgConsoles:
    """The consoles of the processes whose sockets lie in these directories.

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
        """Log in as the admin user. Raises ConsoleFailed."""
        admin = Login(username=auth.admin_user, password=auth.admin_password)
        with self.login(index, port, admin) as console:
            yield console

    @contextmanager
    def login(self, index: int, port: int, admin: Login) -> Generator[PsycopgConsole]:
        """The same, for whoever has no more than these credentials."""
        waiting = self._waiting or WaitingBudget()
        self._ask(index, port, waiting)
        import psycopg
        from psycopg.rows import dict_row

        patience = max(waiting.left(), _MOMENT) if self._waiting else _PATIENCE
        try:
            with patient(patience).connect(
                host=self._directory(index),
                port=port,
                user=admin.username,
                password=admin.password.get_secret_value(),
                dbname=CONSOLE,
                connect_timeout=_CONNECT_SECONDS,
                autocommit=True,
                prepare_threshold=None,
                row_factory=dict_row,
            ) as connection:
                # Clients choose names of databases where any name leads to one.
                connection.adapters.register_loader("text", _text_loader())
                yield PsycopgConsole(connection, waiting)
        except psycopg.Error as error:
            raise ConsoleFailed(last_line(str(error))) from None

    def _ask(self, index: int, port: int, waiting: WaitingBudget) -> None:
        """Raise ConsoleFailed unless the process answers: a login would wait for two seconds or longer."""
        path = self._socket(index, port)
        if not path.exists():
            raise ConsoleFailed(f"process {index} has no socket for port {port}")
        with waiting.spent(_ANSWER_SECONDS, _MOMENT) as seconds:
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
                _LOOK_EVERY
            ):
                if failure:
                    raise failure
                return line

    def _socket(self, index: int, port: int) -> pathlib.Path:
        return pathlib.Path(self._directory(index), f".s.PGSQL.{port}")


class PsycopgConsole:
    """The console of one process."""

    def __init__(self, connection: psycopg.Connection[Row], waiting: WaitingBudget) -> None:
        self._connection = connection
        self._waiting = waiting

    def settings(self) -> dict[str, str]:
        """What the section [pgbouncer] has now."""
        return dict(self._read("SHOW CONFIG", lambda row: (row["key"], row["value"] or "")))

    def aliases(self) -> frozenset[str]:
        """The names under which databases can be reached."""
        return frozenset(self._read("SHOW DATABASES", lambda row: str(row["name"])))

    def databases(self) -> tuple[PooledDatabase, ...]:
        """What the process has of each database."""
        found = self._read(
            "SHOW DATABASES",
            lambda row: PooledDatabase(
                alias=_alias(row["name"]),
                database=row["database"],
                connections=row["current_connections"],
                most=row["max_connections"] or 0,
                paused=bool(row["paused"]),
            ),
        )
        return tuple(one for one in found if one.alias != CONSOLE)

    def pools(self) -> tuple[PoolState, ...]:
        """What its pools are doing."""
        found = self._read(
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
            pool for pool in found if pool.alias != CONSOLE and not pool.user.startswith(STAND_IN)
        )

    def shed(self, seconds: float, *, reconnect: bool) -> tuple[PooledDatabase, ...]:
        """Connections above a limit end; waits for so many seconds at most. Returns what is left.

        With `reconnect` those that are never idle end, too, each with its transaction, or its session.
        """
        end, asked = time.monotonic() + seconds, False
        while True:
            now = self.databases()
            over = [one for one in now if 0 < one.most < one.connections]
            if not over or time.monotonic() > end or self._waiting.left() < _LOOK_EVERY:
                return now
            if reconnect and not asked:
                # Idle ones end by themselves; one that is always wanted is never idle.
                asked = True
                for one in over:
                    self._tell(_named("RECONNECT", one.alias))
            self._waiting.pause(_LOOK_EVERY)

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
        """Every connection to PostgreSQL ends with its transaction, and others take their place."""
        self._tell("RECONNECT")

    def pause(self, seconds: float) -> bool:
        """Nothing new begins; whether all that was open has ended after so many seconds at most."""
        end = time.monotonic() + seconds
        if not self._paused():
            # The answer comes when all has ended. Nobody has to wait for it: the pause stays.
            raw = self._connection.pgconn
            raw.send_query(b"PAUSE")
            raw.flush()
            readable, _, _ = select.select([raw.socket], [], [], seconds)
            # Whether it came or not, nothing else can be said on this connection.
            self._connection.close()
            return bool(readable)
        while any(pool.servers_active for pool in self.pools()):
            if time.monotonic() > end:
                return False
            time.sleep(_LOOK_EVERY)
        return True

    def resume(self) -> None:
        """What waits goes on."""
        if self._paused():
            self._tell("RESUME")
        # Pools that were killed are paused each by itself, of which that command knows nothing.
        for one in self.databases():
            if one.paused:
                self._tell(_named("RESUME", one.alias))

    def kill(self, alias: str) -> None:
        """All connections of this pool end at once, and nothing new begins until it is resumed."""
        self._tell(_named("KILL", alias))

    def _paused(self) -> bool:
        paused = {"key": "paused", "value": "yes"}
        return any(self._read("SHOW STATE", lambda row: row == paused))

    def _read(self, command: LiteralString, meaning: Callable[[Row], T]) -> list[T]:
        """What each row of the answer means. Raises ConsoleFailed for one that means nothing to us."""
        with self._waiting.spent(_PATIENCE, _MOMENT):
            rows = self._connection.execute(command).fetchall()
        try:
            return [meaning(row) for row in rows]
        except (ArithmeticError, LookupError, TypeError, ValueError):
            raise ConsoleFailed(f"{command} is answered with what is not known here") from None

    def _tell(self, command: str) -> None:
        with self._waiting.spent(_PATIENCE, _MOMENT):
            self._connection.execute(command.encode())
