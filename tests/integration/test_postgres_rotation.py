"""Two names of a client in a real PostgreSQL: what belongs to whom, and what a hostile client can do."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psycopg
import pytest
from postgresql import PostgreSQL
from provided import do, looked_up, provide, state

from app.errors import DatabaseBusy
from domain.users import Grant
from logins import CLIENT_PASSWORD, asked, login

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.database_ports import Database

FIRST, SECOND = "relation_id_1", "relation_id_1__2"
NEW = "NewPassword"


def present(grant: Grant) -> Grant:
    return grant.model_copy(update={"username": SECOND})


@contextlib.contextmanager
def session(server: PostgreSQL, user: str, password: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(
        host=server.host, port=server.port, dbname="shop", user=user, password=password,
        autocommit=True,
    ) as connection:  # fmt: skip
        yield connection


def rotated(server: PostgreSQL, *roles: str) -> None:
    """Make a client, and rename it."""

    def act(database: Database) -> None:
        database.rename(FIRST, SECOND)
        database.grant(present(asked(1, "shop", *roles)))
        database.set_password(login(SECOND, NEW))

    provide(server, asked(1, "shop", *roles))
    do(server, act)


def ended(server: PostgreSQL) -> None:
    """Drop the role with the former name."""

    def act(database: Database) -> None:
        assert database.lock_out([FIRST]) == {}
        database.revoke(FIRST)

    do(server, act)


def test_a_session_goes_on_while_its_user_gets_another_name(server: PostgreSQL) -> None:
    provide(server, asked(1))
    with session(server, FIRST, CLIENT_PASSWORD) as client:
        client.execute("CREATE TABLE before (n int)")
        with client.transaction():
            client.execute("INSERT INTO before VALUES (1)")
            do(server, lambda database: database.rename(FIRST, SECOND))
            client.execute("INSERT INTO before VALUES (2)")
        ended(server)
        client.execute("CREATE TABLE after (n int)")
        row = client.execute("SELECT session_user, current_user, sum(n) FROM before").fetchone()
        assert row == (SECOND, SECOND, 3)


@pytest.mark.parametrize("reset", ["SELECT", "DISCARD ALL", "RESET ALL", "RESET ROLE"])
def test_both_logins_act_as_the_role_that_owns_all_objects(server: PostgreSQL, reset: str) -> None:
    rotated(server)
    with (
        session(server, FIRST, CLIENT_PASSWORD) as former,
        session(server, SECOND, NEW) as now,
    ):
        former.execute(reset)
        assert former.execute("SELECT session_user, current_user").fetchone() == (FIRST, SECOND)
        assert now.execute("SELECT session_user, current_user").fetchone() == (SECOND, SECOND)
        former.execute("CREATE TABLE of_former (n int)")
        now.execute("ALTER TABLE of_former ADD m int")
        now.execute("CREATE TABLE of_now (n int)")
        former.execute("DROP TABLE of_now")
        now.execute(f"ALTER TABLE of_former OWNER TO {SECOND}")


def test_settings_of_a_client_hold_for_both_names(server: PostgreSQL) -> None:
    provide(server, asked(1, "shop"))
    for change in (
        "SET search_path TO 'Odd \"name\", x', shop, public",
        "SET statement_timeout TO '7s'",
        "IN DATABASE shop SET work_mem TO '5MB'",
        "IN DATABASE shop SET my.own TO 'a=b, c'",
        "SET log_statement TO 'none'",
        "CONNECTION LIMIT 9",
    ):
        server.sql(f"ALTER ROLE {FIRST} {change}")

    def act(database: Database) -> None:
        database.rename(FIRST, SECOND)
        database.set_password(login(SECOND, NEW))

    do(server, act)
    names = ("search_path", "statement_timeout", "work_mem", "my.own", "log_statement")
    shown = []
    for user, password in ((SECOND, NEW), (FIRST, CLIENT_PASSWORD)):
        with session(server, user, password) as connection:
            rows = [connection.execute(f"SHOW {name}").fetchone() for name in names]
            limit = connection.execute(
                "SELECT rolconnlimit FROM pg_roles WHERE rolname = session_user"
            ).fetchone()
            shown.append((*rows, limit))
    assert shown[0] == shown[1]
    assert shown[0][1] == ("7s",)


def test_what_the_former_role_owns_stays_with_the_client(server: PostgreSQL) -> None:
    rotated(server)
    with session(server, FIRST, CLIENT_PASSWORD) as former:
        former.execute("SET ROLE NONE; CREATE TABLE own (n int); INSERT INTO own VALUES (1)")
    with session(server, SECOND, NEW) as now:
        assert now.execute("SELECT n FROM own").fetchone() == (1,)
        ended(server)
        now.execute("ALTER TABLE own ADD m int")
        now.execute("DROP TABLE own")


def test_a_rotation_leaves_what_a_new_client_has(server: PostgreSQL) -> None:
    provide(server, asked(1))
    before = state(server)
    do(server, lambda database: database.rename(FIRST, SECOND))
    do(server, lambda database: database.grant(present(asked(1))))
    ended(server)

    def back(database: Database) -> None:
        database.rename(SECOND, FIRST)
        database.grant(asked(1))
        database.set_password(login(FIRST))
        database.lock_out([SECOND])
        database.revoke(SECOND)

    do(server, back)
    assert state(server) == before


def test_a_login_finds_the_password_of_each_name_until_it_expires(server: PostgreSQL) -> None:
    rotated(server)
    ((name, verifier),) = looked_up(server, FIRST)
    ((now, other),) = looked_up(server, SECOND)
    assert (name, now) == (FIRST, SECOND)
    assert verifier != other
    do(server, lambda database: database.expire(FIRST, -1))
    ((name, _),) = looked_up(server, FIRST)
    assert name.startswith("pgbouncer_unknown_")


def test_no_password_of_a_rotation_is_in_the_log(server: PostgreSQL) -> None:
    before = len(server.log)
    rotated(server)
    log = server.log[before:]
    verifiers = server.sql("SELECT rolpassword FROM pg_authid WHERE rolname ~ '^relation_id_'")
    assert len(verifiers) == 2
    assert [text for (text,) in verifiers if text in log] == []
    assert NEW not in log


HOSTILE = (
    f"ALTER ROLE {FIRST} SUPERUSER",
    f"ALTER ROLE {FIRST} VALID UNTIL 'infinity'",
    f"ALTER ROLE {FIRST} RENAME TO mine",
    f"DROP ROLE {FIRST}",
    f"DROP ROLE {SECOND}",
    f"REVOKE {SECOND} FROM {FIRST}",
    f"ALTER TABLE t OWNER TO {FIRST}",
)


def test_a_client_cannot_change_the_role_with_its_former_name(server: PostgreSQL) -> None:
    rotated(server)
    for user, password in ((FIRST, CLIENT_PASSWORD), (SECOND, NEW)):
        with session(server, user, password) as client:
            client.execute("CREATE TABLE IF NOT EXISTS t ()")
            for statement in HOSTILE:
                with pytest.raises(psycopg.Error):
                    client.execute(statement)


def test_a_client_that_changes_passwords_ends_as_every_client(server: PostgreSQL) -> None:
    rotated(server)
    with session(server, FIRST, CLIENT_PASSWORD) as former:
        former.execute("SET ROLE NONE; ALTER ROLE current_user PASSWORD 'mine'")
        former.execute("ALTER ROLE current_user SET role = none")
    with session(server, FIRST, "mine") as former:
        former.execute("CREATE SCHEMA mine; CREATE TABLE mine.t ()")
        former.execute(
            "CREATE FUNCTION mine.f() RETURNS int LANGUAGE sql SECURITY DEFINER RETURN 1"
        )
    do(server, lambda database: database.expire(FIRST, -1))
    with pytest.raises(psycopg.OperationalError), session(server, FIRST, "mine"):
        pass
    ended(server)
    with session(server, SECOND, NEW) as now:
        now.execute("DROP SCHEMA mine CASCADE")


def test_a_client_may_give_its_former_role_away_for_a_while_only(server: PostgreSQL) -> None:
    rotated(server)
    provide(server, asked(2, "blog"))
    with session(server, FIRST, CLIENT_PASSWORD) as former, contextlib.suppress(psycopg.Error):
        former.execute("SET ROLE NONE; GRANT relation_id_1 TO relation_id_2")
    ended(server)
    query = "SELECT count(*) FROM pg_auth_members WHERE member = 'relation_id_2'::regrole"
    assert server.sql(query) == [(1,)], "the group of its own database"


def test_a_client_with_roles_keeps_them_by_both_names(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE charmed_read")
    rotated(server, "charmed_read", "createdb")
    for user, password in ((FIRST, CLIENT_PASSWORD), (SECOND, NEW)):
        with session(server, user, password) as client:
            query = """
                SELECT pg_has_role('charmed_read', 'USAGE'), rolcreatedb
                FROM pg_roles WHERE rolname = current_user
            """
            assert client.execute(query).fetchone() == (True, True)


def test_the_former_password_never_lets_the_new_name_in(server: PostgreSQL) -> None:
    provide(server, asked(1))
    do(server, lambda database: database.rename(FIRST, SECOND))
    with session(server, FIRST, CLIENT_PASSWORD):
        pass
    with pytest.raises(psycopg.OperationalError), session(server, SECOND, CLIENT_PASSWORD):
        pass


def test_sessions_from_before_a_rotation_end_with_their_locks(server: PostgreSQL) -> None:
    provide(server, asked(1))
    with session(server, FIRST, CLIENT_PASSWORD) as before:
        rotated(server)
        before.execute("BEGIN; ALTER ROLE current_user PASSWORD 'mine'")
        with session(server, SECOND, NEW) as now:

            def act(database: Database) -> None:
                database.end_sessions(SECOND)
                database.set_password(login(SECOND, "Newer"))

            do(server, act)
            for ended in (before, now):
                with pytest.raises(psycopg.OperationalError):
                    ended.execute("SELECT 1")
    with session(server, SECOND, "Newer") as client:
        client.execute("SELECT 1")


def test_only_sessions_of_clients_of_this_application_end(server: PostgreSQL) -> None:
    provide(server, asked(1))
    server.sql(
        "CREATE ROLE stranger LOGIN PASSWORD 'mine'; GRANT CONNECT ON DATABASE shop TO stranger"
    )
    with session(server, "stranger", "mine") as stranger:
        do(server, lambda database: database.end_sessions("stranger"))
        do(server, lambda database: database.end_sessions("no such role"))
        stranger.execute("SELECT 1")


def test_a_refusal_names_who_keeps_the_role_of_a_client_locked(server: PostgreSQL) -> None:
    provide(server, asked(1), asked(2, "blog"))

    def renames(database: Database) -> None:
        with pytest.raises(DatabaseBusy, match=rf"pid {pid} \(user {FIRST}, database shop; .*\)"):
            database.rename(FIRST, SECOND)
        database.rename("relation_id_2", "relation_id_2__2")

    with session(server, FIRST, CLIENT_PASSWORD) as client:
        client.execute("BEGIN; ALTER ROLE current_user PASSWORD 'mine'")
        pid = client.info.backend_pid
        do(server, renames)
        client.execute("ROLLBACK")
    do(server, lambda database: database.rename(FIRST, SECOND))


def test_a_refusal_names_a_prepared_transaction(server: PostgreSQL) -> None:
    provide(server, asked(1))
    with session(server, FIRST, CLIENT_PASSWORD) as client:
        client.execute(
            "BEGIN; ALTER ROLE current_user PASSWORD 'mine'; PREPARE TRANSACTION 'odd ''name'"
        )

    def rename(database: Database) -> None:
        database.rename(FIRST, SECOND)

    with pytest.raises(
        DatabaseBusy, match="run `ROLLBACK PREPARED 'odd ''name'` in that database"
    ):
        do(server, rename)
    server.sql("ROLLBACK PREPARED 'odd ''name'", database="shop")
    do(server, rename)


def test_a_role_that_was_a_former_name_is_a_client_again(server: PostgreSQL) -> None:
    """The record of the rotation was lost, and the former name has an end."""
    rotated(server)
    do(server, lambda database: database.expire(FIRST, 0))
    do(server, lambda database: database.lock_out([SECOND]))
    assert provide(server, asked(1, "shop"))
    with session(server, FIRST, CLIENT_PASSWORD) as client:
        row = client.execute("SELECT session_user, current_user").fetchone()
    assert row == (FIRST, FIRST)
    # PgBouncer gets no password of a user whose time has ended.
    assert looked_up(server, FIRST)[0][0] == FIRST
