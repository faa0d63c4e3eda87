"""What drivers, frameworks and tools do between two transactions, and what is left of it in each mode."""

import asyncio
import contextlib
import json
import os
import subprocess
import threading
import time

import asyncpg
import psycopg
import pytest
from drivers import asyncpg_client
from platform_under_test import value
from postgresql import binaries

SESSIONS = (
    "keeper"  #: an application whose user is in session mode, the cure for much of what follows
)


@pytest.fixture(scope="module")
def mixed(pooler):
    """All users are in transaction mode, and a single one is in session mode."""
    pooler("relate", SESSIONS)
    user = pooler.credentials(SESSIONS)["username"]
    overrides = json.dumps({"users": {user: {"pool_mode": "session"}}})
    pooler("config", "pool_mode=transaction", "max_db_connections=12", f"overrides={overrides}")
    yield pooler
    pooler("config", "pool_mode=session", "max_db_connections=100", "overrides=")


def reconnect(pooler):
    """Every process leaves its server connections, as PgBouncer's RECONNECT does."""
    pooler("pause")
    pooler("resume")


def ledger(pooler, table, name="demo"):
    """A table, and the query for a number in it, as asyncpg writes it."""
    with pooler.client(name) as client:
        client.execute(f"create table {table} (n int primary key, amount int)".encode())
        client.execute(f"insert into {table} values (1, 123)".encode())
    return f"select amount from {table} where n = $1"


def migrate(pooler, table, name="demo"):
    """A migration widens the column."""
    with pooler.client(name) as client:
        client.execute(f"alter table {table} alter column amount type bigint".encode())


# ---- prepared statements, and a migration ---------------------------------------------------
async def told(client, ask):
    """What a query of asyncpg answers, or why it does not."""
    try:
        return await client.fetchval(ask, 1)
    except asyncpg.InvalidCachedStatementError:
        return "0A000"


async def asked_around_a_migration(pooler, table, name="demo", **options):
    """What asyncpg is told before a migration, after it, and after RECONNECT."""
    ask = await asyncio.to_thread(ledger, pooler, table, name)
    async with asyncpg_client(pooler, name, **options) as client:
        before = [await told(client, ask) for _ in range(3)]
        await asyncio.to_thread(migrate, pooler, table, name)
        after = [await told(client, ask) for _ in range(3)]
        await asyncio.to_thread(reconnect, pooler)
        return before, after, [await told(client, ask) for _ in range(3)]


def test_a_statement_whose_type_changed_is_refused_until_reconnect(mixed):
    """The driver is told 0A000 and learns the new type; it never decodes by the old type."""
    found = asyncio.run(asked_around_a_migration(mixed, "widened"))
    assert found == ([123] * 3, ["0A000"] * 3, [123] * 3)


def test_reconnect_before_the_error_leaves_asyncpg_with_the_old_type(mixed):
    """PgBouncer prepares the statement again with the new type, and tells the client nothing."""

    async def asked():
        ask = await asyncio.to_thread(ledger, mixed, "replaced")
        async with asyncpg_client(mixed, "demo") as client:
            assert [await told(client, ask) for _ in range(3)] == [123] * 3
            await asyncio.to_thread(migrate, mixed, "replaced")
            await asyncio.to_thread(reconnect, mixed)
            for _ in range(3):
                with pytest.raises(BufferError):
                    await told(client, ask)

    asyncio.run(asked())


def test_without_a_cache_of_statements_asyncpg_minds_no_migration(mixed):
    asked = asked_around_a_migration(mixed, "not_cached", statement_cache_size=0)
    assert asyncio.run(asked) == ([123] * 3, [123] * 3, [123] * 3)


def test_in_session_mode_asyncpg_meets_a_migration_as_without_a_pool(mixed):
    async def ask():
        ask = await asyncio.to_thread(ledger, mixed, "kept", SESSIONS)
        async with asyncpg_client(mixed, SESSIONS) as client:
            before = [await told(client, ask) for _ in range(3)]
            await asyncio.to_thread(migrate, mixed, "kept", SESSIONS)
            return before, [await told(client, ask) for _ in range(3)]

    assert asyncio.run(ask()) == ([123] * 3, [123] * 3)


def test_without_prepared_statements_psycopg_minds_no_migration(mixed):
    ledger(mixed, "not_prepared")
    with mixed.client("demo", prepare_threshold=None) as client:
        ask = "select amount from not_prepared where n = %s"
        assert [value(client, ask, [1], binary=True) for _ in range(8)] == [123] * 8
        migrate(mixed, "not_prepared")
        assert [value(client, ask, [1], binary=True) for _ in range(3)] == [123] * 3


