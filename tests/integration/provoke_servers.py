"""Provoke the errors that clients get because of PostgreSQL, or because PostgreSQL cannot be reached."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING

import psycopg
from erring import DATABASE, ELSEWHERE, STRANGER, USER, Erring, Said
from provoking import provokes

from attacks.packets import query
from contract.unit import eventually
from logins import AUTH_PASSWORD, CLIENT_PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILING = "server login has been failing, cached error: … (server_login_retry)"


@provokes(FAILING, "connect failed")
def a_server_that_is_down(unit: Erring) -> Said:
    unit.set(server_host="127.0.0.9")
    return unit.login_that_fails_at_once()


@provokes(FAILING, "server DNS lookup failed")
def a_server_whose_name_is_unknown(unit: Erring) -> Said:
    unit.set(server_host="postgresql.invalid")
    return unit.login_that_fails_at_once()


@provokes(FAILING, "server refused SSL")
def a_server_without_tls(unit: Erring) -> Said:
    unit.set(("server_tls_sslmode", "require"))
    unit.without_server_connections()
    return unit.login_that_fails_at_once()


@provokes(FAILING, "server conn crashed?")
def a_server_that_closes_connections_at_once(unit: Erring) -> Said:
    with socket.create_server(("127.0.0.9", unit.server.port)) as listener, unit.closing(listener):
        unit.set(server_host="127.0.0.9")
        return unit.login_that_fails_at_once()


@provokes(FAILING, "the database system is starting up")
def a_server_that_starts(unit: Erring) -> Said:
    with unit.server.starting_up():
        # PgBouncer repeats the error of its last attempt, which may be that no server ran.
        eventually(lambda: "starting up" in unit.login_that_fails_at_once().text)
        return unit.login_that_fails_at_once()


@provokes(FAILING, 'role "…" is not permitted to log in')
def a_look_up_whose_role_is_locked(unit: Erring) -> Said:
    role = unit.auth.auth_user
    with unit.altered(f"ALTER ROLE {role} NOLOGIN", f"ALTER ROLE {role} LOGIN"):
        unit.without_server_connections("pgbouncer_auth")
        return unit.login_that_fails_at_once()


@provokes(FAILING, 'password authentication failed for user "…"')
def a_look_up_whose_password_was_changed(unit: Erring) -> Said:
    password = f"ALTER ROLE {unit.auth.auth_user} PASSWORD"
    with unit.altered(f"{password} 'another'", f"{password} '{AUTH_PASSWORD}'"):
        unit.without_server_connections("pgbouncer_auth")
        return unit.login_that_fails_at_once()


@provokes('role "…" is not permitted to log in')
def a_role_that_is_locked_during_a_login(unit: Erring) -> Said:
    unit.without_server_connections()
    with (
        unit.half_logged_in() as (client, proof),
        unit.altered(f"ALTER ROLE {USER} NOLOGIN", f"ALTER ROLE {USER} LOGIN"),
    ):
        client.send(proof)
        return client.hear()


@provokes('password authentication failed for user "…"')
def a_password_that_changes_during_a_login(unit: Erring) -> Said:
    unit.without_server_connections()
    password = f"ALTER ROLE {USER} PASSWORD"
    with (
        unit.half_logged_in() as (client, proof),
        unit.altered(f"{password} 'another'", f"{password} '{CLIENT_PASSWORD}'"),
    ):
        client.send(proof)
        return client.hear()


@provokes("sorry, too many clients already")
def a_server_without_any_slot(unit: Erring) -> Said:
    with slots(unit, superusers=True):
        return unit.login()


@provokes("remaining connection slots are reserved for …")
def a_server_without_a_slot_for_users(unit: Erring) -> Said:
    with slots(unit, superusers=False):
        return unit.login()


@contextlib.contextmanager
def slots(unit: Erring, *, superusers: bool) -> Iterator[None]:
    """Use the connections that PostgreSQL accepts from users, and perhaps those of superusers."""
    unit.without_server_connections()
    with contextlib.ExitStack() as connections:
        for user in (True, False) if superusers else (True,):
            login = (ELSEWHERE, STRANGER, CLIENT_PASSWORD) if user else ()
            with contextlib.suppress(psycopg.OperationalError):
                while True:
                    connections.enter_context(unit.server.connect(*login))
        yield


@provokes('too many connections for role "…"')
def a_role_with_a_limit(unit: Erring) -> Said:
    limit = f"ALTER ROLE {USER} CONNECTION LIMIT"
    return refused(unit, f"{limit} 0", f"{limit} -1")


@provokes('too many connections for database "…"')
def a_database_with_a_limit(unit: Erring) -> Said:
    limit = f"ALTER DATABASE {DATABASE} CONNECTION LIMIT"
    return refused(unit, f"{limit} 0", f"{limit} -1")


@provokes('database "…" is not currently accepting connections')
def a_database_that_accepts_no_connections(unit: Erring) -> Said:
    allowed = f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS"
    return refused(unit, f"{allowed} false", f"{allowed} true")


def refused(unit: Erring, change: str, undo: str) -> Said:
    """Return why a login is refused after a change in PostgreSQL."""
    with unit.altered(change, undo):
        unit.without_server_connections()
        return unit.login()


@provokes('permission denied for database "…"')
def a_database_of_another_application(unit: Erring) -> Said:
    return unit.login(USER, ELSEWHERE)


@provokes('database "…" does not exist')
def a_database_that_was_dropped(unit: Erring) -> Said:
    unit.set(databases=(DATABASE, ELSEWHERE, "gone"))
    return unit.login(USER, "gone")


@provokes('no pg_hba.conf entry for host "…", user "…", database "…", …')
def a_server_that_does_not_admit_the_user(unit: Erring) -> Said:
    unit.without_server_connections()
    with unit.server.admitting(unit.auth.auth_user):
        return unit.login()


@provokes("terminating connection due to administrator command")
def a_server_connection_that_is_terminated(unit: Erring) -> Said:
    with unit.client() as client:
        [[pid]] = client.ask("SELECT pg_backend_pid()")
        unit.server.sql(f"SELECT pg_terminate_backend({pid})")
        return client.hear()


@provokes("server conn crashed?")
def a_backend_that_is_killed(unit: Erring) -> Said:
    with unit.client() as client:
        [[pid]] = client.ask("SELECT pg_backend_pid()")
        os.kill(int(pid or 0), signal.SIGKILL)
        said = client.hear()
    eventually(unit.server.answers)
    return said


@provokes("terminating connection because of crash of another server process")
def a_backend_beside_a_backend_that_is_killed(unit: Erring) -> Said:
    with unit.client() as client, unit.client() as other:
        client.ask("SELECT 1")
        [[pid]] = other.ask("SELECT pg_backend_pid()")
        os.kill(int(pid or 0), signal.SIGKILL)
        said = client.hear()
    eventually(unit.server.answers)
    return said


@provokes("terminating connection due to immediate shutdown command")
def a_server_that_is_stopped_at_once(unit: Erring) -> Said:
    with unit.client() as client:
        client.send(query("SELECT pg_sleep(20)"))
        unit.until_the_server_runs("pg_sleep")
        unit.server.stop(signal.SIGQUIT)
        said = client.hear()
    unit.server.start()
    return said
