"""Clients get exactly what they asked for in a real PostgreSQL."""

from __future__ import annotations

import contextlib
import time
import traceback
from typing import TYPE_CHECKING

import psycopg
import pydantic
import pytest
from postgresql import ADMIN, PASSWORD, PostgreSQL
from provided import NEW_OWNER, as_client, do, looked_up, provide, roles_of_ours, state

from adapters.postgres.databases import PsycopgDatabases
from app.errors import AccessRefused, DatabaseRefused, DatabaseUnreachable
from domain.users import Grant, Login
from logins import AUTH_PASSWORD, AUTH_USER, CLIENT_PASSWORD, OWN, asked, login, material

if TYPE_CHECKING:
    from app.database_ports import Database

HOSTILE_NAMES = (
    'two "words"',
    "it's; DROP DATABASE postgres; --",
    "100%s %(x)s {y}",
    "back\\slash\\",
    "größe 数据 🐘",
    "CamelCase",
)


def test_a_new_client_cannot_log_in_before_it_has_a_password(
    server: PostgreSQL, databases: PsycopgDatabases
) -> None:
    backend = server.credentials(OWN)
    with databases.open(backend) as database:
        database.provision(material(), OWN)
        assert database.grant(asked(1))
        assert not databases.admits(backend, login(1), "shop")
        assert database.grant(asked(1)), "it has no password yet"
        database.set_password(login(1))
        assert not database.grant(asked(1))
        assert database.users() == {"relation_id_1"}
    assert databases.admits(backend, login(1), "shop")
    assert not databases.admits(backend, login(1, "another"), "shop")
    assert not databases.admits(backend, login(1), "nowhere")


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_every_valid_name_of_a_database_works(server: PostgreSQL, name: str) -> None:
    user = f"user {name}"[:40]
    credentials = Login(username=user, password=pydantic.SecretStr(CLIENT_PASSWORD))

    def act(database: Database) -> None:
        database.provision(material().model_copy(update={"auth_user": f"auth {name}"}), OWN)
        database.grant(Grant(relation_id=1, username=user, database=name))
        database.set_password(credentials)
        assert database.users() == {user}

    do(server, act)
    server.sql("CREATE TABLE t ()", database=name, user=user, password=CLIENT_PASSWORD)
    before = server.transactions()
    do(server, act)
    assert server.transactions() == before
    do(server, lambda database: database.revoke(user))
    do(server, lambda database: database.withdraw())
    assert server.sql("SELECT FROM t", database=name) == []
    assert roles_of_ours(server) == []


def test_a_name_that_is_too_long_concerns_a_single_client(server: PostgreSQL) -> None:
    with pytest.raises(AccessRefused, match="longer than 63 bytes"):
        provide(server, asked(1, "ü" * 32))
    with pytest.raises(AccessRefused, match="longer than 63 bytes"):
        provide(server, Grant(relation_id=1, username="r" * 64, database="shop"))


def test_clients_of_different_databases_cannot_connect_to_each_other(server: PostgreSQL) -> None:
    provide(server, asked(1, "shop"), asked(2, "bank"))
    as_client(server, 1, "CREATE TABLE t AS SELECT 1", "shop")
    for number, database in ((1, "bank"), (2, "shop"), (1, OWN), (2, OWN)):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            as_client(server, number, "SELECT 1", database)


