"""What clients and commands learn while PostgreSQL is down, with each packaged PgBouncer."""

from __future__ import annotations

import contextlib
import pathlib
import signal
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from platform_under_test import Pooler, value
from postgresql import ADMIN, PASSWORD, PostgreSQL

from pooler.invocation import Invocation
from pooler.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# PgBouncer looks every third of a second whether a connection for password look-ups is open.
NOTICED_SECONDS = 1.5
TOLD_SECONDS = 5.0
COMMAND_SECONDS = 8.0

FAILING = "server login has been failing"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    """A PostgreSQL server of the operator, with few connections."""
    with PostgreSQL(settings={"max_connections": "20"}) as server:
        yield server


@pytest.fixture(scope="module")
def pooler(program: pathlib.Path, server: PostgreSQL) -> Iterator[Pooler]:
    """Two units before that server, with an application `shop`."""
    with contextlib.closing(Pooler(PGBOUNCER=str(program), PGPASSWORD=PASSWORD)) as pooler:
        pooler.up("max_db_connections=40", "--backend", f"postgresql://{ADMIN}@{server.endpoint}")
        pooler("relate", "shop")
        yield pooler


@pytest.fixture
def shop(pooler: Pooler, server: PostgreSQL) -> Iterator[dict[str, str]]:
    """What the application `shop` was told; afterwards PostgreSQL runs and all processes serve."""
    told = pooler.credentials("shop")
    yield told
    try:
        server.sql("SELECT 1")
    except psycopg.OperationalError:
        server.start()
    for host in sockets(pooler):
        # Until a process tries PostgreSQL again, it answers by the error of its last try.
        assert until(lambda host=host: answer(told, host=host)[0] == "served", TOLD_SECONDS)


@contextlib.contextmanager
def stopped(server: PostgreSQL) -> Iterator[None]:
    """Kill PostgreSQL for a while; PgBouncer has noticed it when the block begins."""
    server.stop(signal.SIGQUIT)
    time.sleep(NOTICED_SECONDS)
    try:
        yield
    finally:
        server.start()


def sockets(pooler: Pooler) -> list[str]:
    """The directories with the sockets of all processes: by its socket a client chooses the process."""
    return sorted(str(pid.parent) for pid in pooler.home.glob("run/*/*/pgbouncer.pid"))


def answer(told: dict[str, str], **how: object) -> tuple[str, float]:
    """What a client gets for a query, an answer or an error, and after how many seconds."""
    begin = time.monotonic()
    host, _, port = told["endpoints"].split(",")[0].partition(":")
    login = {
        "host": host, "port": port, "dbname": told["database"],
        "user": told["username"], "password": told["password"], "connect_timeout": 12,
    }  # fmt: skip
    try:
        with psycopg.connect(**{**login, **how}) as connection:
            found = str(value(connection, "select 'served'"))
    except psycopg.OperationalError as error:
        found = str(error)
    return found, time.monotonic() - begin


def until(happens: Callable[[], bool], seconds: float) -> bool:
    """Return whether something happens within so many seconds."""
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_the_first_client_of_each_process_learns_it_at_once(
    pooler: Pooler, server: PostgreSQL, shop: dict[str, str]
) -> None:
    with stopped(server):
        told = {host: answer(shop, host=host) for host in sockets(pooler)}
    assert len(told) >= 2
    assert [host for host, (text, _) in told.items() if FAILING not in text] == []
    assert max(seconds for _, seconds in told.values()) < TOLD_SECONDS
    late = [
        host
        for host in told
        if not until(lambda host=host: answer(shop, host=host)[0] == "served", TOLD_SECONDS)
    ]
    assert late == [], "PostgreSQL is back, and no command has run"


def test_clients_of_a_new_process_learn_it_at_once(
    pooler: Pooler, server: PostgreSQL, shop: dict[str, str]
) -> None:
    with stopped(server):
        begin = time.monotonic()
        pooler.run("restart", "1")
        restarted = time.monotonic() - begin
        time.sleep(NOTICED_SECONDS)
        told = [answer(shop, host=host) for host in sockets(pooler)]
    assert all(FAILING in text and seconds < TOLD_SECONDS for text, seconds in told), told
    assert restarted < COMMAND_SECONDS
    assert until(lambda: answer(shop)[0] == "served", TOLD_SECONDS)


def test_clients_read_why_a_starting_server_refuses_logins(
    pooler: Pooler, server: PostgreSQL, shop: dict[str, str]
) -> None:
    with stopped(server), starting(server.port):
        time.sleep(NOTICED_SECONDS)
        told = [answer(shop, host=host) for host in sockets(pooler)]
        shown = pooler.run("config", "query_timeout=0").stdout
    assert all(seconds < TOLD_SECONDS for _, seconds in told), told
    assert all("the database system is starting up" in text or FAILING in text for text, _ in told)
    assert "accepts no connections yet: the database system is starting up" in " ".join(
        shown.split()
    )


