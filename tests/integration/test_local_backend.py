"""A PostgreSQL that is given by `--backend`, and the server that `pooler` makes."""

import contextlib
import json

import psycopg
import pytest
from platform_under_test import Pooler, value
from postgresql import PostgreSQL

from pooler import server
from pooler.store import State

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def pooler(two_units):
    return two_units


def test_a_server_that_was_given_keeps_data_and_no_user_of_ours(fresh, postgresql):
    own = postgresql.credentials()
    before = postgresql.sql("select rolname from pg_roles where rolname !~ '^pg_' order by 1")
    address = f"postgresql://{own.user}@{own.endpoints[0]}"
    fresh.environment["PGPASSWORD"] = own.password.get_secret_value()
    fresh.up("--backend", address)
    with fresh.client("demo") as connection:
        connection.execute("create table kept as select 1 as one")
    assert "keeps databases of clients: demo" in fresh.delete()
    # The databases of clients need an owner: a role without a right, a password or a member.
    left = postgresql.sql(
        "select r.rolname, rolcanlogin, exists (select from pg_auth_members where roleid = r.oid)"
        " from pg_roles r where rolname !~ '^pg_' and rolname not in"
        " (select unnest(%s::text[])) order by 1",
        ([name for (name,) in before],),
    )
    assert [(name.rpartition("_")[0], *rest) for name, *rest in left] == [
        ("pgbouncer_heir", False, False)
    ]
    names = [row[0] for row in postgresql.sql("select datname from pg_database")]
    assert "demo" in names
    assert "pgbouncer" not in names
    postgresql.sql('drop database "demo"')
    postgresql.sql(f'drop role "{left[0][0]}"')


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://x:y@127.0.0.1:1", "contains a password"),
        ("postgresql://x@127.0.0.1:1?sslmode=verify-full", "needs the authorities of PostgreSQL"),
        ("postgresql://x@127.0.0.1:1?sslmode=full", "is no sslmode"),
        ("postgresql://x@127.0.0.1:1?sslcert=/x", "sslcert is not supported"),
        ("postgresql://x@127.0.0.1:1/pgbouncer", "is the database that `pooler` makes"),
        ("nonsense://", "no postgresql:// address"),
    ],
)
def test_an_address_that_cannot_be_honoured_changes_nothing(fresh, address, said):
    fresh.environment["PGPASSWORD"] = "y"
    done = fresh.run("up", "--backend", address)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not (fresh.home / "state.json").exists()


def test_a_server_that_does_not_answer_is_named(fresh):
    fresh.environment["PGPASSWORD"] = "y"
    done = fresh.run("up", "--backend", "postgresql://x@127.0.0.1:1")
    assert (done.returncode, "refused" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("rights", "lacks"), [("", "CREATEROLE CREATEDB"), ("CREATEDB", "CREATEROLE")]
)
def test_a_user_that_lacks_rights_is_told_which_before_anything_is_made(
    fresh, postgresql, rights, lacks
):
    postgresql.sql(f"CREATE ROLE weak LOGIN {rights} PASSWORD 'weak'")
    try:
        fresh.environment["PGPASSWORD"] = "weak"
        endpoint = postgresql.credentials().endpoints[0]
        done = fresh.run("up", "--backend", f"postgresql://weak@{endpoint}")
        assert done.returncode == 1
        assert f'`ALTER ROLE "weak" {lacks}`' in done.stderr
        assert ("pgbouncer",) not in postgresql.sql("SELECT datname::text FROM pg_database")
        assert fresh.run("status").returncode == 1
    finally:
        postgresql.sql("DROP ROLE weak")


def test_users_of_a_given_server_log_in_through_the_pool_but_superusers(fresh, postgresql):
    own = postgresql.credentials()
    postgresql.sql("CREATE ROLE bob LOGIN PASSWORD 'of-bob'")
    try:
        fresh.environment["PGPASSWORD"] = own.password.get_secret_value()
        fresh.up("--backend", f"postgresql://{own.user}@{own.endpoints[0]}")
        postgresql.sql("GRANT CONNECT ON DATABASE demo TO bob")
        with fresh.client("demo", user="bob", password="of-bob") as connection:
            assert value(connection, "select current_user::text") == "bob"
        superuser = {"user": own.user, "password": own.password.get_secret_value()}
        with (
            pytest.raises(psycopg.OperationalError),
            fresh.client("demo", **superuser) as connection,
        ):
            connection.execute("select 1")
    finally:
        fresh.delete()
        postgresql.wipe()


