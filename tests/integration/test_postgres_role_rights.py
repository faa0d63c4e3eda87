"""The rights that roles of a real PostgreSQL give, through all memberships."""

from __future__ import annotations

import pytest
from postgresql import PostgreSQL
from provided import do, provide

from domain.consent import RoleRights
from logins import OWN, asked


@pytest.fixture(autouse=True)
def own_database(server: PostgreSQL) -> None:
    provide(server, asked(1))


def reach(server: PostgreSQL, role: str, database: str = "shop") -> RoleRights:
    (found,) = do(server, lambda open_: open_.role_rights((role,), database))
    return found


def outside(server: PostgreSQL, role: str) -> str:
    return reach(server, role).outside()


def test_a_group_of_the_clients_own_database_gives_no_other_rights(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE charmed_dml")
    server.sql("CREATE TABLE t (i int)", database="shop")
    server.sql("GRANT ALL ON t TO charmed_dml", database="shop")
    server.sql("GRANT CONNECT ON DATABASE shop TO charmed_dml")
    assert outside(server, "charmed_dml") == ""
    assert reach(server, "charmed_dml", "other").databases == ("shop",)
    assert outside(server, "charmed_no_such_role") == ""


@pytest.mark.parametrize(
    ("attribute", "sentence"),
    [
        ("SUPERUSER", "can become superuser by almighty"),
        ("REPLICATION", "can copy the whole server by replication by almighty"),
        ("BYPASSRLS", "bypasses row security by almighty"),
        ("CREATEDB", "can make databases by almighty"),
    ],
)
def test_a_role_is_followed_through_every_membership(
    server: PostgreSQL, attribute: str, sentence: str
) -> None:
    server.sql(f"CREATE ROLE almighty {attribute}")
    server.sql("CREATE ROLE between NOINHERIT")
    server.sql("CREATE ROLE charmed_dba NOINHERIT")
    server.sql("GRANT almighty TO between")
    options = " WITH INHERIT FALSE, SET FALSE, ADMIN TRUE" if server.version >= 16 else ""
    server.sql("GRANT between TO charmed_dba" + options)
    assert outside(server, "charmed_dba") == sentence


def test_createrole_counts_as_superuser_before_postgresql_16(server: PostgreSQL) -> None:
    found = outside(server, "createrole")
    assert ("amounts to superuser" in found) == (server.version <= 15)
    assert ("can make roles" in found) == (server.version >= 16)


def test_a_predefined_role_is_named(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE charmed_read")
    server.sql("GRANT pg_read_all_data TO charmed_read")
    assert outside(server, "charmed_read").startswith("can read all data of every database")
    server.sql("CREATE ROLE charmed_stats")
    server.sql("GRANT pg_monitor TO charmed_stats")
    assert "has the rights of pg_monitor" in outside(server, "charmed_stats")


def test_set_user_is_found_in_every_schema(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE charmed_dba")
    server.sql("CREATE SCHEMA x", database=OWN)
    server.sql(
        "CREATE FUNCTION x.set_user_u(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
        database=OWN,
    )
    server.sql("REVOKE ALL ON FUNCTION x.set_user_u(text) FROM PUBLIC", database=OWN)
    server.sql("GRANT EXECUTE ON FUNCTION x.set_user_u(text) TO charmed_dba", database=OWN)
    assert outside(server, "charmed_dba").startswith("can become superuser by set_user_u")
    server.sql("DROP SCHEMA x CASCADE", database=OWN)


def test_functions_of_a_superuser_in_the_clients_database_are_found(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE charmed_dml")
    server.sql(
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
        database="shop",
    )
    assert outside(server, "charmed_dml") == "", "PUBLIC can call it"
    server.sql("REVOKE ALL ON FUNCTION f() FROM PUBLIC", database="shop")
    server.sql("GRANT EXECUTE ON FUNCTION f() TO charmed_dml", database="shop")
    assert outside(server, "charmed_dml").startswith("can call public.f, which acts with a")
    server.sql("DROP FUNCTION f()", database="shop")
    server.sql("GRANT EXECUTE ON FUNCTION pg_read_file(text) TO charmed_dml", database="shop")
    assert outside(server, "charmed_dml").startswith("can call pg_catalog.pg_read_file")


def test_rights_in_other_databases_are_found(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE charmed_dml")
    server.sql("CREATE DATABASE bank")
    server.sql("CREATE TABLE t (i int)", database="bank")
    server.sql("GRANT SELECT ON t TO charmed_dml", database="bank")
    assert outside(server, "charmed_dml") == "has rights in database bank"
    server.sql("REVOKE SELECT ON t FROM charmed_dml", database="bank")
    server.sql("ALTER DATABASE bank OWNER TO charmed_dml")
    assert outside(server, "charmed_dml") == "has rights in database bank"
