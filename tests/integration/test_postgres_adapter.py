"""Does the adapter keep its word with a real PostgreSQL?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pydantic
import pytest
from postgresql import ADMIN, PASSWORD, PostgreSQL, free_port
from psycopg import sql

from adapters.postgres import PsycopgDatabases
from app.errors import AccessRefused, DatabaseRefused, DatabaseUnreachable
from domain.facts import Credentials as BackendCredentials
from domain.pools import Endpoint
from domain.users import AuthMaterial, Credentials, Grant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from app.ports import Database, Databases

OWN = "pgbouncer"  # the database that the backend gave us
AUTH_USER = "pgbouncer_auth_operator"
AUTH_PASSWORD = "PasswordOfTheAuthUser"
CLIENT_PASSWORD = "PasswordOfOneClient"
OWNER = "a-model/pooler"

HOSTILE_NAMES = (
    'two "words"',
    "it's; DROP DATABASE postgres; --",
    "100%s %(x)s {y}",
    "back\\slash\\",
    "größe 数据 🐘",
    "CamelCase",
)


@pytest.fixture
def server(postgresql: PostgreSQL) -> Iterator[PostgreSQL]:
    postgresql.sql(f"CREATE DATABASE {OWN}")
    yield postgresql
    postgresql.wipe()


@pytest.fixture
def databases() -> PsycopgDatabases:
    return PsycopgDatabases(OWNER)


def material(password: str = AUTH_PASSWORD) -> AuthMaterial:
    other = pydantic.SecretStr("unused")
    return AuthMaterial(
        auth_user=AUTH_USER,
        auth_password=pydantic.SecretStr(password),
        stats_user="stats",
        stats_password=other,
        admin_user="admin",
        admin_password=other,
    )


def client(number: int, password: str = CLIENT_PASSWORD) -> Credentials:
    return Credentials(username=f"relation_id_{number}", password=pydantic.SecretStr(password))


def asked(number: int, database: str = "shop", *roles: str) -> Grant:
    username = f"relation_id_{number}"
    return Grant(relation_id=number, username=username, database=database, roles=roles)


def do(server: PostgreSQL, act: Callable[[Database], Any], owner: str = OWNER) -> Any:
    with PsycopgDatabases(owner).open(server.credentials(OWN)) as database:
        return act(database)


def provide(server: PostgreSQL, *grants: Grant) -> None:
    """The auth user, and clients with a password."""

    def act(database: Database) -> None:
        database.provision(material(), OWN)
        for grant in grants:
            if database.grant(grant):
                database.set_password(client(grant.relation_id))

    do(server, act)


def as_client(server: PostgreSQL, number: int, statement: str, database: str = "shop") -> Any:
    user = f"relation_id_{number}"
    return server.sql(statement, database=database, user=user, password=CLIENT_PASSWORD)


def looked_up(server: PostgreSQL, name: str) -> Any:
    """What PgBouncer finds for a user."""
    query = "SELECT username, password FROM pgbouncer.get_auth($1)".replace("$1", "%s")
    return server.sql(query, (name,), database=OWN, user=AUTH_USER, password=AUTH_PASSWORD)


def state(server: PostgreSQL) -> list[Any]:
    """All that the adapter could have changed, apart from what is inside of tables."""
    found: list[Any] = []
    found += server.sql(
        """
        SELECT r.rolname, rolcanlogin, rolcreatedb, rolcreaterole, rolpassword,
               shobj_description(r.oid, 'pg_authid'),
               ARRAY(SELECT m.roleid::regrole::text FROM pg_auth_members m
                     WHERE m.member = r.oid ORDER BY 1)
        FROM pg_authid r WHERE rolname !~ '^pg_' ORDER BY 1
        """
    )
    rows = server.sql(
        """
        SELECT datname, pg_get_userbyid(datdba), datacl::text FROM pg_database
        WHERE NOT datistemplate ORDER BY 1
        """
    )
    for name, owner, rights in rows:
        found.append((name, owner, sorted(str(rights).strip("{}").split(","))))
        found += server.sql(
            """
            SELECT nspname, pg_get_userbyid(nspowner), nspacl::text FROM pg_namespace
            WHERE nspname !~ '^pg_' ORDER BY 1
            """,
            database=name,
        )
        found += server.sql(
            """
            SELECT pg_get_userbyid(defaclrole), defaclobjtype, defaclacl::text
            FROM pg_default_acl ORDER BY 1, 2
            """,
            database=name,
        )
        found += server.sql(
            """
            SELECT relname, pg_get_userbyid(relowner) FROM pg_class
            WHERE relnamespace = 'public'::regnamespace ORDER BY 1
            """,
            database=name,
        )
    return found


# Connections.


def test_importing_the_adapter_imports_no_driver() -> None:
    code = "import adapters.postgres, sys; assert not [m for m in sys.modules if 'psycopg' in m]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_server_that_is_not_there_is_unreachable(databases: PsycopgDatabases) -> None:
    backend = BackendCredentials(
        user="x",
        password=pydantic.SecretStr("secret"),
        database="y",
        endpoints=(Endpoint(host="127.0.0.1", port=free_port()), Endpoint(host="::1", port=1)),
    )
    with pytest.raises(DatabaseUnreachable, match=r"127\.0\.0\.1:\d+, \[::1\]:1 does not answer"):
        databases.open(backend).__enter__()
    assert not databases.answers(backend)
    with pytest.raises(DatabaseUnreachable):
        databases.admits(backend, client(1), "shop")


def test_a_silent_server_costs_its_timeout_only_once() -> None:
    with PostgreSQL() as server, server.frozen():
        backend, databases = server.credentials(), PsycopgDatabases(OWNER)
        start = time.monotonic()
        assert not databases.answers(backend)
        assert time.monotonic() - start < 2
        start = time.monotonic()
        for _ in range(5):
            with pytest.raises(DatabaseUnreachable):
                databases.open(backend).__enter__()
            assert not databases.answers(backend)
        assert time.monotonic() - start < 0.1


def test_a_server_answers_without_a_login(server: PostgreSQL, databases: PsycopgDatabases) -> None:
    dead = Endpoint(host="127.0.0.1", port=free_port())
    backend = server.credentials(password="wrong")
    backend = backend.model_copy(update={"endpoints": (dead, server.endpoint)})
    assert databases.answers(backend)


def test_what_speaks_another_protocol_does_not_answer(databases: PsycopgDatabases) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            connection.close()

        threading.Thread(target=greet, daemon=True).start()
        backend = BackendCredentials(
            user="x",
            password=pydantic.SecretStr("secret"),
            database="y",
            endpoints=(Endpoint(host="127.0.0.1", port=listener.getsockname()[1]),),
        )
        assert not databases.answers(backend)


def test_an_ipv6_endpoint_works(databases: PsycopgDatabases) -> None:
    with PostgreSQL(settings={"listen_addresses": "127.0.0.1,::1"}) as server:
        server.admit(f"host all {ADMIN} ::1/128 scram-sha-256")
        endpoints = (Endpoint(host="::1", port=server.port),)
        backend = server.credentials().model_copy(update={"endpoints": endpoints})
        assert databases.answers(backend)
        for _ in range(20):
            try:
                with databases.open(backend) as database:
                    assert database.users() == frozenset()
                return
            except DatabaseRefused:  # until it has read its file again
                time.sleep(0.05)
        raise AssertionError("IPv6 is refused")


def test_a_refusal_is_a_sentence_without_the_password(
    server: PostgreSQL, databases: PsycopgDatabases
) -> None:
    backend = server.credentials(OWN, password="TheWrongPassword")
    with pytest.raises(DatabaseRefused, match="refuses user operator: password") as caught:
        databases.open(backend).__enter__()
    text = "".join(traceback.format_exception(caught.value))
    assert "TheWrongPassword" not in text
    assert "\n" not in str(caught.value)
    with pytest.raises(DatabaseRefused, match='database "nowhere" does not exist'):
        databases.open(server.credentials("nowhere")).__enter__()


def test_a_standby_takes_no_changes_and_the_primary_is_found(
    server: PostgreSQL, databases: PsycopgDatabases
) -> None:
    with PostgreSQL(standby_of=server) as standby:
        alone = standby.credentials("postgres")
        with pytest.raises(DatabaseRefused, match="PostgreSQL takes no changes now"):
            databases.open(alone).__enter__()
        both = (standby.endpoint, server.endpoint)
        with databases.open(alone.model_copy(update={"endpoints": both})) as database:
            assert database.users() == frozenset()
        two_replicas = alone.model_copy(update={"endpoints": (standby.endpoint, standby.endpoint)})
        with pytest.raises(DatabaseRefused, match="read-only"):
            databases.open(two_replicas).__enter__()


def test_a_server_that_was_made_read_only_takes_no_changes(
    server: PostgreSQL, databases: PsycopgDatabases
) -> None:
    server.sql(f"ALTER DATABASE {OWN} SET default_transaction_read_only = on")
    with pytest.raises(DatabaseRefused, match="read-only"):
        databases.open(server.credentials(OWN)).__enter__()


def test_a_lost_connection_is_unreachable(server: PostgreSQL, databases: PsycopgDatabases) -> None:
    def loses_its_connection() -> None:
        with databases.open(server.credentials(OWN)) as database:
            server.sql(
                "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
                " WHERE application_name = 'pgbouncer-k8s'"
            )
            database.users()

    with pytest.raises(DatabaseUnreachable, match="broke off"):
        loses_its_connection()


def test_a_server_that_falls_silent_is_unreachable(server: PostgreSQL) -> None:
    def hears_nothing_more() -> None:
        with PsycopgDatabases(OWNER, patience=1).open(server.credentials(OWN)) as database:
            [(pid,)] = server.sql(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbouncer-k8s'"
            )
            os.kill(pid, signal.SIGSTOP)
            try:
                database.users()
            finally:
                os.kill(pid, signal.SIGCONT)

    with pytest.raises(DatabaseUnreachable, match="broke off"):
        hears_nothing_more()


# The auth user and its function.


def test_the_auth_user_looks_up_clients(server: PostgreSQL) -> None:
    provide(server, asked(1))
    [(name, secret)] = looked_up(server, "relation_id_1")
    assert name == "relation_id_1"
    assert secret.startswith("SCRAM-SHA-256$")
    assert looked_up(server, "nobody") == []
    assert looked_up(server, "' OR true --") == []


def test_the_mighty_and_the_expired_are_not_looked_up(server: PostgreSQL) -> None:
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
        assert bool(looked_up(server, name)) is found, name
    assert looked_up(server, ADMIN) == []


def test_nobody_else_may_look_up(server: PostgreSQL) -> None:
    provide(server, asked(1))
    server.sql("CREATE ROLE stranger LOGIN PASSWORD 'x'")
    server.sql(f"GRANT CONNECT ON DATABASE {OWN} TO stranger")
    server.sql("GRANT USAGE ON SCHEMA pgbouncer TO stranger", database=OWN)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        server.sql(
            "SELECT * FROM pgbouncer.get_auth('stranger')",
            database=OWN,
            user="stranger",
            password="x",
        )
    provide(server)  # Takes back what it did not give.
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="schema pgbouncer"):
        server.sql(
            "SELECT * FROM pgbouncer.get_auth('stranger')",
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
    assert looked_up(server, "expired") == []
    server.sql(f"GRANT TEMPORARY ON DATABASE {OWN} TO {AUTH_USER}")
    with server.connect(OWN, AUTH_USER, AUTH_PASSWORD) as connection:
        connection.execute("CREATE TEMPORARY TABLE pg_authid (rolname text, rolpassword text)")
        connection.execute("INSERT INTO pg_temp.pg_authid VALUES ('operator', 'forged')")
        connection.execute("SET search_path = pg_temp, evil, pg_catalog")
        found = connection.execute("SELECT * FROM pgbouncer.get_auth('operator')").fetchall()
    assert found == []


def test_a_password_is_changed_only_to_another(server: PostgreSQL) -> None:
    provide(server)
    before = server.transactions()
    do(server, lambda database: database.provision(material(), OWN))
    assert server.transactions() == before
    do(server, lambda database: database.provision(material("AnotherPassword"), OWN))
    assert server.sql("SELECT 1", database=OWN, user=AUTH_USER, password="AnotherPassword")


@pytest.mark.parametrize(
    "damage",
    [
        "CREATE OR REPLACE FUNCTION pgbouncer.get_auth(p_username text) RETURNS"
        " TABLE(username text, password text) LANGUAGE sql SECURITY DEFINER AS"
        " $$SELECT 'x', 'y'$$",
        "ALTER FUNCTION pgbouncer.get_auth RESET ALL",
        "ALTER FUNCTION pgbouncer.get_auth OWNER TO stranger",
        "GRANT ALL ON FUNCTION pgbouncer.get_auth TO PUBLIC",
        "GRANT EXECUTE ON FUNCTION pgbouncer.get_auth TO stranger WITH GRANT OPTION",
        "GRANT ALL ON SCHEMA pgbouncer TO PUBLIC",
        f"GRANT ALL ON SCHEMA pgbouncer TO {AUTH_USER}",
        f"REVOKE ALL ON FUNCTION pgbouncer.get_auth FROM {AUTH_USER}",
        "DROP FUNCTION pgbouncer.get_auth",
        "ALTER SCHEMA pgbouncer OWNER TO stranger",
        f"ALTER ROLE {AUTH_USER} NOLOGIN CREATEROLE",
        f"GRANT CONNECT ON DATABASE {OWN} TO PUBLIC",
        f"REVOKE CONNECT ON DATABASE {OWN} FROM {AUTH_USER}",
    ],
)
def test_what_was_damaged_is_repaired(server: PostgreSQL, damage: str) -> None:
    server.sql("CREATE ROLE stranger")
    provide(server)
    query = """
        SELECT proacl::text, nspacl::text, prosrc, proconfig, prosecdef, proowner, nspowner,
               datacl::text, rolcanlogin, rolcreaterole
        FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace, pg_database d, pg_roles r
        WHERE nspname = 'pgbouncer' AND datname = %s AND rolname = %s
    """

    def look() -> list[Any]:
        rows = server.sql(query, (OWN, AUTH_USER), database=OWN)
        return [tuple(sorted(c) if isinstance(c, str) else c for c in row) for row in rows]

    before = look()
    server.sql(damage, database=OWN)
    assert look() != before
    provide(server)
    assert look() == before


def test_a_schema_of_somebody_else_is_refused_and_untouched(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE stranger")
    server.sql("CREATE SCHEMA pgbouncer AUTHORIZATION stranger", database=OWN)
    with pytest.raises(DatabaseRefused, match="belongs to stranger and was not made by"):
        provide(server)
    do(server, lambda database: database.withdraw())
    assert server.sql("SELECT 1 FROM pg_namespace WHERE nspname = 'pgbouncer'", database=OWN)


def test_strange_functions_beside_ours_are_refused(server: PostgreSQL) -> None:
    provide(server)
    server.sql(
        "CREATE FUNCTION pgbouncer.get_auth(varchar) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        database=OWN,
    )
    with pytest.raises(DatabaseRefused, match="functions that were not made by this application"):
        provide(server)


def test_what_a_former_backend_user_left_is_taken_over(server: PostgreSQL) -> None:
    """The PostgreSQL charms give what a relation's user owned to their own, and drop it."""
    server.sql("CREATE ROLE former LOGIN SUPERUSER PASSWORD 'x'")
    with PsycopgDatabases(OWNER).open(server.credentials(OWN, "former", "x")) as database:
        database.provision(material(), OWN)
        database.grant(asked(1))
        database.set_password(client(1))
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


