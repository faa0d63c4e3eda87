"""A PostgreSQL with TLS that is given by `--backend`, and servers that stand in its place."""

from __future__ import annotations

import contextlib
import os
import pathlib
import tempfile

import psycopg
import pytest
from platform_under_test import Pooler, value
from postgresql import PASSWORD, PostgreSQL

from authority import Authority
from pooler.binaries import postgresql_owner

pytestmark = pytest.mark.long

ENCRYPTED = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def place():
    """A directory that PostgreSQL's user can pass through, with three authorities."""
    with tempfile.TemporaryDirectory(prefix="tls-", dir="/tmp") as directory:
        here = pathlib.Path(directory)
        here.chmod(0o711)
        yield {name: Authority(here / name, name) for name in ("right", "wrong")}


def settings(authority: Authority, *names: str) -> dict[str, str]:
    """Return the settings of a PostgreSQL whose certificate has these names."""
    issued = authority.issue("server", *names)
    for path in (issued.certificate, issued.key):
        path.chmod(0o600)
        if owner := postgresql_owner():
            os.chown(path, *owner)
    issued.certificate.parent.chmod(0o711)
    return {
        "ssl": "on",
        "ssl_cert_file": str(issued.certificate),
        "ssl_key_file": str(issued.key),
        "log_connections": "on",
        "log_statement": "all",
    }


def only_with_tls(server: PostgreSQL) -> None:
    rules = server._data / "pg_hba.conf"
    rules.write_text(rules.read_text().replace("host ", "hostssl "))
    server.sql("SELECT pg_reload_conf()", database="template1")


@contextlib.contextmanager
def imposter(port: int, authority: Authority, *names: str):
    """A PostgreSQL at this port that knows the password, and has a certificate of this authority."""
    server = PostgreSQL(settings={**settings(authority, *names), "port": str(port)})
    server.port = port
    with server:
        server.sql("SELECT 'the imposter is ready'")
        yield server, len(server.log)


@pytest.fixture
def pooler(program):
    pooler = Pooler(PGBOUNCER=str(program), PGPASSWORD=PASSWORD)
    yield pooler
    pooler.close()


def address(server: PostgreSQL, authority: Authority, mode: str) -> str:
    return (
        f"postgresql://operator@127.0.0.1:{server.port}/template1"
        f"?sslmode={mode}&sslrootcert={authority.root}"
    )


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca", "require"])
def test_every_connection_is_encrypted_and_a_given_server_is_left_as_it_was(pooler, place, mode):
    with PostgreSQL(settings=settings(place["right"], "127.0.0.1")) as server:
        only_with_tls(server)
        server.sql("DROP DATABASE postgres", database="template1")
        before = _state(server)
        pooler.up("--backend", address(server, place["right"], mode))
        begin = len(server.log)
        with pooler.client("demo") as connection:
            assert value(connection, ENCRYPTED) is True
        assert "active" in pooler("status")
        assert "failed" not in pooler("doctor")
        assert server.log[begin:].count("connection authorized") == server.log[begin:].count(
            "SSL enabled"
        )
        pooler("down")
        pooler("up")
        with pooler.client("demo") as connection:
            assert value(connection, ENCRYPTED) is True
        pooler.delete()
        server.sql("DROP DATABASE demo", database="template1")
        assert _state(server) == before


def _state(server: PostgreSQL):
    query = (
        "SELECT 'database', datname::text FROM pg_database UNION ALL"
        " SELECT 'role', rolname::text FROM pg_roles"
        " WHERE rolname !~ '^(pg_|pgbouncer_heir_)' ORDER BY 1, 2"
    )
    return server.sql(query, database="template1")


@pytest.mark.parametrize(
    ("authority", "names"),
    [("wrong", ["127.0.0.1"]), ("right", ["192.0.2.1", "localhost"])],
    ids=["another authority", "a wrong name"],
)
def test_a_server_in_the_place_of_postgresql_gets_no_login_and_no_query(
    pooler, place, authority, names
):
    with PostgreSQL(settings=settings(place["right"], "127.0.0.1")) as server:
        pooler.up("--backend", address(server, place["right"], "verify-full"))
        before = pooler.credentials("demo")
    with imposter(server.port, place[authority], *names) as (other, begin):
        with pytest.raises(psycopg.Error), pooler.client("demo") as connection:
            connection.execute("select 'a secret'")
        for words in (("up",), ("status",), ("relate", "shop"), ("doctor",)):
            assert pooler.run(*words).returncode == 1, words
        said = pooler.run("up").stdout + pooler.run("up").stderr
        assert "certificate verify failed" in said or "server certificate for" in said, said
        log = other.log[begin:]
        for words in ("authorized", "authenticated", "a secret", "password", "statement"):
            assert words not in log, log
        assert before["password"] not in log
        # The first `up` of another home is refused, and changes nothing.
        second = Pooler(PGPASSWORD=PASSWORD)
        try:
            done = second.run("up", "--backend", address(server, place["right"], "verify-full"))
            assert done.returncode == 1
            assert not (second.home / "state.json").exists()
        finally:
            second.close()
        assert "authorized" not in other.log[begin:]


def test_a_new_address_brings_another_authority_without_a_failed_transaction(pooler, place):
    with PostgreSQL(settings=settings(place["right"], "127.0.0.1")) as server:
        uri = address(server, place["right"], "verify-full")
        pooler.up("--backend", uri, "pool_mode=transaction")
        done = pooler.run("up", "--backend", address(server, place["wrong"], "verify-full"))
        assert (done.returncode, "certificate verify failed" in done.stderr) == (1, True)
        with pooler.client("demo") as connection:
            assert value(connection, "select 1") == 1
            pooler("up", "--backend", address(server, place["right"], "verify-ca"))
            assert value(connection, ENCRYPTED) is True
        files = sorted(pooler.home.glob("units/0/0/pgbouncer.ini"))
        assert "server_tls_sslmode = verify-ca" in files[0].read_text()


def test_a_server_without_tls_is_refused_where_tls_is_asked_for(pooler, postgresql, place):
    uri = f"postgresql://operator@{postgresql.endpoint}?sslmode=require"
    done = pooler.run("up", "--backend", uri)
    assert done.returncode == 1
    assert "server does not support SSL" in done.stderr
    assert not (pooler.home / "state.json").exists()