def test_doctor_names_a_user_that_cannot_read_the_passwords_of_users(fresh, postgresql):
    postgresql.sql("CREATE ROLE weak LOGIN CREATEDB CREATEROLE PASSWORD 'weak'")
    try:
        fresh.environment["PGPASSWORD"] = "weak"
        endpoint = postgresql.credentials().endpoints[0]
        fresh.run("up", "--backend", f"postgresql://weak@{endpoint}")
        (failure,) = [
            check
            for check in json.loads(fresh.run("doctor", "--json").stdout)["checks"]
            if check["level"] == "failure" and check["group"] == "PostgreSQL"
        ]
        assert failure["name"] == "pg_authid"
        assert "user weak of PostgreSQL cannot read pg_catalog.pg_authid" in failure["text"]
    finally:
        fresh.delete()
        postgresql.sql("DROP ROLE weak")


def test_an_answer_of_a_server_without_an_encoding_is_text(postgresql):
    postgresql.sql(
        "CREATE DATABASE old ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    try:
        known = postgresql.credentials("old")
        assert server.ask(known, "select 'naïve'::text") == "naïve"
    finally:
        postgresql.sql("DROP DATABASE old")


def test_the_platforms_own_postgresql_keeps_connections_for_our_logins(pooler):
    state = State.model_validate_json((pooler.home / "state.json").read_text())
    own = server.own_credentials(state.server).model_copy(update={"database": "postgres"})
    query = "select setting from pg_settings where name = 'superuser_reserved_connections'"
    assert server.ask(own, query) == "10"


def test_variables_of_libpq_are_not_obeyed_and_are_named(fresh, postgresql):
    own = postgresql.credentials()
    fresh.environment |= {
        "PGPASSWORD": own.password.get_secret_value(),
        "PGOPTIONS": "-c default_transaction_read_only=on",
        "PGSERVICE": "nowhere",
    }
    try:
        said = fresh.up("--backend", f"postgresql://{own.user}@{own.endpoints[0]}")
        assert "not used for --backend: $PGOPTIONS, $PGSERVICE" in said
        with fresh.client("demo") as connection:
            connection.execute("create table kept ()")
    finally:
        down = fresh.delete()
        postgresql.sql('drop database "demo"')
    assert "keeps databases of clients: demo" in down


def backend_of(pooler, postgresql):
    """Return the words of `up` for a server, and give the pooler its password."""
    own = postgresql.credentials()
    pooler.environment["PGPASSWORD"] = own.password.get_secret_value()
    return "--backend", f"postgresql://{own.user}@{own.endpoints[0]}"


def test_a_second_home_takes_nothing_from_the_first_in_the_same_server(fresh, postgresql):
    fresh.up(*backend_of(fresh, postgresql))
    with contextlib.closing(Pooler()) as second:
        said = second.run("up", *backend_of(second, postgresql), f"listen_port={second.port}")
        refused = second.run("relate", "other")
        text = said.stdout + said.stderr + refused.stdout + refused.stderr
        assert "was not made by this application" in text
        second("down", "--delete", "--yes")
    with fresh.client("demo") as client:
        assert value(client, "select 1") == 1
    assert fresh.run("status").returncode == 0
    fresh.delete()
    postgresql.wipe()


def test_a_database_that_the_next_server_had_before_is_kept(fresh, postgresql):
    fresh.up(*backend_of(fresh, postgresql))
    with PostgreSQL() as other:
        other.sql("create database pgbouncer")
        other.sql("create table precious as select 1 as number", database="pgbouncer")
        said = fresh("up", *backend_of(fresh, other))
        former = postgresql.credentials().endpoints[0]
        assert f"PostgreSQL at {former} keeps what was made there" in said
        fresh.delete()
        assert other.sql("select number from precious", database="pgbouncer") == [(1,)]
    postgresql.wipe()
