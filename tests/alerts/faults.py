"""The faults that alerts on metrics are about: each is made with real processes, and ended again."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import psycopg
from stack import OPTIONS, Platform, Prometheus, open_clients, rules_for, shorter_rules, until

from loops import in_threads


@dataclasses.dataclass(frozen=True)
class World:
    """What a fault can touch: the unit whose alerts are watched, and a unit of another version."""

    platform: Platform
    older: Platform
    prometheus: Prometheus
    start_exporter: Callable[[Any], None]


# The clients that keep a processor busy. The pool of the process has more connections.
PREPARERS = 4

Fault = Callable[[World], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def _process_killed(world: World) -> Iterator[None]:
    process = world.platform.processes[-1]
    process.kill()
    try:
        yield
    finally:
        process.start()


@contextlib.contextmanager
def _restarts(world: World) -> Iterator[None]:
    process = world.platform.processes[-1]
    for _ in range(4):
        before = _starts(world, process.number)
        process.kill()
        process.start()
        until(
            lambda before=before: _starts(world, process.number) not in ([], before),
            "Prometheus has seen the start",
        )
    yield


def _starts(world: World, number: int) -> list[str]:
    found = world.prometheus.query(f'pgbouncer_process_start_time_seconds{{process="{number}"}}')
    return [series["value"][1] for series in found]


@contextlib.contextmanager
def _server_stopped(world: World) -> Iterator[None]:
    world.platform.server.stop()
    try:
        yield
    finally:
        world.platform.server.start()


@contextlib.contextmanager
def _login_waits(world: World) -> Iterator[None]:
    """PostgreSQL accepts connections and says nothing, so a client waits in its login."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(world.platform.server.frozen())
        for process in world.platform.processes:
            process.tell("RECONNECT")
        threading.Thread(target=_try_to_log_in, args=(world.platform,), daemon=True).start()
        yield


def _try_to_log_in(platform: Platform) -> None:
    with contextlib.suppress(psycopg.Error):
        platform.client().close()


@contextlib.contextmanager
def _waiting(world: World, holders: int, waiters: int) -> Iterator[None]:
    """Let clients keep their server connections, and other clients of the process wait."""

    def keep_waiting(delay: float, ending: threading.Event) -> None:
        ending.wait(delay)
        while not ending.is_set():
            with contextlib.suppress(psycopg.Error), world.platform.client() as client:
                client.execute("SELECT 1")

    waiting = [partial(keep_waiting, 2.5 * number) for number in range(waiters)]
    with open_clients(world.platform.client, holders) as clients:
        for client in clients:
            client.execute("SELECT 1")
        with in_threads(waiting):
            try:
                yield
            finally:
                # A client that waits is served now, so its thread ends.
                for client in clients:
                    client.close()


@contextlib.contextmanager
def _pool_full(world: World) -> Iterator[None]:
    first = int(world.platform.first.setting("max_db_connections"))
    with _waiting(world, first, 2):
        yield


@contextlib.contextmanager
def _small_pool(world: World) -> Iterator[None]:
    """A pool of a single connection in each process, while the database may have more."""
    world.platform.configure(default_pool_size=len(world.platform.processes))
    try:
        with _waiting(world, 1, 2):
            yield
    finally:
        world.platform.configure(default_pool_size=0)


@contextlib.contextmanager
def _short_wait(world: World) -> Iterator[None]:
    """The same with a short query_wait_timeout, to which the rules follow."""
    platform = world.platform
    platform.configure(query_wait_timeout=10)
    world.prometheus.load(shorter_rules(rules_for(platform.options)))
    try:
        with _small_pool(world):
            yield
    finally:
        platform.configure(query_wait_timeout=120)
        world.prometheus.load(shorter_rules(rules_for(platform.options)))


@contextlib.contextmanager
def _few_slots(world: World) -> Iterator[None]:
    first = world.platform.first
    before = first.setting("max_client_conn")
    first.tell("SET max_client_conn=20")
    try:
        with open_clients(world.platform.client, 14):
            yield
    finally:
        first.tell(f"SET max_client_conn={before}")


@contextlib.contextmanager
def _one_core(world: World) -> Iterator[None]:
    """Let clients send more statements than a processor can parse."""
    platform = world.platform
    # PgBouncer parses statements only in this mode.
    platform.configure(pool_mode="transaction")
    with contextlib.ExitStack() as stack:
        stack.callback(platform.configure, pool_mode=OPTIONS["pool_mode"])
        _before_other_work(platform.first.pid)
        stack.callback(
            os.sched_setscheduler, platform.first.pid, os.SCHED_OTHER, os.sched_param(0)
        )
        clients = stack.enter_context(open_clients(platform.client, PREPARERS))
        stack.enter_context(in_threads([partial(_prepare, client) for client in clients], 20))
        yield


