"""Provoke the errors that a connected client can get: by waiting, by its statements, by an operator's commands."""

from __future__ import annotations

from erring import DATABASE, ELSEWHERE, USER, Erring, Said
from provoking import error_of, provokes

from attacks.packets import cancel, message, query
from logins import CLIENT_PASSWORD

SYNC = message(b"S", b"")
EXECUTE = message(b"E", b"\0\0\0\0\0")


def parse(name: str, statement: str = "SELECT 1") -> bytes:
    return message(b"P", f"{name}\0{statement}\0\0\0".encode())


def bind(name: str) -> bytes:
    return message(b"B", f"\0{name}\0\0\0\0\0\0\0".encode())


def waited(unit: Erring) -> Said:
    """Return what a client reads that waits for the only server connection."""
    with unit.client() as busy, unit.client() as waiting:
        busy.ask("BEGIN")
        waiting.send(query("SELECT 1"))
        return waiting.hear()


def answered(unit: Erring, statement: str, **options: object) -> Said:
    """Return the error that a statement ends with."""
    unit.set(**options)
    with unit.client() as client:
        return error_of(client, statement)


def sent(unit: Erring, *packets: bytes, **options: object) -> Said:
    """Return what a client reads after it has sent packets."""
    unit.set(**({"pool_mode": "transaction"} | options))
    with unit.client() as client:
        client.send(*packets)
        return client.hear()


@provokes("query_wait_timeout")
def a_client_that_finds_no_server_connection(unit: Erring) -> Said:
    unit.set(max_db_connections=1, pool_mode="transaction", query_wait_timeout=1)
    return waited(unit)


@provokes("query_wait_timeout")
def a_client_of_a_database_that_is_paused(unit: Erring) -> Said:
    unit.set(query_wait_timeout=1)
    with unit.client() as client, unit.console("PAUSE shop", "RESUME shop"):
        return error_of(client, "SELECT 1")


@provokes("No server connection available in postgres backend, client being queued")
def a_client_that_waits_for_a_while(unit: Erring) -> Said:
    # PgBouncer's own value is 5 s.
    lines = [("query_wait_notify", "1")] if unit.version >= (1, 25) else []
    unit.set(*lines, max_db_connections=1, pool_mode="transaction", query_wait_timeout=4)
    return waited(unit)


@provokes("query timeout")
def a_query_that_takes_too_long(unit: Erring) -> Said:
    unit.set(query_timeout=1)
    with unit.client() as client:
        client.ask("BEGIN")
        return error_of(client, "SELECT pg_sleep(20)")


@provokes("query_timeout")
def a_query_that_waits_too_long(unit: Erring) -> Said:
    unit.set(max_db_connections=1, pool_mode="transaction", query_timeout=1)
    return waited(unit)


@provokes("idle transaction timeout")
def a_transaction_that_is_idle(unit: Erring) -> Said:
    unit.set(idle_transaction_timeout=1)
    with unit.client() as client:
        client.ask("BEGIN")
        return client.hear()


@provokes("client_idle_timeout")
def a_client_that_is_idle(unit: Erring) -> Said:
    unit.set(client_idle_timeout=1)
    with unit.client() as client:
        return client.hear()


@provokes("transaction blocks not allowed in statement pooling mode")
def a_transaction_in_statement_mode(unit: Erring) -> Said:
    return answered(unit, "BEGIN", pool_mode="statement")


@provokes("prepared statement did not exist")
def a_statement_that_was_not_prepared(unit: Erring) -> Said:
    return sent(unit, bind("unknown"), SYNC)


@provokes("prepared statement name is already in use")
def a_statement_that_is_prepared_twice(unit: Erring) -> Said:
    return sent(unit, parse("a"), SYNC, parse("a"), SYNC)


@provokes('prepared statement "…" does not exist')
def a_statement_that_pgbouncer_does_not_track(unit: Erring) -> Said:
    return sent(unit, bind("unknown"), SYNC, max_prepared_statements=0)


@provokes('prepared statement "…" does not exist')
def a_pool_that_was_in_session_mode_for_a_while(unit: Erring) -> Said:
    unit.set(pool_mode="transaction", max_db_connections=1)
    with unit.client() as client:
        client.send(parse("a"), SYNC)
        client.synced()
        unit.set(pool_mode="session", max_db_connections=1)
        with unit.client() as other:
            other.ask("DEALLOCATE ALL")
        unit.set(pool_mode="transaction", max_db_connections=1)
        client.send(bind("a"), EXECUTE, SYNC)
        return client.hear()


