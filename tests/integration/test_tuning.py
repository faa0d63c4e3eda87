"""Options and overrides do to real clients what the how-to says.

With each PgBouncer that can be had: the newest, and the one of Debian's release.
"""

import contextlib
import json
import time

import psycopg
import pytest
from platform_under_test import value

USER = "relation_id_1"  # of the application `demo`


@pytest.fixture(autouse=True)
def defaults(pooler):
    yield
    names = (
        "query_timeout",
        "idle_transaction_timeout",
        "client_idle_timeout",
        "default_pool_size",
    )
    pooler(
        "config", "overrides=", "pool_mode=session", "max_db_connections=40",
        "query_wait_timeout=120", "server_lifetime=3600", *(f"{name}=0" for name in names),
    )  # fmt: skip


def override(pooler, **sections):
    pooler("config", f"overrides={json.dumps(sections)}")


# The mode of pools, what is different, and whether the demo has sessions of its own then.
MODES = [
    ("session", {"databases": {"demo": {"pool_mode": "transaction"}}}, False),
    ("session", {"users": {USER: {"pool_mode": "statement"}}}, False),
    ("transaction", {"users": {USER: {"pool_mode": "session"}}}, True),
    ("transaction", {"databases": {"demo": {"pool_mode": "session"}}}, True),
    (
        "statement",
        {
            "databases": {"demo": {"pool_mode": "transaction"}},
            "users": {USER: {"pool_mode": "session"}},
        },
        True,
    ),
]


@pytest.mark.parametrize(("mode", "sections", "sessions"), MODES)
def test_a_pool_in_session_mode_is_reset_whatever_the_others_are(pooler, mode, sections, sessions):
    pooler("config", f"pool_mode={mode}", "max_db_connections=2")
    override(pooler, **sections)
    # Connections of a mode before may have lost statements that PgBouncer counts on.
    pooler("pause")
    pooler("resume")
    assert in_session(pooler) is sessions
    for _ in range(3 if sessions else 0):
        with pooler.client("demo") as first:
            assert value(first, "show work_mem") == "4MB"
            assert value(first, "select count(*) from pg_locks where locktype = 'advisory'") == 0
            assert value(first, "select to_regclass('pg_temp.mine')::text") is None
            first.execute("set work_mem = '7MB'")
            first.execute("create temp table mine (secret text)")
            first.execute("select pg_advisory_lock(1)")
    with pooler.client("demo", prepare_threshold=0) as client:
        for number in range(10):
            assert client.execute("select %s::int", (number,)).fetchone() == (number,)


def in_session(pooler):
    """Whether the pool of the demo is in session mode."""
    with pooler.client("demo") as client:
        client.execute("select 1")
        rows = json.loads(pooler("top", "--once", "--all", "--json"))["rows"]
    (mode,) = {
        row["pool_mode"] for row in rows if (row["user"], row["database"]) == (USER, "demo")
    }
    return mode == "session"


def test_an_override_that_is_taken_back_is_forgotten(pooler):
    """PgBouncer keeps what it once read of a user until it reads something else of it."""
    pooler("config", "pool_mode=transaction")
    override(pooler, users={USER: {"pool_mode": "session"}})
    assert in_session(pooler)
    pooler("config", "overrides=")
    assert not in_session(pooler)


def test_whoever_waits_too_long_is_told(pooler):
    pooler("config", "max_db_connections=2", "query_wait_timeout=1")
    with pooler.client("demo") as first:
        first.execute("select 1")
        begin = time.monotonic()
        with (
            pytest.raises(psycopg.OperationalError, match="query_wait_timeout"),
            pooler.client("demo") as second,
        ):
            second.execute("select 1")
        assert time.monotonic() - begin < 5


def test_a_query_that_takes_too_long_is_cut_off(pooler):
    pooler("config", "query_timeout=1")
    with (
        pytest.raises(psycopg.OperationalError, match="query timeout"),
        pooler.client("demo") as client,
    ):
        client.execute("select pg_sleep(5)")


def test_a_transaction_that_idles_too_long_is_cut_off(pooler):
    pooler("config", "idle_transaction_timeout=1")
    with pooler.client("demo") as client:
        client.execute("begin")
        time.sleep(2.5)
        with pytest.raises(psycopg.OperationalError, match="idle transaction timeout"):
            client.execute("select 1")


def test_a_connection_without_a_lifetime_serves_once(pooler):
    pooler("config", "pool_mode=transaction", "server_lifetime=0")
    with pooler.client("demo") as client:
        pids = [value(client, "select pg_backend_pid()") for _ in range(3)]
    assert len(set(pids)) == 3


def test_a_user_has_no_more_connections_than_its_own(pooler):
    pooler("config", "query_wait_timeout=1")
    override(pooler, users={USER: {"max_connections": 1}})
    processes = len(list(pooler.home.glob("units/0/*/pgbouncer.ini")))
    held = 0
    with (  # noqa: PT012 — nobody knows which of them is one too many
        pytest.raises(psycopg.OperationalError, match="query_wait_timeout"),
        contextlib.ExitStack() as clients,
    ):
        for _ in range(20 * processes):
            value(clients.enter_context(pooler.client("demo")), "select 1")
            held += 1
    assert 1 <= held <= processes