def _before_other_work(thread: int = 0) -> None:
    """Let a thread, this thread by default, have a processor as soon as it asks: only root can do that."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(1))


def _prepare(client: Any, ending: threading.Event) -> None:
    """Prepare and close a long statement, again and again.

    PgBouncer answers both messages itself, because its server connection has the statement already: the
    client and PostgreSQL have little to do.
    """
    statement = b"s\0SELECT '" + b"x" * 3000 + b"'\0\0\0"
    messages = (_message(b"P", statement) + _message(b"C", b"Ss\0")) * 1000 + _message(b"S", b"")
    _before_other_work()
    # psycopg would parse every answer.
    with socket.socket(fileno=os.dup(client.fileno())) as raw:
        raw.settimeout(10)
        while not ending.is_set():
            raw.sendall(messages)
            answer = b""
            while not answer.endswith(b"Z\0\0\0\5I"):
                received = raw.recv(2**16)
                assert received, "PgBouncer has closed the connection"
                answer = answer[-5:] + received


def _message(kind: bytes, body: bytes) -> bytes:
    """Return a message of PostgreSQL's protocol."""
    return kind + (len(body) + 4).to_bytes(4, "big") + body


@contextlib.contextmanager
def _paused(world: World) -> Iterator[None]:
    first, database = world.platform.first, world.platform.login["database"]
    first.tell(f"PAUSE {database}")
    try:
        # Clients that wait for the end of the pause give no further alert.
        client = world.platform.client()
        thread = threading.Thread(target=lambda: client.execute("SELECT 1"), daemon=True)
        thread.start()
        yield
    finally:
        first.tell(f"RESUME {database}")
    thread.join(10)
    client.close()


@contextlib.contextmanager
def _disabled(world: World) -> Iterator[None]:
    first, database = world.platform.first, world.platform.login["database"]
    first.tell(f"DISABLE {database}")
    try:
        yield
    finally:
        first.tell(f"ENABLE {database}")


@contextlib.contextmanager
def _stopped(world: World, action: tuple[str, ...], end: tuple[str, ...]) -> Iterator[None]:
    """Stop something by an action, to which the rules follow."""
    platform = world.platform

    def follow(command: tuple[str, ...]) -> None:
        platform.pooler(*command)
        world.prometheus.load(shorter_rules(rules_for(platform.options, platform.plan)))

    try:
        follow(action)
        yield
    finally:
        follow(end)


def _all_paused(world: World) -> contextlib.AbstractContextManager[None]:
    return _stopped(world, ("pause",), ("resume",))


def _logins_disabled(world: World) -> contextlib.AbstractContextManager[None]:
    database = world.platform.login["database"]
    return _stopped(world, ("disable", database), ("enable", database))


@contextlib.contextmanager
def _uneven(world: World) -> Iterator[None]:
    with open_clients(world.platform.client, 60):
        yield


@contextlib.contextmanager
def _other_version(world: World) -> Iterator[None]:
    world.prometheus.scrape([*world.platform.processes, *world.older.processes])
    try:
        yield
    finally:
        world.prometheus.scrape(world.platform.processes)


@contextlib.contextmanager
def _exporter_gone(world: World) -> Iterator[None]:
    process = world.platform.processes[-1]
    process.stop_exporter()
    try:
        yield
    finally:
        world.start_exporter(process)


@contextlib.contextmanager
def _no_targets(world: World) -> Iterator[None]:
    world.prometheus.scrape([])
    try:
        yield
    finally:
        world.prometheus.scrape(world.platform.processes)


# The alert, what is done, how, and seconds to watch for other alerts after it fired.
FAULTS: tuple[tuple[str, str, Fault, float], ...] = (
    ("PgBouncerDown", "a process is killed", _process_killed, 2),
    ("PgBouncerServerUnreachable", "PostgreSQL is stopped", _server_stopped, 2),
    ("PgBouncerServerUnreachable", "PostgreSQL hangs, a login waits", _login_waits, 8),
    ("PgBouncerPoolFull", "clients keep all connections", _pool_full, 8),
    ("PgBouncerClientsWaiting", "a pool of a single connection", _small_pool, 2),
    ("PgBouncerWaitNearTimeout", "the same, query_wait_timeout=10", _short_wait, 6),
    ("PgBouncerClientSlots", "14 clients, max_client_conn=20", _few_slots, 2),
    ("PgBouncerPausedOrDisabled", "PAUSE of a database, a client waits", _paused, 6),
    ("PgBouncerPausedOrDisabled", "DISABLE of a database", _disabled, 2),
    ("PgBouncerAllPaused", "the action pause", _all_paused, 2),
    ("PgBouncerLoginsDisabled", "the action disable", _logins_disabled, 2),
    ("PgBouncerImbalance", "60 clients at a process", _uneven, 2),
    ("PgBouncerVersionSkew", "a unit with another version", _other_version, 2),
    ("HostDown", "an exporter is killed", _exporter_gone, 2),
    ("HostMetricsMissing", "Prometheus has no targets", _no_targets, 2),
    ("PgBouncerOneCore", "clients prepare statements", _one_core, 2),
    ("PgBouncerRestartLoop", "a process is killed four times", _restarts, 2),
)
