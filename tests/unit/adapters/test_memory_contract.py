"""Do PostgreSQL and PgBouncer in memory behave as the real ones? tests/integration/test_contract.py asks those."""

from contextlib import contextmanager

import pydantic
import pytest
from supervised_pooler import SupervisedPooler

from adapters.memory import LAYOUT, MemoryDatabases, MemoryPooler, MemoryRole, MemoryServer
from contract.consoles import ConsolesContract
from contract.databases import DatabasesContract
from contract.pooler import PoolerContract, SupervisedContract
from domain.backend import BackendLogin
from domain.endpoints import Endpoint, endpoints_in
from domain.operations import ClientSession


class ServerInMemory:
    """A contract.server.Server."""

    def __init__(self):
        self.server = MemoryServer(password="the-operators-password")
        self.capacity = self.server.capacity
        self.backend = BackendLogin(
            user="operator",
            password=pydantic.SecretStr(self.server.password),
            database="pgbouncer",
            endpoints=endpoints_in("10.1.0.1:5432"),
        )

    def databases(self):
        return MemoryDatabases(self.server)

    def has_role(self, name):
        self.server.roles[name] = MemoryRole(ours=False, password="the-password-of-another-user")

    def roles_of(self, name):
        return set(self.server.roles[name].groups)

    def has_database(self, name):
        self.server.owners[name] = "operator"

    def has_member(self, role, member):
        self.server.roles[role].members.add(member)

    def has_closed_database(self, name):
        self.server.closed.add(name)

    @contextmanager
    def sticks(self, name, database):
        self.server.stuck = f"{name} is used in {database}"
        yield
        self.server.stuck = ""

    @contextmanager
    def hangs(self, database):
        self.server.hung[database] = f"database {database} is locked"
        yield
        del self.server.hung[database]

    @contextmanager
    def connected(self, address):
        self.server.connected.add(address)
        yield
        self.server.connected.discard(address)

    @contextmanager
    def down(self):
        self.server.down = "PostgreSQL does not answer"
        yield
        self.server.down, self.server.identity = "", "10.1.0.1 since Tuesday"


class TestDatabases(DatabasesContract):
    @pytest.fixture
    def server(self):
        return ServerInMemory()


class TransactionInMemory:
    """A contract.pooler.Transaction: one connection that a client holds on to."""

    def __init__(self, pooler, index):
        self._pooler, self._index, self._ended = pooler, index, False
        sessions = pooler.consoles.sessions.setdefault(index, [])
        self._client = ClientSession(
            number=1 + max((client.number for client in sessions), default=0),
            user="relation_id_1",
            alias=pooler.instances()[index].pools[-1].alias,
            address="10.1.0.7",
            linked=True,
        )
        sessions.append(self._client)
        pooler.consoles.busy[index] = pooler.consoles.busy.get(index, 0) + 1

    def lives(self):
        known = self._client in self._pooler.consoles.sessions.get(self._index, ())
        return known and not self._ended

    def end(self):
        if self.lives():
            self._pooler.consoles.busy[self._index] -= 1
            self._pooler.consoles.sessions[self._index].remove(self._client)
        self._ended = True
        if self._index in self._pooler.ending and not self._pooler.consoles.busy[self._index]:
            self._pooler.end(self._index)


class UnitInMemory:
    """A contract.pooler.Unit."""

    ports = (6432, 6433)
    layout = LAYOUT
    server = Endpoint(host="10.1.0.1", port=5432)

    def __init__(self, pooler):
        self.pooler, self.consoles, self.read = pooler, pooler.consoles, pooler.read

    def with_clients(self, config):
        return config

    @contextmanager
    def transaction(self, index, port):
        assert self.serves(index, port)
        found = TransactionInMemory(self.pooler, index)
        yield found
        found.end()

    def serves(self, index, port):
        instance, consoles = self.pooler.instances().get(index), self.consoles
        waits = bool(consoles.paused.get(index))
        answers = index in self.pooler.running - self.pooler.hung
        return answers and instance.port == port and not waits

    def refuse(self, line):
        self.pooler.impossible.add(line)

    def kill(self, index):
        self.pooler.die(index)

    def hang(self, index):
        self.pooler.hung.add(index)

    @contextmanager
    def silence(self):
        self.consoles.silent = True
        yield
        self.consoles.silent = False

    @contextmanager
    def away(self):
        self.pooler.reachable = False
        self.pooler.lose_disk()
        yield
        self.pooler.reachable = True


@pytest.fixture
def unit():
    return UnitInMemory(MemoryPooler())


class TestPooler(PoolerContract):
    pass


class TestConsoles(ConsolesContract):
    pass


class TestSupervisedPooler(SupervisedContract):
    @pytest.fixture
    def unit(self):
        return UnitInMemory(SupervisedPooler())
