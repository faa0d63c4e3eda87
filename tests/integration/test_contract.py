"""Do PostgreSQL and PgBouncer do what their doubles in memory do? tests/unit/adapters/test_memory_contract.py
asks those.
"""

import contextlib
import os
import pathlib
import select
import signal
import socket
import struct
import time

import built
import psycopg
import pydantic
import pytest
from ports import free_port
from postgresql import ADMIN, PASSWORD, PostgreSQL
from psycopg import sql
from psycopg.pq import ExecStatus
from workload import Workload

from adapters.local.pooler import LocalPooler
from adapters.local.run_as import pooler_owner
from adapters.pebble import pooler as pebble
from adapters.pgbouncer.console import PsycopgConsoles
from adapters.postgres.databases import PsycopgDatabases
from contract.consoles import ConsolesContract
from contract.databases import DatabasesContract
from contract.pooler import PoolerContract, SupervisedContract
from contract.unit import DATABASE, eventually
from domain.instances import ConsoleUser, Layout
from logins import CLIENT_PASSWORD, OWN, OWNER

# Some of those that the PostgreSQL charms make.
_GROUPS = ["admin", "charmed_read"]

# The end of a login (https://www.postgresql.org/docs/current/protocol-message-formats.html).
_READY = b"Z\0\0\0\5I"


class RealServer:
    """A contract.server.Server."""

    def __init__(self, postgresql: PostgreSQL):
        self._postgresql = postgresql
        postgresql.sql(f"CREATE DATABASE {OWN}")
        for group in _GROUPS:
            postgresql.sql(f"CREATE ROLE {group}")
        self.backend = postgresql.credentials(OWN)
        self.capacity = 97  # 100, less the 3 that PostgreSQL reserves for superusers

    def databases(self):
        # No rule of pg_hba.conf changes here, so that a refused login stays refused.
        return PsycopgDatabases(OWNER, admit_seconds=0.0)

    def has_role(self, name):
        self._postgresql.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'the-password-of-another-user'")

    def roles_of(self, name):
        query = """
            SELECT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
            WHERE m.member = %s::regrole AND g.rolname = ANY(%s)
            UNION SELECT 'createdb' FROM pg_roles WHERE oid = %s::regrole AND rolcreatedb
            UNION SELECT 'createrole' FROM pg_roles WHERE oid = %s::regrole AND rolcreaterole
        """
        rows = self._postgresql.sql(query, (name, _GROUPS, name, name))
        return {row[0] for row in rows}

    def has_database(self, name):
        self._postgresql.sql(f"CREATE DATABASE {name}")

    def has_member(self, role, member):
        self._postgresql.sql(f"GRANT {role} TO {member}")

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
            database=database, user=name, password=CLIENT_PASSWORD,
        )  # fmt: skip
        with self._postgresql.connect(database) as other:
            other.execute("BEGIN")
            other.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(table))
            yield

    @contextlib.contextmanager
    def hangs(self, database):
        """A session reads pg_class in a transaction, and another waits to have it for itself."""
        with (
            contextlib.closing(self._postgresql.connect(database)) as reader,
            contextlib.closing(self._postgresql.connect(database)) as other,
        ):
            reader.execute("BEGIN")
            reader.execute("SELECT FROM pg_class LIMIT 1")
            other.pgconn.send_query(b"VACUUM FULL pg_class")
            query = "SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted"
            eventually(lambda: self._postgresql.sql(query, (other.info.backend_pid,)))
            try:
                yield
            finally:
                pids = [reader.info.backend_pid, other.info.backend_pid]
                self._postgresql.sql(
                    "SELECT pg_terminate_backend(p, 1000) FROM unnest(%s) p", (pids,)
                )

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
    def server(self, postgresql):
        yield RealServer(postgresql)
        postgresql.wipe()


class RealTransaction:
    """A contract.pooler.Transaction."""

    def __init__(self, client):
        self._client = client
        client.execute("select 1")

    def lives(self):
        try:
            return self._client.execute("select 1").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    def end(self):
        self._client.commit()
        self._client.close()


class RealUnit:
    """A contract.pooler.Unit, apart from where its processes are; clients come by their sockets."""

    def __init__(self, pooler, layout, socket_directory, server):
        self.pooler, self.read, self.layout = pooler, pooler.read, layout
        self.server, self.ports = server.endpoint, (free_port(), free_port())
        self.consoles = PsycopgConsoles(socket_directory)
        self._socket_directory = socket_directory

    def with_clients(self, config):
        known = ConsoleUser(name=ADMIN, secret=pydantic.SecretStr(PASSWORD))
        return config.model_copy(update={"users": (*config.users, known)})

    def _client(self, index, port):
        return psycopg.connect(
            host=self._socket_directory(index), port=port, user=ADMIN, password=PASSWORD,
            dbname=DATABASE, connect_timeout=2,
        )  # fmt: skip

    @contextlib.contextmanager
    def transaction(self, index, port):
        with contextlib.closing(self._client(index, port)) as client:
            yield RealTransaction(client)

    def serves(self, index, port):
        try:
            with contextlib.closing(self._client(index, port)) as client:
                raw = client.pgconn
                raw.send_query(b"select 1")
                readable, _, _ = select.select([raw.socket], [], [], 1.0)
                return bool(readable) and raw.get_result().status == ExecStatus.TUPLES_OK
        except psycopg.OperationalError:
            return False

    def refuse(self, line):
        """It does so by itself."""

    def pids(self):
        files = pathlib.Path(self.layout.sockets).glob("*/pgbouncer.pid")
        return {int(one.parent.name): int(one.read_text()) for one in files}

    def kill(self, index):
        os.kill(self.pids()[index], signal.SIGKILL)
        eventually(lambda: index not in self.read().running)

    def hang(self, index):
        os.kill(self.pids()[index], signal.SIGSTOP)

    @contextlib.contextmanager
    def silence(self):
        for pid in self.pids().values():
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in self.pids().values():
                os.kill(pid, signal.SIGCONT)


@pytest.fixture
def unit(program, postgresql, home):
    layout = Layout(
        root=str(home / "unit"), sockets=str(home / "run"), listen_address="127.0.0.1",
        with_pid_files=True,
    )  # fmt: skip
    pooler = LocalPooler(program, layout, pooler_owner())
    unit = RealUnit(pooler, layout, layout.socket_directory, postgresql)
    yield unit
    seen = unit.read()
    for index in (
        seen.running | seen.unresponsive
    ):  # Asked to stop, it would wait for who waits for it.
        unit.kill(index)


class TestPooler(PoolerContract):
    pass


class TestConsoles(ConsolesContract):
    pass


class RealContainer(RealUnit):
    """The same under Pebble."""

    def __init__(self, workload, server):
        pooler = pebble.PebblePooler(workload.observed())
        super().__init__(pooler, pebble.LAYOUT, pebble.socket_directory, server)
        self._workload = workload

    @contextlib.contextmanager
    def away(self):
        self._workload.kill()
        yield
        self._workload.start()

    def hang(self, index):
        (pid,) = self._workload.processes(pebble.LAYOUT.ini(index))
        os.kill(pid, signal.SIGSTOP)


class TestSupervisedPooler(SupervisedContract):
    # A container's file system can be mounted by root only.
    pytestmark = pytest.mark.root

    @pytest.fixture
    def unit(self, request, postgresql, monkeypatch):
        workload = Workload(*built.programs(request.config))
        # The volume that Juju mounts into the charm's container, which this machine is none of.
        monkeypatch.setattr(pebble, "SHARED_HERE", str(workload.home / "shared"))
        yield RealContainer(workload, postgresql)
        workload.close()
