"""Connections to a real PostgreSQL, and the errors for a server that refuses or does not answer."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

import pydantic
import pytest
from ports import free_port
from postgresql import ADMIN, PostgreSQL

from adapters.postgres.databases import PsycopgDatabases
from app.errors import DatabaseRefused, DatabaseUnreachable
from domain.backend import BackendLogin
from domain.endpoints import Endpoint
from logins import OWN, OWNER, login


def test_importing_the_adapter_imports_no_driver() -> None:
    code = "import adapters.postgres, sys; print([m for m in sys.modules if 'psycopg' in m])"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout == "[]\n"


def test_an_endpoint_without_a_server_is_unreachable(databases: PsycopgDatabases) -> None:
    backend = BackendLogin(
        user="x",
        password=pydantic.SecretStr("secret"),
        database="y",
        endpoints=(Endpoint(host="127.0.0.1", port=free_port()), Endpoint(host="::1", port=1)),
    )
    with pytest.raises(DatabaseUnreachable, match=r"127\.0\.0\.1:\d+, \[::1\]:1 does not answer"):
        databases.open(backend).__enter__()
    assert not databases.answers(backend)
    with pytest.raises(DatabaseUnreachable):
        databases.admits(backend, login(1), "shop")


def test_a_silent_server_takes_its_timeout_only_once() -> None:
    with PostgreSQL() as server, server.frozen():
        backend, databases = server.credentials(), PsycopgDatabases(OWNER)
        start = time.monotonic()
        assert not databases.answers(backend)
        assert time.monotonic() - start < 2
        start = time.monotonic()
        for _ in range(5):
            with pytest.raises(DatabaseUnreachable):
                databases.open(backend).__enter__()
            assert not databases.answers(backend)
        assert time.monotonic() - start < 0.1


def test_a_server_answers_without_a_login(server: PostgreSQL, databases: PsycopgDatabases) -> None:
    dead = Endpoint(host="127.0.0.1", port=free_port())
    backend = server.credentials(password="wrong")
    backend = backend.model_copy(update={"endpoints": (dead, server.endpoint)})
    assert databases.answers(backend)


def test_a_server_of_another_protocol_does_not_answer(databases: PsycopgDatabases) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=greet, daemon=True).start()
        backend = BackendLogin(
            user="x",
            password=pydantic.SecretStr("secret"),
            database="y",
            endpoints=(Endpoint(host="127.0.0.1", port=listener.getsockname()[1]),),
        )
        assert not databases.answers(backend)


def test_an_ipv6_endpoint_works(databases: PsycopgDatabases) -> None:
    with PostgreSQL(settings={"listen_addresses": "127.0.0.1,::1"}) as server:
        server.admit(f"host all {ADMIN} ::1/128 scram-sha-256")
        endpoints = (Endpoint(host="::1", port=server.port),)
        backend = server.credentials().model_copy(update={"endpoints": endpoints})
        assert databases.answers(backend)
        for _ in range(20):
            try:
                with databases.open(backend) as database:
                    assert database.users() == frozenset()
                return
            except DatabaseRefused:  # until it has read its file again
                time.sleep(0.05)
        raise AssertionError("IPv6 is refused")


def test_a_refusal_is_a_sentence_without_the_password(
    server: PostgreSQL, databases: PsycopgDatabases
) -> None:
    backend = server.credentials(OWN, password="TheWrongPassword")
    with pytest.raises(DatabaseRefused, match="refuses user operator: password") as caught:
        databases.open(backend).__enter__()
    text = "".join(traceback.format_exception(caught.value))
    assert "TheWrongPassword" not in text
    assert "\n" not in str(caught.value)
    with pytest.raises(DatabaseRefused, match='database "nowhere" does not exist'):
        databases.open(server.credentials("nowhere")).__enter__()


def test_a_standby_takes_no_changes_and_the_primary_is_found(
    server: PostgreSQL, databases: PsycopgDatabases
) -> None:
    with PostgreSQL(standby_of=server) as standby:
        alone = standby.credentials("postgres")
        with pytest.raises(DatabaseRefused, match="PostgreSQL takes no changes now"):
            databases.open(alone).__enter__()
        both = (standby.endpoint, server.endpoint)
        with databases.open(alone.model_copy(update={"endpoints": both})) as database:
            assert database.users() == frozenset()
        two_replicas = alone.model_copy(update={"endpoints": (standby.endpoint, standby.endpoint)})
        with pytest.raises(DatabaseRefused, match="read-only"):
            databases.open(two_replicas).__enter__()


def test_a_server_that_was_made_read_only_takes_no_changes(
    server: PostgreSQL, databases: PsycopgDatabases
) -> None:
    server.sql(f"ALTER DATABASE {OWN} SET default_transaction_read_only = on")
    with pytest.raises(DatabaseRefused, match="read-only"):
        databases.open(server.credentials(OWN)).__enter__()


def test_a_lost_connection_is_unreachable(server: PostgreSQL, databases: PsycopgDatabases) -> None:
    def loses_its_connection() -> None:
        with databases.open(server.credentials(OWN)) as database:
            server.sql(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
                " WHERE application_name = 'pgbouncer-k8s'"
            )
            database.users()

    with pytest.raises(DatabaseUnreachable, match="broke off"):
        loses_its_connection()


def test_a_server_that_falls_silent_is_unreachable(server: PostgreSQL) -> None:
    def hears_nothing_more() -> None:
        with PsycopgDatabases(OWNER, statement_seconds=1).open(
            server.credentials(OWN)
        ) as database:
            [(pid,)] = server.sql(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbouncer-k8s'"
            )
            os.kill(pid, signal.SIGSTOP)
            try:
                database.users()
            finally:
                os.kill(pid, signal.SIGCONT)

    with pytest.raises(DatabaseUnreachable, match="broke off"):
        hears_nothing_more()


def test_a_server_without_a_connection_left_is_named_with_its_limit() -> None:
    few = {"max_connections": "5", "superuser_reserved_connections": "1", "max_wal_senders": "0"}
    with PostgreSQL(settings=few) as small, contextlib.ExitStack() as held:
        for _ in range(5):
            held.enter_context(contextlib.closing(small.connect()))
        with (
            pytest.raises(DatabaseUnreachable, match=r"no connection left .* max_db_connections"),
            PsycopgDatabases(OWNER).open(small.credentials("postgres")),
        ):
            pass
