"""The auth function in a real PostgreSQL: only the auth user may look passwords up."""

from __future__ import annotations

import re
from typing import Any

import psycopg
import pytest
from postgresql import ADMIN, PostgreSQL
from provided import as_client, do, looked_up, provide

from adapters.postgres.databases import PsycopgDatabases
from app.errors import DatabaseRefused
from logins import AUTH_PASSWORD, AUTH_USER, OWN, OWNER, asked, login, material

STAND_IN = re.compile(r"pgbouncer_unknown_(\d|1[0-5])")
KEY = "([A-Za-z0-9+/]{43}=)"
VERIFIER = re.compile(rf"SCRAM-SHA-256\$4096:([A-Za-z0-9+/]{{22}}==)\${KEY}:{KEY}")


def test_the_auth_user_looks_up_clients(server: PostgreSQL) -> None:
    provide(server, asked(1))
    [(name, secret)] = looked_up(server, "relation_id_1")
    assert name == "relation_id_1"
    assert secret.startswith("SCRAM-SHA-256$")


def is_stand_in(server: PostgreSQL, name: str) -> bool:
    """Return whether the answer for a name is a stand-in; the answer is a row with a verifier in any case."""
    [(found, secret)] = looked_up(server, name)
    assert VERIFIER.fullmatch(secret), name
    return found != name and STAND_IN.fullmatch(found) is not None


@pytest.mark.parametrize(
    "name", ["nobody", "' OR true --", "a\\b", "", "josé", "x" * 127, "pgbouncer_unknown_5"]
)
def test_a_name_that_is_no_user_gets_a_stand_in(server: PostgreSQL, name: str) -> None:
    provide(server, asked(1))
    assert is_stand_in(server, name)
    assert looked_up(server, name) == looked_up(server, name)


def test_stand_ins_are_few_and_each_has_its_own_verifier(server: PostgreSQL) -> None:
    provide(server)
    query = f"SELECT f.* FROM generate_series(1, 1000) i, {AUTH_USER}.get_auth('user_' || i) f"
    found = server.sql(query, database=OWN, user=AUTH_USER, password=AUTH_PASSWORD)
    assert len(found) == 1000
    assert len({name for name, _ in found}) == 16
    assert len(set(found)) == 16
    parts = [part for _, secret in set(found) for part in VERIFIER.findall(secret)[0]]
    assert len(parts) == len(set(parts)) == 48


def test_a_new_password_of_the_auth_user_changes_the_stand_ins(server: PostgreSQL) -> None:
    provide(server)
    names = [f"user_{number}" for number in range(20)]
    before = {looked_up(server, name)[0][1] for name in names}
    do(server, lambda database: database.provision(material("AnotherPassword"), OWN))
    query = f"SELECT password FROM {AUTH_USER}.get_auth(%s)"
    after = {
        server.sql(query, (name,), database=OWN, user=AUTH_USER, password="AnotherPassword")[0][0]
        for name in names
    }
    assert not before & after


def test_a_role_with_the_name_of_a_stand_in_is_not_looked_up(server: PostgreSQL) -> None:
    provide(server)
    server.sql("CREATE ROLE pgbouncer_unknown_5 LOGIN PASSWORD 'x'")
    [(own,)] = server.sql("SELECT rolpassword FROM pg_authid WHERE rolname ~ 'unknown_5$'")
    assert looked_up(server, "pgbouncer_unknown_5")[0][1] != own


def test_a_role_without_a_scram_verifier_gets_a_stand_in(server: PostgreSQL) -> None:
    provide(server)
    server.sql("CREATE ROLE certified LOGIN")
    server.sql(f"CREATE ROLE ancient LOGIN PASSWORD 'md5{'0' * 32}'")
    assert is_stand_in(server, "certified")
    assert is_stand_in(server, "ancient")