@provokes('prepared statement "…" already exists')
def a_name_of_a_statement_that_the_session_has(unit: Erring) -> Said:
    return sent(unit, parse("a"), SYNC, parse("a"), SYNC, pool_mode="session")


@provokes("cached plan must not change result type")
def a_column_whose_type_has_changed(unit: Erring) -> Said:
    unit.set(pool_mode="transaction", max_db_connections=1)
    with unit.client() as client:
        client.ask("CREATE TABLE IF NOT EXISTS typed AS SELECT 1 AS x")
        client.send(parse("a", "SELECT * FROM typed"), bind("a"), EXECUTE, SYNC)
        client.synced()
        client.ask("ALTER TABLE typed ALTER x TYPE text")
        client.send(bind("a"), EXECUTE, SYNC)
        said = client.hear()
        client.synced()
        client.ask("DROP TABLE typed")
        return said


@provokes('relation "…" does not exist')
def a_temporary_table_of_another_connection(unit: Erring) -> Said:
    return on_another_connection(unit, "CREATE TEMP TABLE mine ()", "SELECT FROM mine")


@provokes('cursor "…" does not exist')
def a_cursor_of_another_connection(unit: Erring) -> Said:
    return on_another_connection(unit, "DECLARE mine CURSOR WITH HOLD FOR SELECT 1", "FETCH mine")


def on_another_connection(unit: Erring, before: str, statement: str) -> Said:
    """Return the error of a statement whose server connection is not that of the statement before."""
    unit.set(pool_mode="transaction", max_db_connections=2)
    with unit.client() as client, unit.client() as other:
        client.ask(before)
        other.ask("BEGIN")
        other.ask("SELECT 1")
        return error_of(client, statement)


@provokes("canceling statement due to user request")
def a_query_that_its_client_cancels(unit: Erring) -> Said:
    with unit.connect() as client, unit.connect() as other:
        key = client.log_in(CLIENT_PASSWORD, user=USER, database=DATABASE)
        client.send(query("SELECT pg_sleep(20)"))
        unit.until_the_server_runs("pg_sleep")
        other.send(cancel(key))
        return client.hear()


@provokes("cannot execute … in a read-only transaction")
def a_change_in_a_read_only_transaction(unit: Erring) -> Said:
    with unit.client() as client:
        client.ask("BEGIN READ ONLY")
        return error_of(client, "CREATE TABLE t ()")


@provokes("permission denied for schema …")
def a_schema_of_pgbouncer(unit: Erring) -> Said:
    unit.server.sql("CREATE SCHEMA IF NOT EXISTS hidden", database=DATABASE)
    with unit.client() as client:
        return error_of(client, "CREATE TABLE hidden.t ()")


@provokes("bad packet header: '…'")
def a_query_larger_than_max_packet_size(unit: Erring) -> Said:
    # PgBouncer reads the length and ends the session: the rest of the query might find it closed.
    return sent(unit, query(f"SELECT '{'x' * 2**21}'")[:100], max_packet_size=2**20)


@provokes("bad pkt header")
def a_row_larger_than_max_packet_size(unit: Erring) -> Said:
    return answered(unit, "SELECT repeat('x', 2 * 1048576)", max_packet_size=2**20)


@provokes("database removed")
def a_database_whose_pool_is_removed(unit: Erring) -> Said:
    unit.set()
    with unit.client() as client:
        client.ask("SELECT 1")
        unit.set(databases=(ELSEWHERE,))
        return client.hear()


@provokes("database removed")
def a_database_whose_connections_are_killed(unit: Erring) -> Said:
    with unit.client() as client, unit.console("KILL shop", "RESUME shop"):
        return client.hear()


@provokes("database configuration changed")
def a_session_whose_server_connection_is_replaced(unit: Erring) -> Said:
    with unit.client() as client:
        client.ask("SELECT 1")
        unit.command("RECONNECT shop")
        return client.hear()


@provokes('database "…" is disabled')
def a_login_to_a_database_that_is_disabled(unit: Erring) -> Said:
    with unit.console("DISABLE shop", "ENABLE shop"):
        return unit.login()


@provokes('authentication database "…" is disabled')
def a_login_while_the_pool_for_look_ups_is_disabled(unit: Erring) -> Said:
    with unit.console("DISABLE pgbouncer_auth", "ENABLE pgbouncer_auth"):
        return unit.login()


@provokes("admin forced disconnect")
def a_client_that_an_operator_disconnects(unit: Erring) -> Said:
    with unit.client() as client:
        unit.kill_clients()
        return client.hear()
