"""The faults that alerts on metrics are about: each is made with real processes, and ended again."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from stack import Platform, Prometheus, open_clients, rules_for, shorter_rules, until


@dataclasses.dataclass(frozen=True)
class World:
    """What a fault can touch: the unit whose alerts are watched, and a unit of another version."""

    platform: Platform
    older: Platform
    prometheus: Prometheus
    start_exporter: Callable[[Any], None]


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
    ending = threading.Event()

    def wait(client: Any) -> None:
        with contextlib.suppress(psycopg.Error):
            client.execute("SELECT 1")

    def keep_waiting(delay: float) -> None:
        ending.wait(delay)
        while not ending.is_set():
            with contextlib.suppress(psycopg.Error), world.platform.client() as client:
                wait(client)

    with open_clients(world.platform.client, holders) as clients:
        for client in clients:
            client.execute("SELECT 1")
        threads = [
            threading.Thread(target=keep_waiting, args=(2.5 * number,), daemon=True)
            for number in range(waiters)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ending.set()
    for thread in threads:
        thread.join(30)


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
    """Ask the console without a break for answers that cost PgBouncer more than the reader."""
    process, ending = world.platform.first, threading.Event()
    if os.geteuid() == 0:
        # Other work on the machine must not take the processor that PgBouncer is to use up.
        os.setpriority(os.PRIO_PROCESS, process.pid, -15)

    def ask() -> None:
        query = b"SHOW CONFIG\0"
        asked = b"Q" + (len(query) + 4).to_bytes(4, "big") + query
        with contextlib.closing(process.console()) as console:
            # psycopg would read the rows, which costs more than PgBouncer needs to write them.
            raw = socket.socket(fileno=os.dup(console.fileno()))
            raw.settimeout(10)
            with raw:
                while not ending.is_set():
                    raw.sendall(asked)
                    answer = b""
                    while not answer.endswith(b"Z\0\0\0\5I"):
                        answer = answer[-5:] + raw.recv(2**16)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ending.set()
        for thread in threads:
            thread.join(20)
        if os.geteuid() == 0:
            os.setpriority(os.PRIO_PROCESS, process.pid, 0)


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
    ("PgBouncerImbalance", "60 clients at a process", _uneven, 2),
    ("PgBouncerVersionSkew", "a unit with another version", _other_version, 2),
    ("HostDown", "an exporter is killed", _exporter_gone, 2),
    ("HostMetricsMissing", "Prometheus has no targets", _no_targets, 2),
    ("PgBouncerOneCore", "the console is flooded, threshold 0.3", _one_core, 2),
    ("PgBouncerRestartLoop", "a process is killed four times", _restarts, 2),
)