def test_privileged_and_expired_users_are_not_looked_up(server: PostgreSQL) -> None:
    provide(server)
    for name, attributes, found in (
        ("plain", "LOGIN", True),
        ("temporary", "LOGIN VALID UNTIL '2999-01-01'", True),
        ("endless", "LOGIN VALID UNTIL 'infinity'", True),
        ("expired", "LOGIN VALID UNTIL '2001-01-01'", False),
        ("root", "LOGIN SUPERUSER", False),
        ("replica", "LOGIN REPLICATION", False),
        ("bypass", "LOGIN BYPASSRLS", False),
        ("group_of_many", "NOLOGIN", False),
    ):
        server.sql(f"CREATE ROLE {name} {attributes} PASSWORD 'x'")
        assert is_stand_in(server, name) is not found, name
    assert is_stand_in(server, ADMIN)


def test_no_user_but_the_auth_user_may_call_get_auth(server: PostgreSQL) -> None:
    provide(server, asked(1))
    server.sql("CREATE ROLE stranger LOGIN PASSWORD 'x'")
    server.sql(f"GRANT CONNECT ON DATABASE {OWN} TO stranger")
    server.sql(f"GRANT USAGE ON SCHEMA {AUTH_USER} TO stranger", database=OWN)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        server.sql(
            f"SELECT * FROM {AUTH_USER}.get_auth('stranger')",
            database=OWN,
            user="stranger",
            password="x",
        )
    provide(server)  # Takes back what it did not give.
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"schema {AUTH_USER}"):
        server.sql(
            f"SELECT * FROM {AUTH_USER}.get_auth('stranger')",
            database=OWN,
            user="stranger",
            password="x",
        )
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        as_client(server, 1, "SELECT 1", OWN)


def test_objects_before_the_catalog_in_the_search_path_are_not_used(server: PostgreSQL) -> None:
    provide(server, asked(1))
    server.sql("CREATE SCHEMA evil", database=OWN)
    server.sql(
        "CREATE TABLE evil.pg_authid AS SELECT * FROM pg_catalog.pg_authid WHERE false",
        database=OWN,
    )
    server.sql(
        "CREATE FUNCTION evil.yes(name, text) RETURNS bool LANGUAGE sql AS 'SELECT true'",
        database=OWN,
    )
    server.sql(
        "CREATE OPERATOR evil.= (FUNCTION = evil.yes, LEFTARG = name, RIGHTARG = text)",
        database=OWN,
    )
    server.sql(
        "CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE sql"
        " AS $$SELECT '1999-1-1'::timestamptz$$",
        database=OWN,
    )
    server.sql("GRANT ALL ON SCHEMA evil TO PUBLIC", database=OWN)
    server.sql("GRANT ALL ON evil.pg_authid TO PUBLIC", database=OWN)
    server.sql("CREATE ROLE expired LOGIN PASSWORD 'x' VALID UNTIL '2001-01-01'")
    server.sql(f"ALTER ROLE {AUTH_USER} SET search_path = evil, pg_catalog")
    assert [row[0] for row in looked_up(server, "relation_id_1")] == ["relation_id_1"]
    assert is_stand_in(server, "expired")
    server.sql(f"GRANT TEMPORARY ON DATABASE {OWN} TO {AUTH_USER}")
    with server.connect(OWN, AUTH_USER, AUTH_PASSWORD) as connection:
        connection.execute("CREATE TEMPORARY TABLE pg_authid (rolname text, rolpassword text)")
        connection.execute("INSERT INTO pg_temp.pg_authid VALUES ('operator', 'forged')")
        connection.execute("SET search_path = pg_temp, evil, pg_catalog")
        found = connection.execute(f"SELECT * FROM {AUTH_USER}.get_auth('operator')").fetchall()
    assert found == looked_up(server, "operator")
    assert is_stand_in(server, "operator")


def test_an_unchanged_password_is_not_set_again(server: PostgreSQL) -> None:
    provide(server)
    before = server.transactions()
    do(server, lambda database: database.provision(material(), OWN))
    assert server.transactions() == before
    do(server, lambda database: database.provision(material("AnotherPassword"), OWN))
    assert server.sql("SELECT 1", database=OWN, user=AUTH_USER, password="AnotherPassword")


