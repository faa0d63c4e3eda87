"""Ask all PgBouncer processes and all applications of this machine at the same time."""

from __future__ import annotations

import contextlib
import pathlib
import re
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from adapters.connections.waiting import WaitingBudget
from app.errors import ConsoleFailed
from domain.console import PoolState
from domain.value import number_of
from pooler import own_logins

if TYPE_CHECKING:
    import psycopg

    from adapters.local.model import ClientRecord
    from adapters.pgbouncer.console import PsycopgConsole
    from pooler.platform import LocalPlatform

A = TypeVar("A")
T = TypeVar("T")

# Seconds in which a console has to answer, and a query of an application.
CONSOLE_SECONDS = 1.5
QUERY_SECONDS = 1.5

_MOST_THREADS = 40

# PgBouncer's and PostgreSQL's refusals that end by themselves, and the seconds until the next attempt.
_PASSING = re.compile("server login has been failing|the database system is starting up")
_RETRY_SECONDS = 0.2

# What psycopg and libpq write before the reason why a login failed.
_ADDRESS = re.compile(
    r"(?:connection failed: )?connection to server (?:at|on socket) .{0,200}? failed: (?:FATAL: +)?"
)


class Process(NamedTuple):
    """A PgBouncer process as the configuration that was applied knows it."""

    unit: str
    number: int
    port: int


class ProcessState(NamedTuple):
    """What the console of a process answered; `error` is '' if it answered."""

    process: Process
    pools: tuple[PoolState, ...] = ()
    error: str = ""


class Answer(NamedTuple):
    """How a query of an application ended: after how many seconds, and with which error ('' if none)."""

    seconds: float
    error: str = ""
    # Whether there was no answer in time.
    late: bool = False


class Application(NamedTuple):
    """An application that is related, and its user in PostgreSQL."""

    number: int
    name: str
    user: str
    record: ClientRecord


def applications(platform: LocalPlatform) -> list[Application]:
    """Return the applications that are related, in the order in which they were related."""
    return [
        Application(number, record.application, record.user(number), record)
        for number, record in sorted(platform.model.clients.items())
    ]


def in_parallel(function: Callable[[A], T], arguments: Iterable[A]) -> list[T]:
    """Return what the function returns for each of the arguments. The function limits its own time."""
    waiting = list(arguments)
    if not waiting:
        return []
    with ThreadPoolExecutor(min(len(waiting), _MOST_THREADS)) as threads:
        return list(threads.map(function, waiting))


def processes_of(platform: LocalPlatform, units: Sequence[str]) -> list[Process]:
    """Return the processes of units, in the order of their numbers, as they were configured last."""

    def of(unit: str) -> list[Process]:
        applied = platform.pooler(unit).read().applied
        instances = applied.instances if applied else ()
        return [Process(unit, process.index, process.port) for process in instances]

    return [
        process for found in in_parallel(of, sorted(units, key=number_of)) for process in found
    ]


class Consoles:
    """The consoles of processes. With `keep`, they stay open for the next question."""

    def __init__(self, *, keep: bool = False) -> None:
        self._keep = keep
        self._open: dict[tuple[Process, str], tuple[contextlib.ExitStack, PsycopgConsole]] = {}

    def ask(self, platform: LocalPlatform, processes: Iterable[Process]) -> list[ProcessState]:
        """Return the pools of each process; each has CONSOLE_SECONDS to answer."""
        auth = platform.model.auth
        if auth is None:
            return []
        states = in_parallel(lambda process: self._ask(platform, process), processes)
        if not self._keep:
            self.close()
        return states

    def _ask(self, platform: LocalPlatform, process: Process) -> ProcessState:
        auth = platform.model.auth
        if auth is None:
            return ProcessState(process, error="no user of the console exists yet")
        key = (process, auth.admin_password.get_secret_value())
        try:
            if key not in self._open:
                stack = contextlib.ExitStack()
                consoles = platform.consoles(process.unit, WaitingBudget(CONSOLE_SECONDS))
                console = stack.enter_context(consoles.open(process.number, process.port, auth))
                self._open[key] = (stack, console)
            return ProcessState(process, self._pools(key))
        except ConsoleFailed as error:
            return ProcessState(process, error=str(error))

    def _pools(self, key: tuple[Process, str]) -> tuple[PoolState, ...]:
        stack, console = self._open[key]
        try:
            with _translated():
                return console.pools()
        except ConsoleFailed:
            del self._open[key]
            with contextlib.suppress(ConsoleFailed):
                stack.close()
            raise

    def close(self) -> None:
        """Close all consoles."""
        while self._open:
            _, (stack, _) = self._open.popitem()
            with contextlib.suppress(ConsoleFailed):
                stack.close()


@contextlib.contextmanager
def _translated() -> Generator[None]:
    import psycopg

    try:
        yield
    except psycopg.Error:
        raise ConsoleFailed("its console does not answer any more") from None


def query(
    home: pathlib.Path,
    address: str,
    port: int,
    application: Application,
    within: float = QUERY_SECONDS,
) -> Answer:
    """Log in through a unit as an application, and run SELECT 1, within so many seconds.

    The application has to have its credentials. A login that PgBouncer refuses because PostgreSQL was
    away a moment ago is tried again: PgBouncer itself tries again after a second. The login is written
    down in `home`, so that `pooler logs` leaves it out.
    """
    end, refused = time.monotonic() + within, None
    while True:
        answer = _query(home, address, port, application, end)
        if answer.late:
            # The reason of a refusal tells more than the end of the time for a second attempt.
            return refused or answer._replace(error=f"no answer within {within:g} s")
        if not _PASSING.search(answer.error) or time.monotonic() + _RETRY_SECONDS > end:
            return answer
        refused = answer
        time.sleep(_RETRY_SECONDS)


def _query(
    home: pathlib.Path, address: str, port: int, application: Application, end: float
) -> Answer:
    import psycopg

    from adapters.connections.login import log_in
    from adapters.connections.messages import last_line
    from adapters.connections.statement_timeout import timed_connection

    def connect_and_ask(
        **parameters: Any,  # noqa: ANN401 — those of `connect`, of which each has its own type
    ) -> psycopg.Connection[Any]:
        connection = timed_connection(QUERY_SECONDS).connect(**parameters)
        try:
            own_logins.remember(home, connection.fileno())
            connection.execute("SELECT 1")
        except psycopg.Error:
            connection.close()
            raise
        return connection

    record = application.record
    begin = time.monotonic()
    try:
        # The deadline of the login is that of the query, too.
        log_in(
            connect_and_ask,
            end - begin,
            host=address,
            port=port,
            user=application.user,
            password=record.password.get_secret_value() if record.password else "",
            dbname=record.told.database if record.told else record.database,
            connect_timeout=2,
            client_encoding="utf8",
            prepare_threshold=None,
            autocommit=True,
        ).close()
    except psycopg.Error as error:
        seconds = time.monotonic() - begin
        if time.monotonic() >= end and getattr(error, "sqlstate", None) is None:
            return Answer(seconds, late=True)
        reason = without_address(last_line(str(error)))
        if "Connection refused" in reason:
            reason = f"no process of PgBouncer listens at {address}:{port}"
        return Answer(seconds, reason)
    return Answer(time.monotonic() - begin)


def without_address(text: str) -> str:
    """Return the message of a login that failed, without the address before the reason."""
    return _ADDRESS.sub("", text)
