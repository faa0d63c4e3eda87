"""Roles and databases of the charm are told from those of clients in a real PostgreSQL."""

from __future__ import annotations

import re

import psycopg
import pydantic
import pytest
from postgresql import PASSWORD, PostgreSQL
from provided import as_client, do, looked_up, provide, state

from adapters.postgres.databases import PsycopgDatabases
from adapters.postgres.ownership import group_name
from app.errors import AccessRefused, DatabaseRefused
from domain.ledger import Ledger
from domain.made import CLIENT, Made, OwnDatabase
from logins import AUTH_USER, CLIENT_PASSWORD, OWN, OWNER, asked, login, material


def test_a_copied_comment_under_the_name_of_a_group_is_refused(server: PostgreSQL) -> None:
    made = provide(server, asked(1, "shop", "createrole"))
    query = "SELECT shobj_description(oid, 'pg_authid') FROM pg_roles WHERE rolname = %s"
    ((comment,),) = server.sql(query, (group_name(OWNER, "shop"),))
    group = group_name(OWNER, "payroll")
    as_client(server, 1, f"CREATE ROLE {group}")
    as_client(server, 1, "CREATE ROLE evil LOGIN PASSWORD 'x'")
    as_client(server, 1, f"GRANT {group} TO evil WITH ADMIN OPTION")
    server.sql(f"COMMENT ON ROLE {group} IS '{comment}'")
    before = state(server)
    with pytest.raises(AccessRefused, match=f"role {group} exists .* not made by this"):
        provide(server, asked(2, "payroll"), ledger=Ledger(made=made))
    assert [row for row in state(server) if row[0] == group] == [
        row for row in before if row[0] == group
    ]
    assert server.sql("SELECT 1 FROM pg_database WHERE datname = 'payroll'") == []
    # A withdrawal does not drop the role, and names it.
    left = do(server, lambda database: (database.withdraw(), database.left())[1])
    assert server.sql("SELECT 1 FROM pg_roles WHERE rolname = %s", (group,)) == [(1,)]
    assert [text for text in left if f"role {group}, whose comment" in text]
    if server.version >= 16:
        assert [text for text in left if text.startswith("role evil of PostgreSQL stays")]


def test_a_group_with_a_foreign_member_gets_no_new_client(server: PostgreSQL) -> None:
    made = provide(server, asked(1))
    server.sql("CREATE ROLE evil LOGIN PASSWORD 'x'")
    group = group_name(OWNER, "shop")
    server.sql(f"GRANT {group} TO evil")
    with pytest.raises(AccessRefused, match=f'run `REVOKE "{group}" FROM "evil"`'):
        provide(server, asked(2), ledger=Ledger(made=made))
    server.sql(f"REVOKE {group} FROM evil")
    server.sql(f"GRANT {group} TO relation_id_1 WITH ADMIN OPTION")
    with pytest.raises(AccessRefused, match="was given to relation_id_1, not by this"):
        provide(server, asked(2), ledger=Ledger(made=made))


def test_a_client_that_erases_its_comment_is_still_dropped(server: PostgreSQL) -> None:
    made = provide(server, asked(1, "shop", "createrole"), asked(2, "bank"))
    for name in ("relation_id_1", group_name(OWNER, "bank")):
        server.sql(f"COMMENT ON ROLE {name} IS NULL")
    ledger = Ledger(made=made)
    assert do(server, lambda database: database.users(), ledger=ledger) == {
        "relation_id_1",
        "relation_id_2",
    }
    do(server, lambda database: database.revoke("relation_id_1"), ledger=ledger)
    assert server.sql("SELECT 1 FROM pg_roles WHERE rolname = 'relation_id_1'") == []
    provide(server, asked(3, "bank"), ledger=ledger)
    do(server, lambda database: database.withdraw(), ledger=ledger)
    assert (
        server.sql(
            "SELECT rolname FROM pg_roles WHERE rolname ~ '^(relation|pgbouncer_[0-9a-f]{32})'"
        )
        == []
    )


def test_roles_of_a_killed_hook_are_found_by_their_signature(server: PostgreSQL) -> None:
    provide(server, asked(1))
    assert do(server, lambda database: database.made()).names(CLIENT) == {"relation_id_1"}
    server.sql("ALTER ROLE operator PASSWORD 'another'")
    try:
        backend = server.credentials(OWN, password="another")
        with PsycopgDatabases(OWNER).open(backend) as database:
            assert database.made().names(CLIENT) == set()
    finally:
        with server.connect(password="another") as connection:
            connection.execute(f"ALTER ROLE operator PASSWORD '{PASSWORD}'")


def test_oids_of_another_cluster_are_ignored(server: PostgreSQL) -> None:
    made = provide(server, asked(1))
    server.sql("COMMENT ON ROLE relation_id_1 IS NULL")
    elsewhere = made.model_copy(update={"cluster": "1"})
    found = do(server, lambda database: database.made(), ledger=Ledger(made=elsewhere))
    assert found.names(CLIENT) == set()
    assert found.cluster == made.cluster
    here = do(server, lambda database: database.made(), ledger=Ledger(made=made))
    assert here.names(CLIENT) == {"relation_id_1"}


