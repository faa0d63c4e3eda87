"""The faults that alerts on logs are about: clients get each message from a real PgBouncer."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

import psycopg
from stack import Platform, open_clients, until


def _refused(connect: Callable[[], object], count: int = 1) -> None:
    """Connect this many times; each is refused."""
    for _ in range(count):
        try:
            connect()
        except psycopg.Error:
            continue
        raise AssertionError("a login was to be refused")


@contextlib.contextmanager
def _set(platform: Platform, name: str, value: int):
    before = platform.first.setting(name)
    platform.first.tell(f"SET {name}={value}")
    try:
        yield
    finally:
        platform.first.tell(f"SET {name}={before}")


def _wait_too_long(platform: Platform) -> None:
    size = int(platform.first.setting("max_db_connections"))
    with (
        _set(platform, "query_wait_timeout", 1),
        open_clients(platform.client, size + 1) as clients,
    ):
        for client in clients[:-1]:
            client.execute("SELECT 1")
        _refused(lambda: clients[-1].execute("SELECT 1"))


def _too_many(platform: Platform) -> None:
    with _set(platform, "max_client_conn", 4):
        _connect_until_refused(platform)


def _too_many_of_a_user(platform: Platform) -> None:
    with _set(platform, "max_user_client_connections", 2):
        _connect_until_refused(platform)


def _connect_until_refused(platform: Platform) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            try:
                stack.enter_context(platform.client())
            except psycopg.Error:
                return
        raise AssertionError("the fifth client was to be refused")


def _server_down(platform: Platform) -> None:
    platform.server.stop()
    try:
        until(lambda: _is_refused(platform), "a login is refused")
    finally:
        platform.server.start()
    until(lambda: not _is_refused(platform), "a login succeeds again")


def _is_refused(platform: Platform) -> bool:
    try:
        with platform.client(connect_timeout=2) as client:
            client.execute("SELECT 1")
    except psycopg.Error:
        return True
    return False


def _server_full(platform: Platform) -> None:
    """Take every connection that PostgreSQL has, except those of superusers."""
    user, secret = platform.login["username"], platform.login["password"]
    # An idle server connection would serve the client.
    platform.first.tell("RECONNECT")
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    client = platform.server.connect(platform.login["database"], user, secret)
                    stack.callback(client.close)
            time.sleep(0.5)
        with contextlib.suppress(psycopg.Error):
            stack.enter_context(platform.client(connect_timeout=2)).execute("SELECT 1")
    until(lambda: not _is_refused(platform), "a client is served again")


def _connections_lost(platform: Platform) -> None:
    for _ in range(6):
        with platform.client() as client:
            found = client.execute("SELECT pg_backend_pid()").fetchone()
            os.kill(found[0], signal.SIGTERM)
            with contextlib.suppress(psycopg.Error):
                client.execute("SELECT 1")


def _wrong_passwords(platform: Platform) -> None:
    _refused(lambda: platform.client(password="wrong"), 21)


def _unknown_parameter(platform: Platform) -> None:
    _refused(lambda: platform.client(options="-c shop.theme=dark"))


def _long_query(platform: Platform) -> None:
    with _set(platform, "query_timeout", 1), open_clients(platform.client, 1) as (client,):
        _refused(lambda: client.execute("SELECT pg_sleep(10)"))


def _idle_transaction(platform: Platform) -> None:
    with (
        _set(platform, "idle_transaction_timeout", 1),
        open_clients(platform.client, 1) as (client,),
    ):
        client.execute("BEGIN")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            time.sleep(1.5)
            try:
                client.execute("SELECT 1")
            except psycopg.Error:
                return
        raise AssertionError("an idle transaction was to be ended")


# The alert, what is done, and how.
MESSAGES: tuple[tuple[str, str, Callable[[Platform], None]], ...] = (
    ("PgBouncerClientTimedOut", "a client waits for query_wait_timeout", _wait_too_long),
    ("PgBouncerClientsRefused", "max_client_conn is reached", _too_many),
    ("PgBouncerClientsRefused", "a user has too many clients", _too_many_of_a_user),
    ("PgBouncerServerLoginFailing", "PostgreSQL is stopped, a client logs in", _server_down),
    ("PgBouncerPostgreSQLFull", "PostgreSQL has max_connections", _server_full),
    ("PgBouncerConnectionsLost", "six backends are ended", _connections_lost),
    ("PgBouncerLoginsRefused", "21 logins with a wrong password", _wrong_passwords),
    ("PgBouncerUnsupportedParameter", "a client sends another parameter", _unknown_parameter),
    ("PgBouncerTransactionsEnded", "a query takes longer than query_timeout", _long_query),
    ("PgBouncerTransactionsEnded", "a transaction is idle for too long", _idle_transaction),
)
