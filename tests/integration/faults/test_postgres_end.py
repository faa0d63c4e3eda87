"""What stays in a real PostgreSQL after a withdrawal, also if the hook is killed before its end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from postgresql import ADMIN, PostgreSQL
from provided import NEW_OWNER, as_client, do, provide, roles_of_ours, state
from psycopg import sql

from app.errors import DatabaseRefused
from logins import OWN, asked


def test_a_withdrawal_leaves_only_databases_and_their_data(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE stranger LOGIN")
    server.sql("CREATE ROLE admin")
    before = state(server)
    provide(server, asked(1), asked(2, "shop", "admin"), asked(3, "bank"))
    as_client(server, 1, "CREATE TABLE t AS SELECT 'kept'::text AS x")
    as_client(server, 3, "CREATE TABLE t AS SELECT 'safe'::text AS x", "bank")
    as_client(server, 2, "CREATE DATABASE warehouse")
    do(server, lambda database: database.withdraw())
    do(server, lambda database: database.withdraw())
    assert server.sql("SELECT x FROM t", database="shop") == [("kept",)]
    assert server.sql("SELECT x FROM t", database="bank") == [("safe",)]
    roles = {row[0] for row in before if len(row) == 7}
    (heir,) = {row[0] for row in state(server) if len(row) == 7} - roles
    assert NEW_OWNER.fullmatch(heir)
    assert server.sql("SELECT FROM pg_namespace WHERE nspname = 'pgbouncer'", database=OWN) == []
    assert roles_of_ours(server) == []
    owners = server.sql(
        "SELECT datname, pg_get_userbyid(datdba) FROM pg_database"
        " WHERE NOT datistemplate ORDER BY 1"
    )
    assert {owner for _, owner in owners} == {ADMIN, heir}
    assert [name for name, _ in owners] == sorted(["bank", OWN, "postgres", "shop", "warehouse"])
    # An application that is related again finds its data.
    provide(server, asked(7))
    as_client(server, 7, "UPDATE t SET x = 'found again'")


def test_objects_that_clients_leave_gain_no_rights(server: PostgreSQL) -> None:
    """A view or function that a superuser owned would run with a superuser's rights."""
    provide(server, asked(1))
    as_client(server, 1, "CREATE VIEW v AS SELECT rolpassword FROM pg_catalog.pg_authid")
    as_client(
        server,
        1,
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql SECURITY DEFINER"
        " AS 'BEGIN CREATE ROLE conqueror SUPERUSER; END'",
    )
    do(server, lambda database: database.withdraw())
    provide(server, asked(2))
    for attack in ("SELECT * FROM v", "SELECT f()"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            as_client(server, 2, attack)


def test_a_withdrawal_continues_after_a_locked_object(server: PostgreSQL) -> None:
    provide(server, asked(1), asked(2))
    as_client(server, 1, "CREATE TABLE t (i int)")
    with server.connect("shop") as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE t IN ACCESS SHARE MODE")
        with pytest.raises(
            DatabaseRefused,
            match=rf"something in database shop is locked by user {ADMIN}: end",
        ):
            do(server, lambda database: database.withdraw())
    assert roles_of_ours(server) == ["relation_id_1"]
    do(server, lambda database: database.withdraw())
    assert roles_of_ours(server) == []


# Killed at any point, two at a time.


class Killed(BaseException):
    """The hook was killed."""


@pytest.mark.parametrize("what", ["grant", "revoke", "withdraw"])
def test_an_operation_killed_at_any_point_ends_as_undisturbed(
    server: PostgreSQL, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config, what: str
) -> None:
    every = 1 if pytestconfig.getoption("--points") > 1 else 3

    def prepare() -> None:
        counter["left"] = -1
        server.wipe()
        server.sql(f"CREATE DATABASE {OWN}")
        server.sql("CREATE ROLE relation_access")
        if what != "grant":
            provide(server, asked(1), asked(2))
            as_client(server, 1, "CREATE TABLE t (i int)")

    def run() -> None:
        if what == "grant":
            provide(server, asked(1, "shop", "createdb"))
        elif what == "revoke":
            do(server, lambda database: database.revoke("relation_id_1"))
        else:
            do(server, lambda database: database.withdraw())

    execute: Any = psycopg.Connection.execute
    counter = {"left": -1}  # statements before the end; below zero they are just counted

    def counted(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        # A composed statement writes; a plain text only reads.
        if isinstance(query, sql.Composed) and "statement_timeout" in self.info.options:
            if counter["left"] == 0:
                raise Killed
            counter["left"] -= 1
        return execute(self, query, *args, **kwargs)

    monkeypatch.setattr(psycopg.Connection, "execute", counted)
    prepare()
    counter["left"] = -1
    run()
    undisturbed, steps = state(server), -1 - counter["left"]
    assert steps > 3
    for step in range(0, steps, every):
        prepare()
        counter["left"] = step
        with pytest.raises(Killed):
            run()
        counter["left"] = -1
        run()
        assert state(server) == undisturbed, f"killed before statement {step}"


def test_two_leaders_at_a_time_do_no_harm(server: PostgreSQL) -> None:
    def lead(_: int) -> None:
        provide(server, asked(1), asked(2, "bank"))

    def leave(_: int) -> None:
        do(server, lambda database: database.revoke("relation_id_1"))
        do(server, lambda database: database.withdraw())

    with ThreadPoolExecutor(2) as both:
        for _ in range(5):
            list(both.map(lead, range(2)))
            assert do(server, lambda database: database.users()) == {
                "relation_id_1",
                "relation_id_2",
            }
            list(both.map(leave, range(2)))
            assert roles_of_ours(server) == []
            server.sql("DROP DATABASE shop")
            server.sql("DROP DATABASE bank")