def as_the_release_before(server: PostgreSQL) -> None:
    """Set comments without signatures, as an earlier release did."""
    rows = server.sql(
        "SELECT rolname, shobj_description(oid, 'pg_authid') FROM pg_roles"
        " WHERE shobj_description(oid, 'pg_authid') ~ '^managed by'"
    )
    for name, comment in rows:
        server.sql(f"COMMENT ON ROLE \"{name}\" IS '{comment.partition(' [')[0]}'")


def test_roles_of_an_earlier_release_are_taken_over_once(server: PostgreSQL) -> None:
    made = provide(server, asked(1), asked(2, "bank"))
    as_the_release_before(server)
    before = state(server)
    ledger = Ledger(provisioned_for="operator", grants=(asked(1),))
    taken = provide(server, asked(1), ledger=ledger)
    assert taken.roles == tuple(
        role
        for role in made.roles
        if role.name in (AUTH_USER, "relation_id_1", group_name(OWNER, "shop"))
    )
    # The comments of the roles in the ledger are signed now.
    assert str(state(server)).replace(" [signature]", "") == str(before)
    # A role that is not in the ledger is foreign, whatever its comment says.
    with pytest.raises(AccessRefused, match="role relation_id_2 exists"):
        provide(server, asked(2, "bank"), ledger=ledger)
    # So is every role without a signature and a recorded OID, once OIDs are recorded.
    as_the_release_before(server)
    with pytest.raises(DatabaseRefused, match=f"role {AUTH_USER} exists"):
        provide(server, ledger=Ledger(provisioned_for="operator", made=Made(cluster="1")))
    provide(server, asked(1), ledger=Ledger(made=taken))


def test_a_database_made_in_advance_is_not_given(server: PostgreSQL) -> None:
    made = provide(server, asked(1, "shop", "createdb"))
    as_client(server, 1, "CREATE DATABASE payroll")
    as_client(server, 1, "CREATE TABLE users (name text, password text)", "payroll")
    do(server, lambda database: database.provision(material(), OWN), ledger=Ledger(made=made))
    with pytest.raises(AccessRefused, match="database payroll appeared in PostgreSQL just now"):
        do(server, lambda database: database.grant(asked(2, "payroll")), ledger=Ledger(made=made))
    (found,) = (
        entry
        for entry in do(server, lambda database: database.server_databases())
        if entry.name == "payroll"
    )
    assert (found.owner, found.open) == ("relation_id_1", True)
    do(server, lambda database: database.close("payroll"))
    provide(server, asked(3, "bank"), ledger=Ledger(made=made))
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        as_client(server, 3, "SELECT 1", "payroll")
    assert as_client(server, 1, "SELECT 1", "payroll")


def test_a_copied_comment_does_not_prove_who_made_a_database(server: PostgreSQL) -> None:
    made = provide(server, asked(1))
    (shop,) = (
        entry
        for entry in do(server, lambda open_: open_.server_databases())
        if entry.name == "shop"
    )
    noted = OwnDatabase(name="shop", oid=shop.oid, application="shop-app")
    ledger = Ledger(made=made.model_copy(update={"databases": (noted,)}))
    do(server, lambda database: database.withdraw(), ledger=ledger)
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop'"
    ((comment,),) = server.sql(query)
    server.sql("CREATE DATABASE payroll")
    server.sql(f"COMMENT ON DATABASE payroll IS '{comment}'")
    found = {
        entry.name: entry.application
        for entry in do(server, lambda open_: open_.server_databases())
    }
    assert (found["shop"], found["payroll"]) == ("shop-app", "")


def test_no_client_gets_the_right_to_set_a_trigger(server: PostgreSQL) -> None:
    provide(server, asked(1), asked(2))
    as_client(server, 1, "CREATE TABLE t (i int)")
    rights = (
        "SELECT string_agg(p, ',') FROM unnest(%s::text[]) p"
        " WHERE has_table_privilege('relation_id_2', 't', p)"
    )
    listed = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES"]
    more = ["TRIGGER", *(["MAINTAIN"] if server.version >= 17 else [])]
    assert server.sql(rights, (listed + more,), database="shop") == [(",".join(listed),)]
    # An earlier release granted TRIGGER and MAINTAIN, also on future tables.
    group = group_name(OWNER, "shop")
    server.sql(
        f"ALTER DEFAULT PRIVILEGES FOR ROLE relation_id_1 GRANT ALL ON TABLES TO {group}",
        database="shop",
    )
    as_client(server, 1, f"GRANT ALL ON t TO {group}")
    provide(server, asked(1), asked(2))
    as_client(server, 1, "CREATE TABLE u (i int)")
    for table in ("t", "u"):
        found = server.sql(rights.replace("'t'", f"'{table}'"), (listed + more,), database="shop")
        assert found == [(",".join(listed),)]
    before = server.transactions()
    provide(server, asked(1), asked(2))
    assert server.transactions() == before