@pytest.mark.parametrize(
    "damage",
    [
        f"CREATE OR REPLACE FUNCTION {AUTH_USER}.get_auth(p_username text) RETURNS"
        " TABLE(username text, password text) LANGUAGE sql SECURITY DEFINER AS"
        " $$SELECT 'x', 'y'$$",
        f"ALTER FUNCTION {AUTH_USER}.get_auth RESET ALL",
        f"ALTER FUNCTION {AUTH_USER}.get_auth OWNER TO stranger",
        f"GRANT ALL ON FUNCTION {AUTH_USER}.get_auth TO PUBLIC",
        f"GRANT EXECUTE ON FUNCTION {AUTH_USER}.get_auth TO stranger WITH GRANT OPTION",
        f"GRANT ALL ON SCHEMA {AUTH_USER} TO PUBLIC",
        f"GRANT ALL ON SCHEMA {AUTH_USER} TO {AUTH_USER}",
        f"REVOKE ALL ON FUNCTION {AUTH_USER}.get_auth FROM {AUTH_USER}",
        f"DROP FUNCTION {AUTH_USER}.get_auth",
        f"ALTER SCHEMA {AUTH_USER} OWNER TO stranger",
        f"ALTER ROLE {AUTH_USER} NOLOGIN CREATEROLE",
        f"GRANT CONNECT ON DATABASE {OWN} TO PUBLIC",
        f"REVOKE CONNECT ON DATABASE {OWN} FROM {AUTH_USER}",
    ],
)
def test_a_damaged_auth_function_is_repaired(server: PostgreSQL, damage: str) -> None:
    server.sql("CREATE ROLE stranger")
    provide(server)
    query = """
        SELECT proacl::text, nspacl::text, prosrc, proconfig, prosecdef, proowner, nspowner,
               datacl::text, rolcanlogin, rolcreaterole
        FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace, pg_database d, pg_roles r
        WHERE datname = %s AND rolname = %s AND nspname = rolname
    """

    def look() -> list[Any]:
        rows = server.sql(query, (OWN, AUTH_USER), database=OWN)
        return [tuple(sorted(c) if isinstance(c, str) else c for c in row) for row in rows]

    before = look()
    server.sql(damage, database=OWN)
    assert look() != before
    provide(server)
    assert look() == before