def test_clients_read_that_no_connection_is_left(
    pooler: Pooler, server: PostgreSQL, shop: dict[str, str]
) -> None:
    with stopped(server):
        pass
    assert until(lambda: _look_ups(server) >= len(sockets(pooler)), TOLD_SECONDS)
    with contextlib.ExitStack() as held:
        with contextlib.suppress(psycopg.OperationalError):
            while True:
                held.enter_context(server.connect())
        text, seconds = answer(shop)
    assert "too many clients" in text or "connection slots are reserved" in text
    assert seconds < TOLD_SECONDS


def test_a_client_of_a_busy_pool_waits_as_long_as_the_option_says(
    pooler: Pooler, server: PostgreSQL, shop: dict[str, str]
) -> None:
    pooler("config", "max_db_connections=4", "query_wait_timeout=4")
    host = sockets(pooler)[0]
    with contextlib.ExitStack() as busy:
        held = 0
        while held < 4:
            text, seconds = _hold(busy, shop, host)
            if text:
                break
            held += 1
    pooler("config", "max_db_connections=40", "query_wait_timeout=120")
    assert held > 0
    assert "query_wait_timeout" in text
    assert seconds > 3.5


def test_what_was_asked_meanwhile_is_completed_by_the_next_up(
    pooler: Pooler, server: PostgreSQL, shop: dict[str, str]
) -> None:
    with stopped(server):
        commands(pooler, server, "relate cafe", "config pool_mode=transaction")
        modes = {_settings(pooler, unit)["pool_mode"] for unit in (0, 1)}
    assert modes == {"transaction"}, "an option is in force although PostgreSQL is down"
    pooler("up")
    assert answer(pooler.credentials("cafe"))[0] == "served"


def test_units_come_and_go_while_postgresql_is_down(
    pooler: Pooler, server: PostgreSQL, shop: dict[str, str]
) -> None:
    with stopped(server):
        commands(pooler, server, "scale 3", "scale 2", next_step="")
        assert len({pathlib.Path(host).parent for host in sockets(pooler)}) == 2
    assert until(lambda: answer(shop)[0] == "served", TOLD_SECONDS)


def test_a_user_that_leaves_meanwhile_is_dropped_by_the_next_up(
    pooler: Pooler, server: PostgreSQL, shop: dict[str, str]
) -> None:
    pooler("relate", "leaver")
    user = pooler.credentials("leaver")["username"]
    with stopped(server):
        pooler.run("unrelate", "leaver")
    pooler("up")
    assert server.sql("SELECT 1 FROM pg_roles WHERE rolname = %s", [user]) == []


def test_a_silent_server_makes_a_command_wait_a_single_time(
    pooler: Pooler, server: PostgreSQL, shop: dict[str, str]
) -> None:
    with server.frozen():
        begin = time.monotonic()
        done = pooler.run("config", "query_timeout=0")
        took = time.monotonic() - begin
    assert f"PostgreSQL at {server.endpoint} does not answer" in done.stdout
    # `status` also asks through each unit.
    assert took < COMMAND_SECONDS + 2 * TOLD_SECONDS
    pooler("up")


def commands(
    pooler: Pooler, server: PostgreSQL, *lines: str, next_step: str = ": start it there"
) -> None:
    """Run commands: each fails soon, names the server that is down, and gives the next step once."""
    for line in lines:
        begin = time.monotonic()
        done = pooler.run(*line.split())
        took, said = time.monotonic() - begin, done.stdout + done.stderr
        assert done.returncode == 1, said
        assert f"PostgreSQL at {server.endpoint} does not answer{next_step}" in said
        assert not next_step or said.count(next_step) == 1, said
        assert took < COMMAND_SECONDS, (line, took)


@contextlib.contextmanager
def starting(port: int) -> Iterator[None]:
    """Answer each login at a port as PostgreSQL does while it starts."""
    ends = threading.Event()
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=_refuse_all, args=(listener, ends), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()


def _refuse_all(listener: socket.socket, ends: threading.Event) -> None:
    fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
    error = b"E" + struct.pack("!i", 4 + len(fields)) + fields
    while not ends.is_set():
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            with client:
                client.settimeout(1)
                while asked := client.recv(1000):
                    # A request for encryption has eight bytes.
                    client.sendall(b"N" if len(asked) == 8 else error)
                    if len(asked) != 8:
                        break


def _hold(busy: contextlib.ExitStack, told: dict[str, str], host: str) -> tuple[str, float]:
    """Open a session of `shop` and keep it; return the error if that fails, and after how many seconds."""
    begin = time.monotonic()
    _, _, port = told["endpoints"].split(",")[0].partition(":")
    try:
        connection = busy.enter_context(
            psycopg.connect(
                host=host,
                port=port,
                dbname=told["database"],
                user=told["username"],
                password=told["password"],
            )
        )
        connection.execute("select 1")
    except psycopg.OperationalError as error:
        return str(error), time.monotonic() - begin
    return "", time.monotonic() - begin


def _look_ups(server: PostgreSQL) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename ~ '^pgbouncer_auth'"
    return int(server.sql(query)[0][0])


def _settings(pooler: Pooler, unit: int) -> dict[str, str]:
    """The settings with which the first process of a unit runs."""
    platform = Invocation(Store(pooler.home), {}).platform()
    auth, name = platform.model.auth, f"{platform.model.application}/{unit}"
    assert auth is not None
    with platform.consoles(name).open(0, pooler.port, auth) as console:
        return console.settings()