def test_functions_of_a_departed_client_run_as_their_callers(server: PostgreSQL) -> None:
    provide(server, asked(1), asked(2))
    as_client(
        server,
        1,
        'CREATE FUNCTION "it\'s a trap"() RETURNS text LANGUAGE sql SECURITY DEFINER'
        " AS 'SELECT current_user::text'",
    )
    as_client(server, 1, "CREATE TABLE t (i int)")
    as_client(
        server,
        1,
        "CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    )
    as_client(server, 1, "CREATE TRIGGER spy BEFORE INSERT ON t EXECUTE FUNCTION spy()")
    as_client(server, 1, "CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING")
    assert as_client(server, 2, 'SELECT "it\'s a trap"()') == [("relation_id_1",)]

    def leave(database):
        database.revoke("relation_id_1")
        return database.notes()

    disarmed, code = do(server, leave)
    assert disarmed.startswith(
        'user relation_id_1 left in database shop: public."it\'s a trap"(), now'
    )
    assert "rule r on table public.t, trigger spy on table public.t, run with the rights" in code
    assert as_client(server, 2, 'SELECT "it\'s a trap"()') == [("relation_id_2",)]

    def enter(database):
        database.grant(asked(3, "shop", "createrole"))
        return database.notes()

    (told,) = do(server, enter)
    assert told.startswith("clients that have gone left in database shop: rule r on table")


def test_inherited_code_runs_without_the_backend_users_rights(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE limited LOGIN CREATEROLE CREATEDB PASSWORD 'x'")
    server.sql("ALTER DATABASE pgbouncer OWNER TO limited")
    server.sql("GRANT SELECT ON pg_catalog.pg_authid TO limited", database=OWN)
    server.sql("GRANT CREATE ON SCHEMA public TO PUBLIC", database="postgres")
    backend = server.credentials(OWN, "limited", "x")
    with PsycopgDatabases(OWNER).open(backend) as database:
        database.provision(material(), OWN)
        for number in (1, 2):
            assert database.grant(asked(number, "shop"))
            database.set_password(login(number))
    as_client(
        server,
        1,
        "CREATE FUNCTION steal() RETURNS void LANGUAGE plpgsql SECURITY DEFINER"
        " AS $$ BEGIN ALTER ROLE pgbouncer_auth_operator PASSWORD 'stolen'; END $$",
        "postgres",
    )
    with PsycopgDatabases(OWNER).open(backend) as database:
        database.revoke("relation_id_1")
    query = """
        SELECT rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, prosecdef,
               EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid)
        FROM pg_proc JOIN pg_roles r ON r.oid = proowner WHERE proname = 'steal'
    """
    assert server.sql(query) == [(False,) * 6]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        as_client(server, 2, "SELECT steal()", "postgres")
    server.sql("DROP FUNCTION steal()")
    server.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")


def test_no_verifier_is_logged(server: PostgreSQL) -> None:
    server.sql("ALTER SYSTEM SET log_min_duration_statement = 0")
    server.sql("SELECT pg_reload_conf()")
    before = len(server.log)
    try:
        server.sql("SELECT pg_sleep(0.2)")
        provide(server, asked(1))
        log = server.log[before:]
    finally:
        server.sql("ALTER SYSTEM RESET ALL")
        server.sql("SELECT pg_reload_conf()")
    assert 'ALTER ROLE "relation_id_1" LOGIN' in log
    # The function get_auth, which is logged, has the beginning of a verifier in it.
    assert not re.search(r"SCRAM-SHA-256\$\d+:[A-Za-z0-9+/]", log)
    assert looked_up(server, "relation_id_1")[0][1].startswith("SCRAM-SHA-256$")
    assert server.sql("SELECT 1", database="shop", user="relation_id_1", password=CLIENT_PASSWORD)


def test_signatures_follow_a_new_password_of_the_backends_user(server: PostgreSQL) -> None:
    made = provide(server, asked(1))
    known = server.credentials(OWN)
    rotated = known.model_copy(update={"password": pydantic.SecretStr("AnotherPassword")})
    server.sql(f"ALTER ROLE {known.user} PASSWORD 'AnotherPassword'")
    try:
        databases = PsycopgDatabases(OWNER)
        with databases.open(rotated) as database:
            assert database.made().roles == ()
        with databases.open(rotated, Ledger(made=made)) as database:
            database.provision(material(), OWN)
        # Without the ledger, only signatures tell which roles are those of this application.
        with databases.open(rotated) as database:
            assert set(database.made().roles) == set(made.roles)
    finally:
        server.sql(
            f"ALTER ROLE {known.user} PASSWORD '{PASSWORD}'",
            user=known.user, password="AnotherPassword",
        )  # fmt: skip