def test_a_foreign_schema_is_refused_and_unchanged(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE stranger")
    server.sql(f"CREATE SCHEMA {AUTH_USER} AUTHORIZATION stranger", database=OWN)
    with pytest.raises(DatabaseRefused, match="belongs to stranger and was not made by"):
        provide(server)
    do(server, lambda database: database.withdraw())
    assert server.sql("SELECT 1 FROM pg_namespace WHERE nspname = %s", (AUTH_USER,), database=OWN)


def test_a_schema_of_another_application_is_no_obstacle(server: PostgreSQL) -> None:
    server.sql("CREATE SCHEMA pgbouncer", database=OWN)
    server.sql("COMMENT ON SCHEMA pgbouncer IS 'managed by another application'", database=OWN)
    provide(server, asked(1))
    assert looked_up(server, "relation_id_1")
    do(server, lambda database: database.withdraw())
    query = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^pgbouncer'"
    assert server.sql(query, database=OWN) == [("pgbouncer",)]


def test_the_function_of_an_earlier_auth_user_is_dropped(server: PostgreSQL) -> None:
    provide(server)
    do(server, lambda database: database.provision(material(user="pgbouncer_auth_new"), OWN))
    query = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^pgbouncer'"
    assert server.sql(query, database=OWN) == [("pgbouncer_auth_new",)]


def test_a_database_without_the_language_of_the_function_is_refused(server: PostgreSQL) -> None:
    server.sql("DROP EXTENSION plpgsql", database=OWN)
    with pytest.raises(
        DatabaseRefused, match=f"{OWN} has no language plpgsql, .* run CREATE EXTENSION"
    ):
        provide(server)
    server.sql("CREATE EXTENSION plpgsql", database=OWN)
    provide(server, asked(1))
    assert looked_up(server, "relation_id_1")


def test_a_user_who_may_not_use_the_language_is_told_what_to_grant(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE keeper LOGIN CREATEROLE CREATEDB PASSWORD 'x'")
    for statement in (
        f"ALTER DATABASE {OWN} OWNER TO keeper",
        "GRANT SELECT ON pg_authid TO keeper",
        "REVOKE ALL ON LANGUAGE plpgsql FROM PUBLIC",
    ):
        server.sql(statement, database=OWN)
    with (
        PsycopgDatabases(OWNER).open(server.credentials(OWN, "keeper", "x")) as database,
        pytest.raises(DatabaseRefused, match='run GRANT USAGE ON LANGUAGE plpgsql TO "keeper"'),
    ):
        database.provision(material(), OWN)
    server.sql("GRANT USAGE ON LANGUAGE plpgsql TO keeper", database=OWN)
    with PsycopgDatabases(OWNER).open(server.credentials(OWN, "keeper", "x")) as database:
        database.provision(material(), OWN)


def test_foreign_functions_in_the_schema_are_refused(server: PostgreSQL) -> None:
    provide(server)
    server.sql(
        f"CREATE FUNCTION {AUTH_USER}.get_auth(varchar) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        database=OWN,
    )
    with pytest.raises(DatabaseRefused, match="functions that were not made by this application"):
        provide(server)


def test_objects_of_a_former_backend_user_are_taken_over(server: PostgreSQL) -> None:
    """The PostgreSQL charms give the objects of a relation's user to a user of their own, and drop the user."""
    server.sql("CREATE ROLE former LOGIN SUPERUSER PASSWORD 'x'")
    with PsycopgDatabases(OWNER).open(server.credentials(OWN, "former", "x")) as database:
        database.provision(material(), OWN)
        database.grant(asked(1))
        database.set_password(login(1))
    for name in (OWN, "shop", "postgres"):
        server.sql(f"REASSIGN OWNED BY former TO {ADMIN}", database=name)
        server.sql("DROP OWNED BY former", database=name)
    server.sql("DROP ROLE former")
    server.sql("CREATE ROLE latter LOGIN SUPERUSER PASSWORD 'x'")
    with PsycopgDatabases(OWNER).open(server.credentials(OWN, "latter", "x")) as database:
        database.provision(material(), OWN)
        assert not database.grant(asked(1))
    assert looked_up(server, "relation_id_1")
    with PsycopgDatabases(OWNER).open(server.credentials(OWN, "latter", "x")) as database:
        database.withdraw()


def test_a_common_database_stays_open(server: PostgreSQL) -> None:
    with PsycopgDatabases(OWNER).open(server.credentials("postgres")) as database:
        database.provision(material(), "postgres")
    assert server.sql("SELECT has_database_privilege('public', 'postgres', 'CONNECT')") == [
        (True,)
    ]


def test_the_auth_user_joins_the_group_that_pg_hba_conf_names(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE relation_access")
    provide(server, asked(1))
    members = server.sql(
        "SELECT member::regrole::text FROM pg_auth_members"
        " WHERE roleid = 'relation_access'::regrole ORDER BY 1"
    )
    assert members == [(AUTH_USER,), ("relation_id_1",)]


def test_look_ups_use_reserved_connections(server: PostgreSQL) -> None:
    provide(server, asked(1))
    query = """
        SELECT pg_has_role(%s, oid, 'MEMBER') FROM pg_roles
        WHERE rolname = 'pg_use_reserved_connections'
    """
    since_16 = int(server.sql("SHOW server_version_num")[0][0]) >= 160_000
    assert server.sql(query, (AUTH_USER,)) == ([(True,)] if since_16 else [])


def test_both_auth_users_look_up_by_a_single_function_while_they_change(
    server: PostgreSQL,
) -> None:
    provide(server, asked(1))
    second = login(f"{AUTH_USER}_2", "of-the-second")
    changing = material().model_copy(update={"next_auth": second, "auth_schema": AUTH_USER})
    do(server, lambda database: database.provision_next(changing, OWN))
    query = f"SELECT username FROM {AUTH_USER}.get_auth('relation_id_1')"
    for user, password in ((AUTH_USER, AUTH_PASSWORD), (second.username, "of-the-second")):
        assert server.sql(query, database=OWN, user=user, password=password) == [
            ("relation_id_1",)
        ]