def test_asyncpg_prepares_copies_and_pages_within_transactions(mixed):
    async def work(number):
        async with asyncpg_client(mixed, "demo") as client, client.transaction():
            await client.execute(f"create temp table rows_{number} (n int) on commit drop")
            rows = [(n,) for n in range(100)]
            await client.copy_records_to_table(f"rows_{number}", records=rows)
            ask = f"select n from rows_{number} where n >= $1 order by n"
            return [row["n"] async for row in client.cursor(ask, 0, prefetch=7)]

    async def all_of_it():
        return await asyncio.gather(*(work(number) for number in range(12)))

    assert asyncio.run(all_of_it()) == [list(range(100))] * 12


# ---- state between two transactions ---------------------------------------------------------
def isolation_of_jdbc(client):
    """`Connection.setTransactionIsolation` of pgjdbc."""
    client.execute("set session characteristics as transaction isolation level serializable")
    return value(client, "show transaction_isolation") == "serializable"


def cursor_of_django(client):
    """`QuerySet.iterator` of Django outside of a transaction."""
    client.execute("declare many no scroll cursor with hold for select generate_series(1, 9)")
    try:
        return len(client.execute("fetch 3 from many").fetchall()) == 3
    except psycopg.errors.InvalidCursorName:
        return False


def lock_of_migrations(client):
    """The advisory lock by which Rails, Flyway and others let a single migration run."""
    client.execute("select pg_advisory_lock(7)")
    return value(client, "select pg_advisory_unlock(7)")


def a_listener(client):
    """LISTEN, and a notification of another transaction."""
    client.execute("listen news")
    client.execute("notify news, 'told'")
    return [one.payload for one in client.notifies(timeout=1, stop_after=1)] == ["told"]


STATE = [isolation_of_jdbc, cursor_of_django, lock_of_migrations, a_listener]


@pytest.mark.parametrize("keeps", STATE)
def test_state_is_kept_by_a_user_in_session_mode(mixed, keeps):
    """The cure that docs/compatibility.md names: the pool of the other users stays as it is."""
    with mixed.client(SESSIONS) as client:
        assert keeps(client)


def test_locks_and_settings_of_a_transaction_need_no_session(mixed):
    with mixed.client("demo") as client, client.transaction():
        client.execute("set local statement_timeout = '54321ms'")
        client.execute("set transaction isolation level serializable")
        assert value(client, "select pg_try_advisory_xact_lock(8)")
        assert value(client, "show statement_timeout") == "54321ms"
        assert value(client, "show transaction_isolation") == "serializable"


# ---- pg_dump ---------------------------------------------------------------------------------
def dump(pooler, name, table):
    """pg_dump of a table, by the user of an application."""
    told = pooler.credentials(name)
    host, _, port = told["endpoints"].split(",")[0].rpartition(":")
    words = ["-h", host, "-p", port, "-U", told["username"], "-d", told["database"], "-t", table]
    return subprocess.run(
        [str(binaries() / "pg_dump"), *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PGPASSWORD": told["password"]},
    )


def test_pg_dump_of_a_user_in_session_mode_leaves_no_row_out_unseen(mixed):
    """In transaction mode its `SET row_security = off` can be lost, and rows are left out unseen."""
    with mixed.client(SESSIONS) as client:
        client.execute("create table letter (n int, owner text)")
        client.execute("insert into letter values (1, 'mine'), (2, 'theirs')")
        client.execute("create policy own on letter using (owner = 'mine')")
        client.execute("alter table letter enable row level security")
        client.execute("alter table letter force row level security")
    done = dump(mixed, SESSIONS, "letter")
    assert done.returncode != 0
    assert "row-level security" in done.stderr
    with mixed.client(SESSIONS) as client:
        client.execute("alter table letter no force row level security")
    done = dump(mixed, SESSIONS, "letter")
    assert done.returncode == 0, done.stderr
    assert "theirs" in done.stdout


# ---- waiting ---------------------------------------------------------------------------------
def test_a_cancel_does_not_reach_a_client_that_waits_but_the_limit_does(mixed):
    """PgBouncer drops the cancel (https://github.com/pgbouncer/pgbouncer/issues/1314)."""
    mixed("config", "max_db_connections=4", "query_wait_timeout=2")
    try:
        with contextlib.ExitStack() as holders:
            for _ in range(5):
                with contextlib.suppress(psycopg.Error):  # all connections may be taken already
                    holder = holders.enter_context(mixed.client("demo"))
                    holder.execute("begin")
                    holder.execute("select 1")
            client = holders.enter_context(mixed.client("demo"))
            begin = time.monotonic()
            threading.Timer(0.5, client.cancel_safe).start()
            with pytest.raises(psycopg.Error, match="query_wait_timeout"):
                client.execute("select 1")
            assert time.monotonic() - begin < 10
    finally:
        mixed("config", "max_db_connections=12", "query_wait_timeout=120")