def test_clients_of_a_database_share_the_objects_that_they_create(server: PostgreSQL) -> None:
    provide(server, asked(1), asked(2))
    as_client(server, 1, "CREATE TABLE t (i serial, x text)")
    as_client(server, 1, "CREATE SCHEMA s")
    as_client(server, 1, "CREATE TYPE s.mood AS ENUM ('ok')")
    as_client(server, 1, "CREATE TABLE s.u (m s.mood)")
    as_client(server, 1, "CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    as_client(server, 1, "REVOKE ALL ON FUNCTION s.f() FROM PUBLIC")
    as_client(server, 2, "INSERT INTO t (x) VALUES ('from 2')")
    as_client(server, 2, "INSERT INTO s.u VALUES ('ok')")
    as_client(server, 2, "CREATE TABLE s.v (i int)")
    assert as_client(server, 2, "SELECT s.f()") == [(1,)]
    assert as_client(server, 1, "SELECT x FROM t") == [("from 2",)]
    assert as_client(server, 1, "SELECT * FROM s.v") == []
    # A later client finds all objects.
    provide(server, asked(3))
    assert as_client(server, 3, "DELETE FROM t RETURNING x") == [("from 2",)]


def test_objects_of_a_departed_client_stay_with_other_clients(server: PostgreSQL) -> None:
    provide(server, asked(1), asked(2))
    as_client(server, 1, "CREATE SCHEMA s CREATE TABLE t (i serial)")
    as_client(server, 1, "CREATE VIEW s.v AS SELECT i FROM s.t")
    as_client(server, 1, "SELECT lo_create(4711)")
    with server.connect("shop", "relation_id_1", CLIENT_PASSWORD) as session:
        session.execute("CREATE TEMPORARY TABLE mine (i int)")
        session.execute("BEGIN")
        session.execute("INSERT INTO s.t DEFAULT VALUES")
        do(server, lambda database: database.revoke("relation_id_1"))
        with pytest.raises(psycopg.OperationalError):
            session.execute("COMMIT")
        session.close()
    assert do(server, lambda database: database.users()) == {"relation_id_2"}
    as_client(server, 2, "INSERT INTO s.t DEFAULT VALUES")
    as_client(server, 2, "ALTER TABLE s.t ADD COLUMN x text")
    assert as_client(server, 2, "SELECT count(*) FROM s.v") == [(1,)]
    assert server.sql("SELECT rolname FROM pg_roles WHERE rolname = 'relation_id_1'") == []
    do(server, lambda database: database.revoke("relation_id_1"))
    do(server, lambda database: database.revoke("relation_id_2"))
    # No client is left; a later client finds all objects.
    provide(server, asked(3))
    as_client(server, 3, "INSERT INTO s.t DEFAULT VALUES")
    as_client(server, 3, "DROP TABLE s.t CASCADE")


def test_databases_that_a_client_created_stay_after_it_leaves(server: PostgreSQL) -> None:
    provide(server, asked(1, "shop", "createdb"))
    as_client(server, 1, "CREATE DATABASE warehouse")
    query = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'warehouse'"
    assert server.sql(query) == [("relation_id_1",)]
    as_client(server, 1, "CREATE TABLE t (i int)", "warehouse")
    do(server, lambda database: database.revoke("relation_id_1"))
    ((owner,),) = server.sql(query)
    assert NEW_OWNER.fullmatch(owner)
    assert server.sql(
        "SELECT tableowner FROM pg_tables WHERE tablename = 't'", database="warehouse"
    ) == [(owner,)]
    provide(server, asked(2, "warehouse"))
    as_client(server, 2, "INSERT INTO t VALUES (1)", "warehouse")


def test_an_existing_database_is_shared_as_it_is(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE dba LOGIN PASSWORD 'x'")
    server.sql("CREATE DATABASE old OWNER dba")
    for statement in (
        "CREATE SCHEMA app",
        "CREATE TABLE app.t (i serial, x text)",
        "CREATE VIEW app.v AS SELECT x FROM app.t",
        "CREATE TABLE top (i int)",
        "INSERT INTO app.t (x) VALUES ('kept')",
    ):
        server.sql(statement, database="old", user="dba", password="x")
    provide(server, asked(1, "old"))
    assert as_client(server, 1, "SELECT x FROM app.v", "old") == [("kept",)]
    as_client(server, 1, "INSERT INTO app.t (x) VALUES ('new')", "old")
    as_client(server, 1, "INSERT INTO top VALUES (1)", "old")
    as_client(server, 1, "CREATE TABLE public.mine (i int)", "old")
    before = server.transactions()
    provide(server, asked(1, "old"))
    assert server.transactions() == before
    assert server.sql("SELECT has_database_privilege('public', 'old', 'CONNECT')") == [(True,)]
    do(server, lambda database: database.withdraw())
    assert server.sql("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'old'") == [
        ("dba",)
    ]
    ((owner,),) = server.sql(
        "SELECT tableowner FROM pg_tables WHERE tablename = 'mine'", database="old"
    )
    assert NEW_OWNER.fullmatch(owner)


def test_a_setting_of_a_database_owner_does_not_stop_the_charm(server: PostgreSQL) -> None:
    provide(server, asked(1))
    as_client(server, 1, "ALTER DATABASE shop SET default_transaction_read_only = on")
    as_client(
        server, 1, "SET transaction_read_only = off; ALTER DATABASE shop SET search_path = x"
    )
    provide(server, asked(1), asked(2))
    do(server, lambda database: database.revoke("relation_id_1"))
    assert do(server, lambda database: database.users()) == {"relation_id_2"}


def test_roles_are_granted_and_revoked_with_the_request(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE charmed_dml")
    server.sql("CREATE ROLE of_the_dba")
    provide(server, asked(1, "shop", "charmed_dml", "createdb", "createrole"))
    server.sql("GRANT of_the_dba TO relation_id_1")
    query = "SELECT rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'relation_id_1'"
    has = "SELECT pg_has_role('relation_id_1', %s, 'MEMBER')"
    assert server.sql(query) == [(True, True)]
    assert server.sql(has, ("charmed_dml",)) == [(True,)]
    provide(server, asked(1))
    assert server.sql(query) == [(False, False)]
    assert server.sql(has, ("charmed_dml",)) == [(False,)]
    assert server.sql(has, ("of_the_dba",)) == [(True,)]


def test_role_admin_includes_createdb_as_in_the_postgresql_charm(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE admin")
    provide(server, asked(1, "shop", "admin"))
    as_client(server, 1, "CREATE DATABASE warehouse")
    query = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'warehouse'"
    assert server.sql(query) == [("relation_id_1",)]


def test_a_role_that_does_not_exist_concerns_a_single_client(server: PostgreSQL) -> None:
    def act(database: Database) -> None:
        database.provision(material(), OWN)
        with pytest.raises(AccessRefused, match=r"^PostgreSQL has no role charmed_admin: "):
            database.grant(asked(1, "shop", "charmed_admin"))
        assert database.users() == frozenset()
        database.grant(asked(2))

    do(server, act)


def test_no_client_joins_a_role_that_can_log_in(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE admin LOGIN")
    with pytest.raises(AccessRefused, match="role admin of PostgreSQL is a user"):
        provide(server, asked(1, "shop", "admin"))


@pytest.mark.parametrize("attribute", ["SUPERUSER", "REPLICATION", "BYPASSRLS"])
def test_a_privileged_group_for_pg_hba_conf_is_refused(server: PostgreSQL, attribute: str) -> None:
    server.sql(f"CREATE ROLE relation_access {attribute}")
    with pytest.raises(AccessRefused, match="role relation_access of PostgreSQL has more power"):
        provide(server)


def test_foreign_roles_are_not_changed(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE relation_id_1 LOGIN PASSWORD 'x'")
    server.sql(f"CREATE ROLE {AUTH_USER} LOGIN PASSWORD 'x'")
    server.sql("COMMENT ON ROLE relation_id_1 IS 'managed by pgbouncer-k8s for another/app'")
    before = state(server)
    with pytest.raises(DatabaseRefused, match=rf"role {AUTH_USER} exists .* not made by this"):
        do(server, lambda database: database.provision(material(), OWN))
    with pytest.raises(AccessRefused, match=r"role relation_id_1 exists .* not made by this"):
        do(server, lambda database: database.grant(asked(1)))
    with pytest.raises(DatabaseRefused, match="role relation_id_1 exists"):
        do(server, lambda database: database.set_password(login(1)))
    with pytest.raises(DatabaseRefused, match="no user relation_id_2"):
        do(server, lambda database: database.set_password(login(2)))
    do(server, lambda database: database.revoke("relation_id_1"))
    do(server, lambda database: database.revoke(ADMIN))
    do(server, lambda database: database.withdraw())
    assert state(server) == before


def test_two_applications_use_separate_roles(server: PostgreSQL) -> None:
    provide(server, asked(1))
    do(server, lambda database: database.grant(asked(2, "bank")), owner="another/app")
    assert do(server, lambda database: database.users()) == {"relation_id_1"}
    assert do(server, lambda database: database.users(), "another/app") == {"relation_id_2"}
    do(server, lambda database: database.withdraw(), owner="another/app")
    assert do(server, lambda database: database.users()) == {"relation_id_1"}
    assert looked_up(server, "relation_id_1")


def test_a_second_run_writes_nothing(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE relation_access")
    server.sql("CREATE ROLE charmed_read")
    grants = (asked(1), asked(2, "shop", "charmed_read", "createdb"), asked(3, "bank"))
    provide(server, *grants)
    as_client(server, 1, "CREATE SCHEMA s CREATE TABLE t (i serial)")
    provide(server, *grants)

    def again(database: Database) -> None:
        database.provision(material(), OWN)
        for grant in grants:
            assert not database.grant(grant)
            database.set_password(login(grant.relation_id))
        database.revoke("relation_id_99")

    before = server.transactions()
    do(server, again)
    assert server.transactions() == before


def test_no_password_reaches_the_log_of_the_server(server: PostgreSQL) -> None:
    provide(server, asked(1))
    do(server, lambda database: database.set_password(login(1, "PasswordNumberTwo")))
    server.sql("SELECT 'the end of this test'")
    log = server.log
    assert "the end of this test" in log
    assert "relation_id_1" in log
    for password in (AUTH_PASSWORD, CLIENT_PASSWORD, "PasswordNumberTwo", PASSWORD):
        assert password not in log


def test_a_password_that_is_not_ascii_is_refused_and_not_shown(server: PostgreSQL) -> None:
    provide(server, asked(1))
    password = "P\u00e4ssw\u00f6rd"
    with pytest.raises(DatabaseRefused, match="other than ASCII") as caught:
        do(server, lambda database: database.set_password(login(1, password)))
    assert password not in "".join(traceback.format_exception(caught.value))


def test_a_lock_of_another_session_delays_a_hook_only_briefly(server: PostgreSQL) -> None:
    provide(server, asked(1))
    as_client(server, 1, "CREATE TABLE t (i int)")
    with server.connect("shop") as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE t IN ACCESS SHARE MODE")
        start = time.monotonic()
        with pytest.raises(
            DatabaseRefused, match="something in database shop is locked by user operator"
        ):
            do(server, lambda database: database.revoke("relation_id_1"))
        assert time.monotonic() - start < 3
    assert do(server, lambda database: database.users()) == {"relation_id_1"}
    do(server, lambda database: database.revoke("relation_id_1"))
    assert server.sql("SELECT FROM t", database="shop") == []


def test_a_client_whose_drop_was_interrupted_can_return(server: PostgreSQL) -> None:
    provide(server, asked(1))
    server.sql("ALTER ROLE relation_id_1 NOLOGIN")
    provide(server, asked(1))
    assert as_client(server, 1, "SELECT 1")


def test_a_client_waits_for_its_rule_in_pg_hba_conf(databases: PsycopgDatabases) -> None:
    with PostgreSQL(hba_delay=0.5) as server:
        server.sql(f"CREATE DATABASE {OWN}")
        backend = server.credentials(OWN)
        with databases.open(backend) as database:
            database.provision(material(), OWN)
            time.sleep(1.1)
            database.grant(asked(1))
            database.set_password(login(1))
        start = time.monotonic()
        assert databases.admits(backend, login(1), "shop")
        assert time.monotonic() - start < 2
    with PostgreSQL(hba_delay=60) as server:
        server.sql(f"CREATE DATABASE {OWN}")
        backend = server.credentials(OWN)
        with databases.open(backend) as database:
            database.provision(material(), OWN)
            database.grant(asked(1))
            database.set_password(login(1))
        start = time.monotonic()
        assert not databases.admits(backend, login(1), "shop")
        assert 1 < time.monotonic() - start < 2
        server.stop()
        with pytest.raises(DatabaseUnreachable):
            databases.admits(backend, login(1), "shop")


@pytest.mark.parametrize("cause", ["a session in template1", "a closed database"])
def test_a_client_that_cannot_move_keeps_its_database(server, cause):
    provide(server, asked(1, "shop"))
    session = contextlib.nullcontext()
    if cause == "a session in template1":
        session = server.connect("template1")
    else:
        server.sql("CREATE DATABASE store")
        server.sql("ALTER DATABASE store ALLOW_CONNECTIONS false")
    with session, pytest.raises((AccessRefused, DatabaseRefused)):
        provide(server, asked(1, "store"))
    assert as_client(server, 1, "SELECT 1") == [(1,)]


def test_a_client_that_locks_its_database_keeps_no_role(server):
    groups = ("charmed_read", "createdb")
    server.sql("CREATE ROLE charmed_read")
    provide(server, asked(1, "shop", *groups))
    with server.connect("shop") as session:
        session.execute("BEGIN; LOCK TABLE pg_class IN ACCESS EXCLUSIVE MODE")
        with pytest.raises((AccessRefused, DatabaseRefused)):
            provide(server, asked(1, "shop"))
        row = """
            SELECT rolcreatedb, pg_has_role(oid, 'charmed_read', 'MEMBER')
            FROM pg_roles WHERE rolname = 'relation_id_1'
        """
        assert server.sql(row) == [(False, False)]
    assert as_client(server, 1, "SELECT 1") == [(1,)]
