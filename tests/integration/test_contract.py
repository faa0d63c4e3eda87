"""Do PostgreSQL and PgBouncer do what their doubles in memory do? tests/unit/adapters/test_memory_contract.py
asks those.
"""

import contextlib
import socket
import struct
import time

import pytest
from postgresql import PostgreSQL
from psycopg import sql

from adapters import postgres
from adapters.postgres import PsycopgDatabases
from contract.databases import DatabasesContract

OWN = "pgbouncer"

# Some of those that the PostgreSQL charms make.
_GROUPS = ["admin", "charmed_read"]

# The end of a login (https://www.postgresql.org/docs/current/protocol-message-formats.html).
_READY = b"Z\0\0\0\5I"


class RealServer:
    """A contract.databases.Server."""

    def __init__(self, postgresql: PostgreSQL):
        self._postgresql = postgresql
        postgresql.sql(f"CREATE DATABASE {OWN}")
        for group in _GROUPS:
            postgresql.sql(f"CREATE ROLE {group}")
        self.backend = postgresql.credentials(OWN)

    def databases(self):
        return PsycopgDatabases("a-model/pooler")

    def has_role(self, name):
        self._postgresql.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'the-password-of-somebody'")

    def roles_of(self, name):
        query = """
            SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
            WHERE m.member = %s::regrole AND g.rolname = ANY(%s)
            UNION SELECT 'createdb' FROM pg_roles WHERE oid = %s::regrole AND rolcreatedb
            UNION SELECT 'createrole' FROM pg_roles WHERE oid = %s::regrole AND rolcreaterole
        """
        rows = self._postgresql.sql(query, (name, _GROUPS, name, name))
        return {row[0] for row in rows}

    def has_closed_database(self, name):
        """The backend's user is no superuser then, so that there is something it may not do."""
        self._postgresql.sql("CREATE ROLE limited LOGIN CREATEROLE CREATEDB PASSWORD 'x'")
        self._postgresql.sql(f"ALTER DATABASE {OWN} OWNER TO limited")
        self._postgresql.sql("GRANT SELECT ON pg_catalog.pg_authid TO limited", database=OWN)
        self._postgresql.sql(f"CREATE DATABASE {name}")
        self.backend = self._postgresql.credentials(OWN, "limited", "x")

    @contextlib.contextmanager
    def sticks(self, name, database):
        table = sql.Identifier(f"table_of_{name}")
        self._postgresql.sql(
            sql.SQL("CREATE TABLE {} ()").format(table),
            database=database, user=name, password="client-pw",
        )  # fmt: skip
        with self._postgresql.connect(database) as other:
            other.execute("BEGIN")
            other.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table))
            yield

    @contextlib.contextmanager
    def connected(self, address):
        """A login from there, which libpq has no word for."""
        self._postgresql.sql("CREATE ROLE visitor LOGIN")
        self._postgresql.admit(f"host all visitor {address}/32 trust")
        startup = struct.pack("!i", 3 << 16) + b"user\0visitor\0database\0postgres\0\0"
        end, said = time.monotonic() + 5, b""
        # It may not have read the rule yet.
        while not said.endswith(_READY):
            assert time.monotonic() < end, said
            server = (self._postgresql.host, self._postgresql.port)
            with socket.create_connection(server, 5, (address, 0)) as client:
                client.sendall(struct.pack("!i", 4 + len(startup)) + startup)
                said = b""
                while not said.endswith(_READY) and (more := client.recv(4096)):
                    said += more
                if said.endswith(_READY):
                    yield

    @contextlib.contextmanager
    def down(self):
        self._postgresql.stop()
        try:
            yield
        finally:
            self._postgresql.start()


class TestDatabases(DatabasesContract):
    @pytest.fixture
    def server(self, postgresql, monkeypatch):
        # Who is not let in here will not be in a moment.
        monkeypatch.setattr(postgres, "_ADMIT_SECONDS", 0.0)
        yield RealServer(postgresql)
        postgresql.wipe()
