"""The reset of a server connection, seen by the client that gets it next: by mode, option and version."""

import contextlib

import psycopg
import pytest
from platform_under_test import value

from domain.capabilities import ALWAYS_RESET
from domain.reset import SEARCH_PATH_TRACKED
from pooler.binaries import version_of

STATE = """
    SELECT pg_backend_pid(), current_setting('work_mem'), to_regclass('pg_temp.mine')::text,
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
           (SELECT count(*) FROM pg_listening_channels()), current_user
"""
STATEMENTS = "select count(*) from pg_prepared_statements where from_sql"


@pytest.fixture(autouse=True)
def defaults(pooler):
    """Each unit has one process, and one connection to each database."""
    pooler("config", "max_db_connections=2", "max_prepared_statements=100")
    yield
    pooler("config", "pool_mode=session", "server_reset_query_always=false")
    # Connections of session mode have lost the statements that PgBouncer still counts on.
    pooler("pause")
    pooler("resume")


def resets_always(pooler, program):
    """Return whether this PgBouncer resets after each transaction, now that it was told to."""
    done = pooler.run("config", "server_reset_query_always=true")
    known = version_of(program) >= ALWAYS_RESET
    assert (done.returncode == 0) is known
    assert ("needs PgBouncer 1.26 or later" in done.stdout) is not known
    return known


def leaves_state(client):
    """The client has changed all that STATE shows; returns what it showed before."""
    before = client.execute(STATE).fetchone()
    for statement in (
        "set work_mem = '7MB'",
        "create temp table mine (secret text)",
        "select pg_advisory_lock(1)",
        "listen gossip",
        "prepare mine as select 1",
    ):
        client.execute(statement)
    return before


def test_a_session_that_ends_leaves_nothing_on_its_connection(pooler):
    pooler("config", "pool_mode=session")
    with pooler.client("demo") as first:
        before = leaves_state(first)
    with pooler.client("demo") as second:
        assert second.execute(STATE).fetchone() == before
        assert value(second, STATEMENTS) == 0


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_with_the_option_a_transaction_leaves_only_statements(pooler, program, mode):
    pooler("config", f"pool_mode={mode}")
    always = resets_always(pooler, program)
    with pooler.client("demo") as first, pooler.client("demo") as second:
        before = leaves_state(first)
        assert (second.execute(STATE).fetchone() == before) is always
        assert value(second, STATEMENTS) == 1
        second.execute("discard all")


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_failed_copy_is_told_and_the_pool_goes_on(pooler, program, mode):
    pooler("config", f"pool_mode={mode}")
    resets_always(pooler, program)
    with pooler.client("demo") as client, pooler.client("demo") as other:
        client.execute("create table if not exists numbers (number int)")
        for _ in range(20):
            with (
                pytest.raises(psycopg.errors.InvalidTextRepresentation),
                client.cursor().copy("copy numbers from stdin") as rows,
            ):
                rows.write("1\nnone\n" * 100)
            assert value(other, "select 42") == 42


def test_a_lock_outlives_no_transaction_with_the_option(pooler, program):
    """A session-level lock that a client leaves behind would block all other clients."""
    pooler("config", "pool_mode=transaction")
    if not resets_always(pooler, program):
        return
    with pooler.client("demo") as first, pooler.client("demo", unit=1) as other_unit:
        first.execute("select pg_advisory_lock(42)")
        with other_unit.transaction():
            # The reset follows the answer to the first client, so it may take a moment.
            other_unit.execute("set local lock_timeout = '5s'")
            other_unit.execute("select pg_advisory_lock(42)")
            mine = "select pid = pg_backend_pid() from pg_locks where objid = 42 and granted"
            assert other_unit.execute(mine).fetchall() == [(True,)]


def paths_of_logins(pooler, schemas):
    """Return what clients find that send these values of search_path at login; None if they are refused."""
    found = []
    for schema in schemas:
        try:
            with pooler.client("demo", options=f"-c search_path={schema}") as client:
                found += [value(client, "show search_path") for _ in "ab"]
        except psycopg.OperationalError as error:
            if "unsupported startup parameter in options: search_path" not in str(error):
                raise
            found.append(None)
    return found


TENANTS = ["tenant_a", "tenant_b"] * 12


def test_with_the_option_a_search_path_of_a_login_is_the_clients_own(pooler, program):
    pooler("config", "pool_mode=transaction")
    kept = resets_always(pooler, program)
    own = [schema for schema in TENANTS for _ in "ab"]
    assert paths_of_logins(pooler, TENANTS) == (own if kept else [None] * len(TENANTS))
    if not kept:
        return
    # A path that a client sets later ends the server connection, and reaches no other client.
    with pooler.client("demo") as first, pooler.client("demo") as second:
        before = value(second, "show search_path")
        for _ in range(4):
            first.execute("set search_path = tenant_c")
            assert value(second, "show search_path") == before


def test_by_default_pgbouncer_mixes_up_search_paths_before_postgresql_18(pooler, program):
    """A fault of PgBouncer 1.26.1. Where this test fails, PgBouncer is right: adapt docs/compatibility.md."""
    pooler("config", "pool_mode=transaction")
    with pooler.client("demo") as client:
        reported = client.info.server_version >= 180000
    found = paths_of_logins(pooler, TENANTS)
    if version_of(program) < SEARCH_PATH_TRACKED:
        assert found == [None] * len(TENANTS)
    else:
        assert (found == [schema for schema in TENANTS for _ in "ab"]) is reported


@pytest.mark.parametrize("always", [False, True])
def test_prepared_statements_outlive_the_reset(pooler, program, always):
    pooler("config", "pool_mode=transaction")
    if always:
        resets_always(pooler, program)
    with contextlib.ExitStack() as clients:
        found = [clients.enter_context(pooler.client("demo", prepare_threshold=0)) for _ in "ab"]
        for number in range(20):
            for client in found:
                assert value(client, "select %s::int", [number]) == number