def test_the_charms_group_for_pg_hba_is_joined(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE relation_access")
    provide(server, asked(1))
    members = server.sql(
        "SELECT member::regrole::text FROM pg_auth_members"
        " WHERE roleid = 'relation_access'::regrole ORDER BY 1"
    )
    assert members == [(AUTH_USER,), ("relation_id_1",)]


# Clients.


def test_a_new_client_has_no_way_in_before_its_password(
    server: PostgreSQL, databases: PsycopgDatabases
) -> None:
    backend = server.credentials(OWN)
    with databases.open(backend) as database:
        database.provision(material(), OWN)
        assert database.grant(asked(1))
        assert not databases.admits(backend, client(1), "shop")
        assert database.grant(asked(1)), "it has no password yet"
        database.set_password(client(1))
        assert not database.grant(asked(1))
        assert database.users() == {"relation_id_1"}
    assert databases.admits(backend, client(1), "shop")
    assert not databases.admits(backend, client(1, "another"), "shop")
    assert not databases.admits(backend, client(1), "nowhere")


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_any_name_is_just_a_name(server: PostgreSQL, name: str) -> None:
    user = f"user {name}"[:40]
    credentials = Credentials(username=user, password=pydantic.SecretStr(CLIENT_PASSWORD))

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
    assert not [row for row in state(server) if str(row[5:6]).find("managed by") >= 0]


def test_a_name_that_is_too_long_concerns_one_client(server: PostgreSQL) -> None:
    with pytest.raises(AccessRefused, match="longer than 63 bytes"):
        provide(server, asked(1, "ü" * 32))
    with pytest.raises(AccessRefused, match="longer than 63 bytes"):
        provide(server, Grant(relation_id=1, username="r" * 64, database="shop"))


def test_clients_of_different_databases_do_not_meet(server: PostgreSQL) -> None:
    provide(server, asked(1, "shop"), asked(2, "bank"))
    as_client(server, 1, "CREATE TABLE t AS SELECT 1", "shop")
    for number, database in ((1, "bank"), (2, "shop"), (1, OWN), (2, OWN)):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            as_client(server, number, "SELECT 1", database)


def test_clients_of_one_database_share_what_they_make(server: PostgreSQL) -> None:
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
    # One more, later, finds everything.
    provide(server, asked(3))
    assert as_client(server, 3, "DELETE FROM t RETURNING x") == [("from 2",)]


def test_what_a_client_leaves_the_others_use(server: PostgreSQL) -> None:
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
    # Nobody is left; who comes later finds it all.
    provide(server, asked(3))
    as_client(server, 3, "INSERT INTO s.t DEFAULT VALUES")
    as_client(server, 3, "DROP TABLE s.t CASCADE")


def test_a_client_that_makes_databases_leaves_them(server: PostgreSQL) -> None:
    provide(server, asked(1, "shop", "createdb"))
    as_client(server, 1, "CREATE DATABASE warehouse")
    as_client(server, 1, "CREATE TABLE t (i int)", "warehouse")
    do(server, lambda database: database.revoke("relation_id_1"))
    assert server.sql(
        "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname='warehouse'"
    ) == [(ADMIN,)]
    assert server.sql(
        "SELECT tableowner FROM pg_tables WHERE tablename = 't'", database="warehouse"
    ) == [("pg_database_owner",)]
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
    assert server.sql("SELECT * FROM mine", database="old", user="dba", password="x") == []


def test_an_owners_setting_does_not_lock_us_out(server: PostgreSQL) -> None:
    provide(server, asked(1))
    as_client(server, 1, "ALTER DATABASE shop SET default_transaction_read_only = on")
    as_client(
        server, 1, "SET transaction_read_only = off; ALTER DATABASE shop SET search_path = x"
    )
    provide(server, asked(1), asked(2))
    do(server, lambda database: database.revoke("relation_id_1"))


def test_roles_come_and_go_with_the_request(server: PostgreSQL) -> None:
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


def test_admin_may_make_databases_as_with_the_postgresql_charm(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE admin")
    provide(server, asked(1, "shop", "admin"))
    as_client(server, 1, "CREATE DATABASE warehouse")


def test_a_role_that_does_not_exist_concerns_one_client(server: PostgreSQL) -> None:
    def act(database: Database) -> None:
        database.provision(material(), OWN)
        with pytest.raises(AccessRefused, match=r"^PostgreSQL has no role charmed_admin$"):
            database.grant(asked(1, "shop", "charmed_admin"))
        assert database.users() == frozenset()
        database.grant(asked(2))

    do(server, act)


@pytest.mark.parametrize("attribute", ["SUPERUSER", "REPLICATION", "BYPASSRLS", "LOGIN"])
def test_no_client_joins_a_role_that_is_more_than_a_group(
    server: PostgreSQL, attribute: str
) -> None:
    server.sql(f"CREATE ROLE admin {attribute}")
    with pytest.raises(AccessRefused, match="role admin of PostgreSQL"):
        provide(server, asked(1, "shop", "admin"))


def test_foreign_roles_are_not_touched(server: PostgreSQL) -> None:
    server.sql("CREATE ROLE relation_id_1 LOGIN PASSWORD 'x'")
    server.sql(f"CREATE ROLE {AUTH_USER} LOGIN PASSWORD 'x'")
    server.sql("COMMENT ON ROLE relation_id_1 IS 'managed by pgbouncer-k8s for another/app'")
    before = state(server)
    with pytest.raises(DatabaseRefused, match=rf"role {AUTH_USER} exists .* not made by this"):
        do(server, lambda database: database.provision(material(), OWN))
    with pytest.raises(AccessRefused, match=r"role relation_id_1 exists .* not made by this"):
        do(server, lambda database: database.grant(asked(1)))
    with pytest.raises(DatabaseRefused, match="role relation_id_1 exists"):
        do(server, lambda database: database.set_password(client(1)))
    with pytest.raises(DatabaseRefused, match="no user relation_id_2"):
        do(server, lambda database: database.set_password(client(2)))
    do(server, lambda database: database.revoke("relation_id_1"))
    do(server, lambda database: database.revoke(ADMIN))
    do(server, lambda database: database.withdraw())
    assert state(server) == before


def test_two_applications_keep_apart(server: PostgreSQL) -> None:
    provide(server, asked(1))
    do(server, lambda database: database.grant(asked(2)), owner="another/app")
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
            database.set_password(client(grant.relation_id))
        database.revoke("relation_id_99")

    before = server.transactions()
    do(server, again)
    assert server.transactions() == before


def test_no_password_reaches_the_log_of_the_server(server: PostgreSQL) -> None:
    provide(server, asked(1))
    do(server, lambda database: database.set_password(client(1, "PasswordNumberTwo")))
    server.sql("SELECT 'the end of this test'")
    log = server.log
    assert "the end of this test" in log
    assert "relation_id_1" in log
    for password in (AUTH_PASSWORD, CLIENT_PASSWORD, "PasswordNumberTwo", PASSWORD):
        assert password not in log


def test_a_password_of_other_letters_is_refused_unseen(server: PostgreSQL) -> None:
    provide(server, asked(1))
    password = "P\u00e4ssw\u00f6rd"
    with pytest.raises(DatabaseRefused, match="other than ASCII") as caught:
        do(server, lambda database: database.set_password(client(1, password)))
    assert password not in "".join(traceback.format_exception(caught.value))


def test_a_lock_of_another_session_is_not_waited_for(server: PostgreSQL) -> None:
    provide(server, asked(1))
    as_client(server, 1, "CREATE TABLE t (i int)")
    with server.connect("shop") as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE t IN ACCESS SHARE MODE")
        start = time.monotonic()
        with pytest.raises(DatabaseRefused, match="another session keeps something locked"):
            do(server, lambda database: database.revoke("relation_id_1"))
        assert time.monotonic() - start < 3
    assert do(server, lambda database: database.users()) == {"relation_id_1"}
    do(server, lambda database: database.revoke("relation_id_1"))
    assert server.sql("SELECT FROM t", database="shop") == []


def test_a_client_revoked_by_halves_can_come_back(server: PostgreSQL) -> None:
    provide(server, asked(1))
    server.sql("ALTER ROLE relation_id_1 NOLOGIN")
    provide(server, asked(1))
    assert as_client(server, 1, "SELECT 1")


def test_a_client_may_be_named_in_pg_hba_later(databases: PsycopgDatabases) -> None:
    with PostgreSQL(hba_delay=0.5) as server:
        server.sql(f"CREATE DATABASE {OWN}")
        backend = server.credentials(OWN)
        with databases.open(backend) as database:
            database.provision(material(), OWN)
            time.sleep(1.1)
            database.grant(asked(1))
            database.set_password(client(1))
        start = time.monotonic()
        assert databases.admits(backend, client(1), "shop")
        assert time.monotonic() - start < 2
    with PostgreSQL(hba_delay=60) as server:
        server.sql(f"CREATE DATABASE {OWN}")
        backend = server.credentials(OWN)
        with databases.open(backend) as database:
            database.provision(material(), OWN)
            database.grant(asked(1))
            database.set_password(client(1))
        start = time.monotonic()
        assert not databases.admits(backend, client(1), "shop")
        assert 1 < time.monotonic() - start < 2
        server.stop()
        with pytest.raises(DatabaseUnreachable):
            databases.admits(backend, client(1), "shop")


# The end.


def test_nothing_of_ours_is_left_but_data(server: PostgreSQL) -> None:
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
    assert {row[0] for row in state(server) if len(row) == 7} == roles
    assert server.sql("SELECT FROM pg_namespace WHERE nspname = 'pgbouncer'", database=OWN) == []
    assert server.sql("SELECT FROM pg_shdescription WHERE description ~ 'managed by'") == []
    owners = server.sql(
        "SELECT datname, pg_get_userbyid(datdba) FROM pg_database"
        " WHERE NOT datistemplate ORDER BY 1"
    )
    assert {owner for _, owner in owners} == {ADMIN}
    assert [name for name, _ in owners] == sorted(["bank", OWN, "postgres", "shop", "warehouse"])
    # And all of it is there for whoever comes back.
    provide(server, asked(7))
    as_client(server, 7, "UPDATE t SET x = 'found again'")


def test_nothing_that_clients_leave_gains_power(server: PostgreSQL) -> None:
    """What a superuser owned would run, or be read, with a superuser's rights."""
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


def test_the_end_goes_on_where_something_cannot_be_dropped(server: PostgreSQL) -> None:
    provide(server, asked(1), asked(2))
    as_client(server, 1, "CREATE TABLE t (i int)")
    with server.connect("shop") as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE t IN ACCESS SHARE MODE")
        with pytest.raises(DatabaseRefused, match="another session keeps something locked"):
            do(server, lambda database: database.withdraw())
    left = server.sql("SELECT rolname FROM pg_roles WHERE rolname ~ '^(relation|pgbouncer)'")
    assert left == [("relation_id_1",)]
    do(server, lambda database: database.withdraw())
    assert server.sql("SELECT FROM pg_shdescription WHERE description ~ 'managed by'") == []


# Killed at any point, two at a time.


class Killed(BaseException):
    """Nothing runs any more."""


@pytest.mark.parametrize("what", ["grant", "revoke", "withdraw"])
def test_killed_at_any_point_it_ends_as_undisturbed(
    server: PostgreSQL, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
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
        # What is composed writes; what is a text only looks.
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
    for step in range(steps):
        prepare()
        counter["left"] = step
        with pytest.raises(Killed):
            run()
        counter["left"] = -1
        run()
        assert state(server) == undisturbed, f"killed before statement {step}"


def test_two_leaders_for_a_moment_do_no_harm(server: PostgreSQL) -> None:
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
            assert server.sql("SELECT FROM pg_shdescription WHERE description ~ 'managed'") == []
            server.sql("DROP DATABASE shop")
            server.sql("DROP DATABASE bank")


# A backend's user that is no superuser.


@pytest.fixture
def limited(server: PostgreSQL) -> BackendCredentials:
    server.sql("CREATE ROLE limited LOGIN CREATEROLE CREATEDB PASSWORD 'x'")
    server.sql("ALTER DATABASE pgbouncer OWNER TO limited")
    return server.credentials(OWN, "limited", "x")


def test_without_createrole_it_says_so(server: PostgreSQL, databases: PsycopgDatabases) -> None:
    server.sql("CREATE ROLE plain LOGIN PASSWORD 'x'")
    with (
        databases.open(server.credentials(OWN, "plain", "x")) as database,
        pytest.raises(DatabaseRefused, match=r"plain of PostgreSQL cannot make users.*CREATEROLE"),
    ):
        database.provision(material(), OWN)


def test_without_pg_authid_it_says_so(
    server: PostgreSQL, databases: PsycopgDatabases, limited: BackendCredentials
) -> None:
    before = server.transactions()
    with (
        databases.open(limited) as database,
        pytest.raises(DatabaseRefused, match=r"cannot read pg_catalog.pg_authid.*superuser"),
    ):
        database.provision(material(), OWN)
    assert server.transactions() == before


def test_with_pg_authid_no_superuser_is_needed(
    server: PostgreSQL, databases: PsycopgDatabases, limited: BackendCredentials
) -> None:
    server.sql("GRANT SELECT ON pg_catalog.pg_authid TO limited", database=OWN)

    def all_of_it() -> None:
        with databases.open(limited) as database:
            database.provision(material(), OWN)
            for number in (1, 2):
                if database.grant(asked(number, "shop", "createdb")):
                    database.set_password(client(number))

    all_of_it()
    before = server.transactions()
    all_of_it()
    assert server.transactions() == before
    assert looked_up(server, "relation_id_1")
    as_client(server, 1, "CREATE TABLE t AS SELECT 1 AS x")
    assert as_client(server, 2, "SELECT x FROM t") == [(1,)]
    with server.connect("shop", "relation_id_1", CLIENT_PASSWORD) as session:
        with databases.open(limited) as database:
            database.revoke("relation_id_1")
            assert database.users() == {"relation_id_2"}
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
        session.close()
    assert as_client(server, 2, "SELECT x FROM t") == [(1,)]
    with databases.open(limited) as database:
        database.withdraw()
    assert server.sql("SELECT FROM pg_shdescription WHERE description ~ 'managed by'") == []
    assert server.sql("SELECT x FROM t", database="shop") == [(1,)]


def test_without_rights_on_a_database_one_client_is_refused(
    server: PostgreSQL, databases: PsycopgDatabases, limited: BackendCredentials
) -> None:
    server.sql("GRANT SELECT ON pg_catalog.pg_authid TO limited", database=OWN)
    server.sql("CREATE DATABASE old")
    server.sql("CREATE ROLE charmed_read")
    with databases.open(limited) as database:
        database.provision(material(), OWN)
        with pytest.raises(AccessRefused, match="give access to database old, which belongs to"):
            database.grant(asked(1, "old"))
        if server.version >= 16:
            with pytest.raises(AccessRefused, match="limited of PostgreSQL lacks a right"):
                database.grant(asked(2, "shop", "charmed_read"))
        assert database.grant(asked(3))


def test_without_createdb_one_client_is_refused(
    server: PostgreSQL, databases: PsycopgDatabases, limited: BackendCredentials
) -> None:
    server.sql("GRANT SELECT ON pg_catalog.pg_authid TO limited", database=OWN)
    server.sql("ALTER ROLE limited NOCREATEDB")
    with databases.open(limited) as database:
        database.provision(material(), OWN)
        with pytest.raises(AccessRefused, match="lacks a right: permission denied to create data"):
            database.grant(asked(1))


def platform() -> Databases:
    """Never called: pyright reads that the adapter is what the application asks for."""
    return PsycopgDatabases(OWNER)
