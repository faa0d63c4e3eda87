"""Provoke the errors that a client can get while it logs in."""

from __future__ import annotations

import contextlib

from erring import DATABASE, ELSEWHERE, STRANGER, USER, Erring, Said, said_by
from provoking import error_of, provokes

from attacks.packets import Refused, query, startup
from logins import OWN

LIMITS = "client connections exceeded (max_{}_client_connections)"


@provokes("SASL authentication failed")
def a_wrong_password(unit: Erring) -> Said:
    return unit.login(password="wrong")


@provokes("SASL authentication failed")
def a_user_that_does_not_exist(unit: Erring) -> Said:
    return unit.login("nobody")


@provokes("SASL authentication failed")
def a_database_without_a_pool(unit: Erring) -> Said:
    return unit.login(database="nowhere")


@provokes("SASL authentication failed")
def a_user_that_may_not_log_in_any_more(unit: Erring) -> Said:
    with unit.altered(f"ALTER ROLE {USER} NOLOGIN", f"ALTER ROLE {USER} LOGIN"):
        return unit.login()


@provokes("no such user")
def a_function_that_finds_no_user(unit: Erring) -> Said:
    function = f"SELECT pg_get_functiondef('{unit.auth.auth_user}.get_auth'::regproc)"
    [(before,)] = unit.server.sql(function, database=OWN)
    changed = before.partition("AS $")[0] + "AS $$ BEGIN RETURN; END $$"
    with unit.altered(changed, before, database=OWN):
        return unit.login("relation_id_3")


@provokes("bouncer config error")
def a_function_that_was_dropped(unit: Erring) -> Said:
    function = f"FUNCTION {unit.auth.auth_user}."
    with unit.altered(
        f"ALTER {function}get_auth RENAME TO other", f"ALTER {function}other RENAME TO get_auth",
        database=OWN,
    ):  # fmt: skip
        return unit.login()


@provokes("not allowed")
def a_client_that_asks_for_the_console(unit: Erring) -> Said:
    return unit.login(database="pgbouncer")


@provokes("login rejected")
def a_user_of_the_console_on_the_network(unit: Erring) -> Said:
    return unit.login(
        unit.auth.admin_user, "pgbouncer", unit.auth.admin_password.get_secret_value()
    )


@provokes("login rejected")
def the_user_that_looks_passwords_up(unit: Erring) -> Said:
    return unit.login(unit.auth.auth_user)


@provokes("login rejected")
def physical_replication(unit: Erring) -> Said:
    return unit.login(replication="true")


@provokes("login failed")
def logical_replication(unit: Erring) -> Said:
    with unit.client(replication="database") as client:
        return error_of(client, "SELECT 1")


@provokes("no such database: …")
def a_client_with_a_certificate_and_another_database(unit: Erring) -> Said:
    unit.set(certified=True)
    return unit.login_by_certificate("nowhere", own=True)


@provokes("certificate authentication failed")
def a_client_whose_certificate_is_missing(unit: Erring) -> Said:
    unit.set(certified=True)
    return unit.login_by_certificate(DATABASE, own=False)


@provokes("SSL required")
def a_login_without_tls(unit: Erring) -> Said:
    unit.set(client_tls_sslmode="require", encrypted=True)
    return unit.login()


@provokes("no authentication method is found")
def a_login_while_the_required_certificate_is_missing(unit: Erring) -> Said:
    unit.set(client_tls_sslmode="require")
    return unit.login()


@provokes("unsupported startup parameter: …")
def a_setting_that_is_not_kept(unit: Erring) -> Said:
    return unit.login(statement_timeout="5")


@provokes("unsupported startup parameter in options: …")
def a_setting_in_options_that_is_not_kept(unit: Erring) -> Said:
    return unit.login(options="-c statement_timeout=5")


@provokes(
    "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
)
def options_that_are_no_settings(unit: Erring) -> Said:
    return unit.login(options="-d 1")


@provokes("invalid server parameter")
def a_value_that_postgresql_does_not_take(unit: Erring) -> Said:
    with unit.client(TimeZone="Asia/Nowhere") as client:
        return error_of(client, "SELECT 1")


@provokes("client_login_timeout")
def a_client_that_stops_during_its_login(unit: Erring) -> Said:
    unit.set(("client_login_timeout", "1"))
    with unit.connect() as client:
        client.send(startup(user=USER, database=DATABASE))
        client.authentication()
        return client.hear()


@provokes("client_login_timeout (server down)")
def a_login_while_postgresql_does_not_answer(unit: Erring) -> Said:
    unit.without_server_connections()
    unit.set(("client_login_timeout", "1"))
    with unit.server.frozen():
        return unit.login()


@provokes("client_login_timeout (server down)")
def a_first_login_to_a_database_that_is_paused(unit: Erring) -> Said:
    unit.without_server_connections()
    unit.set(("client_login_timeout", "1"))
    with unit.console("PAUSE shop", "RESUME shop"):
        return unit.login()


@provokes("username too long")
def a_user_name_of_200_letters(unit: Erring) -> Said:
    return unit.login("x" * 200)


@provokes("no username supplied")
def a_login_without_a_user(unit: Erring) -> Said:
    return unit.login("")


@provokes("no more connections allowed (max_client_conn)")
def more_clients_than_the_process_may_have(unit: Erring) -> Said:
    return full(unit, (USER, DATABASE), (STRANGER, ELSEWHERE))


@provokes(LIMITS.format("user"))
def more_clients_than_a_user_may_have(unit: Erring) -> Said:
    with connecting(unit, USER, ELSEWHERE):
        return full(unit, (USER, DATABASE), (USER, ELSEWHERE))


@provokes(LIMITS.format("db"))
def more_clients_than_a_database_may_have(unit: Erring) -> Said:
    with connecting(unit, STRANGER, DATABASE):
        return full(unit, (USER, DATABASE), (STRANGER, DATABASE))


def connecting(unit: Erring, user: str, database: str) -> contextlib.AbstractContextManager[None]:
    """Let a user connect to a database of another application meanwhile."""
    connect = f"CONNECT ON DATABASE {database}"
    return unit.altered(f"GRANT {connect} TO {user}", f"REVOKE {connect} FROM {user}")


def full(unit: Erring, *logins: tuple[str, str]) -> Said:
    """Log in as these users to these databases in turn, until a process with few files refuses."""
    unit.set(files=116, max_db_connections=1, pool_mode="transaction")
    with contextlib.ExitStack() as clients:
        for number in range(100):
            user, database = logins[number % len(logins)]
            try:
                clients.enter_context(unit.client(user, database))
            except Refused as refused:
                return said_by(refused)
    raise AssertionError("100 clients are connected")


@provokes("pooler is shutting down")
def a_login_that_ends_after_the_shutdown_has_begun(unit: Erring) -> Said:
    with unit.client() as busy:
        busy.ask("BEGIN")
        with unit.half_logged_in() as (client, proof):
            unit.command("SHUTDOWN WAIT_FOR_CLIENTS")
            client.send(proof)
            return client.welcome()


@provokes("server shutting down")
def a_client_that_waits_when_the_shutdown_begins(unit: Erring) -> Said:
    unit.set(max_db_connections=1, pool_mode="transaction")
    with unit.client() as busy, unit.client() as waiting:
        busy.ask("BEGIN")
        waiting.send(query("SELECT 1"))
        unit.until_a_client_waits()
        unit.command("SHUTDOWN WAIT_FOR_SERVERS")
        return waiting.hear()
