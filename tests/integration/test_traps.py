"""What goes wrong around PgBouncer elsewhere does not go wrong here: shown by doing it.

With each PgBouncer that can be had: the newest, and the one of Debian's release.
"""

import re
import socket
import struct
import threading
import time

import psycopg
import pytest
from platform_under_test import Pooler, value
from postgresql import PostgreSQL

MODES = ["session", "transaction", "statement"]


def one_connection(pooler, mode):
    """Each unit has one process, and one connection to each database."""
    pooler("config", f"pool_mode={mode}", "max_db_connections=2", "max_prepared_statements=100")


def many_processes(pooler):
    pooler("config", "pool_mode=session", "max_db_connections=40")


@pytest.mark.parametrize("mode", MODES)
def test_prepared_statements_work_while_connections_change_hands(pooler, mode):
    one_connection(pooler, mode)
    with pooler.client("demo", prepare_threshold=0) as first:
        rounds = range(20)
        if mode == "session":
            with pooler.client("demo", unit=1, prepare_threshold=0) as second:
                found = [(ask(first, n), ask(second, n)) for n in rounds]
        else:
            with pooler.client("demo", prepare_threshold=0) as second:
                found = [(ask(first, n), ask(second, n)) for n in rounds]
    assert found == [((n, f"text {n}"), (n, f"text {n}")) for n in rounds]


def ask(connection, number):
    """Two statements that a driver prepares under the same names in every client."""
    return (
        value(connection, "select %s::int", [number]),
        value(connection, "select 'text ' || %s::int", [number]),
    )


def test_prepared_statements_outlive_a_reset_in_session_mode(pooler):
    one_connection(pooler, "session")
    for _ in range(3):
        with pooler.client("demo", prepare_threshold=0) as connection:
            assert [ask(connection, n) for n in (1, 2)] == [(1, "text 1"), (2, "text 2")]


def test_without_tracking_statements_are_the_servers_own_in_session_mode(pooler):
    pooler("config", "pool_mode=session", "max_db_connections=2", "max_prepared_statements=0")
    for _ in range(3):
        with pooler.client("demo", prepare_threshold=0) as connection:
            assert [ask(connection, n) for n in (1, 2)] == [(1, "text 1"), (2, "text 2")]


def test_every_host_and_peer_is_a_real_one(pooler):
    many_processes(pooler)
    files = list(pooler.home.glob("units/*/*/pgbouncer.ini"))
    assert files
    for file in files:
        hosts = re.findall(r"host=(\S*)", file.read_text())
        assert hosts
        assert not {"", "0", "'0'", "''", "None", "'None'"} & set(hosts)


@pytest.mark.parametrize(
    "setting", ["max_db_connections=60", "max_prepared_statements=7", "pool_mode=transaction"]
)
def test_an_option_drops_neither_a_session_nor_a_transaction(pooler, setting):
    many_processes(pooler)
    with pooler.client("demo") as idle, pooler.client("demo") as busy:
        idle.execute("select 1")
        busy.execute("begin")
        server = value(busy, "select pg_backend_pid()")
        busy.execute("create temp table kept on commit drop as select 1 as one")
        pooler("config", setting)
        assert value(busy, "select one from kept") == 1
        assert value(busy, "select pg_backend_pid()") == server
        busy.execute("commit")
        assert value(idle, "select 42") == 42


def test_a_cancel_finds_its_query_in_whichever_process_it_is(pooler):
    many_processes(pooler)
    for _ in range(12):
        with pooler.client("demo") as connection:
            later = threading.Timer(0.1, connection.cancel_safe)
            later.start()
            begin = time.monotonic()
            with pytest.raises(psycopg.errors.QueryCanceled):
                connection.execute("select pg_sleep(20)")
            later.join()
            assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    "options", ["-c TimeZone=UTC", "-c extra_float_digits=3", "-c client_encoding=UTF8"]
)
def test_a_client_with_options_of_its_own_is_let_in(pooler, options):
    with pooler.client("demo", options=options) as connection:
        assert value(connection, "select 42") == 42


def test_a_driver_that_always_sends_a_parameter_is_let_in(pooler):
    """As pgjdbc does, and libpq cannot: PgBouncer refuses unknown ones before it asks who is there."""
    told = pooler.credentials("demo")
    host, _, port = told["endpoints"].split(",")[0].partition(":")
    words = ("user", told["username"], "database", "demo", "extra_float_digits", "3")
    body = struct.pack("!i", 3 << 16) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(struct.pack("!i", len(body) + 4) + body)
        said = client.recv(1024)
    assert said.startswith(b"R"), said


# ---- a server with replicas ------------------------------------------------------------------
@pytest.fixture(scope="module")
def replicated():
    with PostgreSQL() as primary, PostgreSQL(standby_of=primary) as standby:
        own = primary.credentials()
        pooler = Pooler(PGPASSWORD=own.password.get_secret_value())
        port = own.endpoints[0].port
        pooler.up(
            "--backend", f"postgresql://{own.user}@127.0.0.1:{port},localhost:{port}",
            "--read-only-endpoints", str(standby.credentials().endpoints[0]),
        )  # fmt: skip
        yield pooler
        pooler.close()


def test_the_read_only_name_leads_to_a_replica(replicated):
    replicated("relate", "shop")
    with replicated.client("shop") as writer:
        writer.execute("create table if not exists seen as select 7 as number")
        assert value(writer, "select pg_is_in_recovery()") is False
    with replicated.client("shop", dbname="shop_readonly") as reader:
        assert value(reader, "select pg_is_in_recovery()") is True
        end = time.monotonic() + 10
        while value(reader, "select to_regclass('seen')") is None and time.monotonic() < end:
            time.sleep(0.1)
        assert value(reader, "select number from seen") == 7
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("insert into seen values (8)")


def test_a_client_is_told_of_the_replica(replicated):
    assert replicated.credentials("demo")["read-only-uri"].endswith("/demo_readonly")


def test_several_endpoints_are_one_pool(replicated):
    text = next(replicated.home.glob("units/0/0/pgbouncer.ini")).read_text()
    assert "host='127.0.0.1,localhost'" in text
    for unit in (0, 1):
        with replicated.client("demo", unit) as connection:
            assert value(connection, "select 42") == 42
