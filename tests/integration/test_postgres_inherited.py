"""Roles that Canonical's charm made become roles of this charm, and its superuser goes, in a real PostgreSQL."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pydantic
import pytest
from postgresql import PASSWORD, PostgreSQL
from provided import do, provide

from app.errors import DatabaseRefused
from domain.ledger import Ledger
from domain.made import CLIENT
from domain.reference import InheritedRole
from logins import CLIENT_PASSWORD, OWN, asked, login

if TYPE_CHECKING:
    from domain.made import Made

FORMER = "pgbouncer_auth_former"
HASH = "md5" + hashlib.md5(f"{CLIENT_PASSWORD}relation_id_1".encode()).hexdigest()


def before(server: PostgreSQL, encryption: str = "scram-sha-256") -> None:
    """Make what Canonical's charm makes by its file pgbouncer-install.sql and its libraries."""
    server.sql(f"SET password_encryption = '{encryption}'; CREATE ROLE relation_id_1 LOGIN")
    given = f"PASSWORD '{HASH if encryption == 'md5' else CLIENT_PASSWORD}'"
    server.sql(f"ALTER ROLE relation_id_1 {given}")
    server.sql("CREATE DATABASE shop")
    server.sql("REVOKE ALL ON DATABASE shop FROM PUBLIC")
    server.sql("GRANT ALL ON DATABASE shop TO relation_id_1")
    server.sql(f"CREATE ROLE {FORMER} SUPERUSER LOGIN PASSWORD 'former'")
    for database in (OWN, "postgres", "shop"):
        for statement in (
            f"CREATE SCHEMA {FORMER}",
            f"GRANT USAGE ON SCHEMA {FORMER} TO {FORMER}",
            f"CREATE FUNCTION {FORMER}.get_auth(username text) RETURNS TABLE (username text, password text)"
            " LANGUAGE sql STABLE SECURITY DEFINER AS"
            " 'SELECT rolname::text, rolpassword::text FROM pg_authid WHERE rolname = $1'",
            f"REVOKE ALL ON FUNCTION {FORMER}.get_auth(text) FROM PUBLIC",
            f"GRANT EXECUTE ON FUNCTION {FORMER}.get_auth(text) TO {FORMER}",
        ):
            server.sql(statement, database=database)
    server.sql("GRANT ALL ON SCHEMA public TO relation_id_1", database="shop")
    server.sql(
        "SET ROLE relation_id_1; CREATE TABLE orders AS SELECT 42 AS total", database="shop"
    )


def role(password: str | None = CLIENT_PASSWORD) -> InheritedRole:
    secret = pydantic.SecretStr(password) if password else None
    return InheritedRole(username="relation_id_1", database="shop", password=secret)


def taken_over(server: PostgreSQL) -> Made:
    assert do(server, lambda database: database.adopt(role()))
    assert do(server, lambda database: database.adopt(role()))
    made = provide(server, asked(1))
    return provide(server, asked(2), ledger=Ledger(made=made))


def functions(server: PostgreSQL, database: str) -> object:
    query = "SELECT nspname FROM pg_namespace WHERE nspname = %s"
    return server.sql(query, (FORMER,), database=database)


@pytest.mark.parametrize("encryption", ["scram-sha-256", "md5"])
def test_a_client_of_the_charm_before_keeps_its_password_and_tables(
    server: PostgreSQL, encryption: str
) -> None:
    before(server, encryption)
    made = taken_over(server)
    assert {"relation_id_1", "relation_id_2"} == set(made.names(CLIENT))
    for number in (1, 2):
        user = f"relation_id_{number}"
        known = {"user": user, "password": CLIENT_PASSWORD, "database": "shop"}
        assert server.sql("SELECT total FROM orders", **known) == [(42,)]
    query = "SELECT rolpassword FROM pg_authid WHERE rolname = 'relation_id_1'"
    assert server.sql(query)[0][0].startswith("SCRAM-SHA-256$")


def test_the_role_of_a_client_that_has_left_is_dropped_and_its_tables_stay(
    server: PostgreSQL,
) -> None:
    before(server)
    assert do(server, lambda database: database.adopt(role(None)))
    made = provide(server, asked(2))
    do(server, lambda database: database.revoke("relation_id_1"), ledger=Ledger(made=made))
    assert server.sql("SELECT 1 FROM pg_roles WHERE rolname = 'relation_id_1'") == []
    assert server.sql("SELECT total FROM orders", database="shop") == [(42,)]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("ALTER ROLE relation_id_1 PASSWORD 'another'", "password"),
        ("ALTER ROLE relation_id_1 PASSWORD NULL", "password"),
        ("ALTER ROLE relation_id_1 SUPERUSER", "superuser"),
        ("CREATE ROLE evil; GRANT relation_id_1 TO evil", "given to evil"),
    ],
)
def test_a_role_that_a_client_may_have_made_stays_as_it_is(
    server: PostgreSQL, statement: str, reason: str
) -> None:
    before(server)
    for part in statement.split("; "):
        server.sql(part)

    def adopt(database):
        return database.adopt(role()), database.notes()

    adopted, notes = do(server, adopt)
    assert not adopted
    assert reason in notes[0]
    query = (
        "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = 'relation_id_1'"
    )
    assert server.sql(query) == [(None,)]


def test_the_former_superuser_goes_with_its_functions_in_every_database(
    server: PostgreSQL,
) -> None:
    before(server)
    made = taken_over(server)
    for _ in range(2):
        do(
            server,
            lambda database: database.drop_inherited_auth_user(FORMER),
            ledger=Ledger(made=made),
        )
    assert server.sql("SELECT 1 FROM pg_roles WHERE rolname = %s", (FORMER,)) == []
    assert [functions(server, name) for name in (OWN, "postgres", "shop")] == [[], [], []]
    # The users of this application stay.
    assert server.sql(
        "SELECT total FROM orders",
        database="shop",
        user="relation_id_1",
        password=CLIENT_PASSWORD,
    ) == [(42,)]


def test_a_superuser_whose_schema_has_more_stays_without_login(
    server: PostgreSQL,
) -> None:
    before(server)
    server.sql(f"CREATE TABLE {FORMER}.notes ()", database="shop")
    with pytest.raises(DatabaseRefused, match="other objects depend"):
        do(server, lambda database: database.drop_inherited_auth_user(FORMER))
    query = "SELECT rolsuper, rolcanlogin FROM pg_roles WHERE rolname = %s"
    assert server.sql(query, (FORMER,)) == [(False, False)]
    server.sql(f"DROP TABLE {FORMER}.notes", database="shop")
    do(server, lambda database: database.drop_inherited_auth_user(FORMER))
    assert server.sql(query, (FORMER,)) == []


def test_a_login_of_the_tests_is_that_of_the_charm_before() -> None:
    assert login(1).password.get_secret_value() == CLIENT_PASSWORD != PASSWORD
