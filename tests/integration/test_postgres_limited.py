"""A backend user that is no superuser, in a real PostgreSQL."""

from __future__ import annotations

import psycopg
import pytest
from postgresql import PostgreSQL
from provided import as_client, looked_up, roles_of_ours

from adapters.postgres.databases import PsycopgDatabases
from app.errors import AccessRefused, DatabaseRefused
from domain.backend import BackendLogin
from logins import CLIENT_PASSWORD, OWN, asked, login, material


@pytest.fixture
def limited(server: PostgreSQL) -> BackendLogin:
    server.sql("CREATE ROLE limited LOGIN CREATEROLE CREATEDB PASSWORD 'x'")
    server.sql("ALTER DATABASE pgbouncer OWNER TO limited")
    return server.credentials(OWN, "limited", "x")


def test_a_backend_user_without_createrole_is_named(
    server: PostgreSQL, databases: PsycopgDatabases
) -> None:
    server.sql("CREATE ROLE plain LOGIN PASSWORD 'x'")
    with (
        databases.open(server.credentials(OWN, "plain", "x")) as database,
        pytest.raises(DatabaseRefused, match=r"plain of PostgreSQL cannot make users.*CREATEROLE"),
    ):
        database.provision(material(), OWN)


def test_a_backend_user_that_cannot_read_pg_authid_is_named(
    server: PostgreSQL, databases: PsycopgDatabases, limited: BackendLogin
) -> None:
    before = server.transactions()
    with (
        databases.open(limited) as database,
        pytest.raises(DatabaseRefused, match=r"cannot read pg_catalog.pg_authid.*superuser"),
    ):
        database.provision(material(), OWN)
    assert server.transactions() == before


def test_a_backend_user_that_reads_pg_authid_needs_no_superuser(
    server: PostgreSQL, databases: PsycopgDatabases, limited: BackendLogin
) -> None:
    server.sql("GRANT SELECT ON pg_catalog.pg_authid TO limited", database=OWN)

    def all_of_it() -> None:
        with databases.open(limited) as database:
            database.provision(material(), OWN)
            for number in (1, 2):
                if database.grant(asked(number, "shop", "createdb")):
                    database.set_password(login(number))

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
    assert roles_of_ours(server) == []
    assert server.sql("SELECT x FROM t", database="shop") == [(1,)]


def test_missing_rights_on_a_database_concern_a_single_client(
    server: PostgreSQL, databases: PsycopgDatabases, limited: BackendLogin
) -> None:
    server.sql("GRANT SELECT ON pg_catalog.pg_authid TO limited", database=OWN)
    server.sql("CREATE DATABASE old")
    server.sql("CREATE ROLE charmed_read")
    with databases.open(limited) as database:
        database.provision(material(), OWN)
        (oid,) = (entry.oid for entry in database.server_databases() if entry.name == "old")
        with pytest.raises(AccessRefused, match="give access to database old, which belongs to"):
            database.grant(asked(1, "old"), oid)
        if server.version >= 16:
            with pytest.raises(AccessRefused, match="limited of PostgreSQL lacks a right"):
                database.grant(asked(2, "shop", "charmed_read"))
        assert database.grant(asked(3))


def test_a_missing_createdb_concerns_a_single_client(
    server: PostgreSQL, databases: PsycopgDatabases, limited: BackendLogin
) -> None:
    server.sql("GRANT SELECT ON pg_catalog.pg_authid TO limited", database=OWN)
    server.sql("ALTER ROLE limited NOCREATEDB")
    with databases.open(limited) as database:
        database.provision(material(), OWN)
        with pytest.raises(AccessRefused, match="lacks a right: permission denied to create data"):
            database.grant(asked(1))
