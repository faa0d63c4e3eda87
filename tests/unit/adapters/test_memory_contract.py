"""Do PostgreSQL and PgBouncer in memory behave as the real ones? tests/integration/test_contract.py asks those."""

from contextlib import contextmanager

import pydantic
import pytest

from adapters.local.memory import MemoryDatabases, MemoryServer, Role
from contract.databases import DatabasesContract
from domain.facts import Credentials
from domain.pools import endpoints_in


class ServerInMemory:
    """A contract.databases.Server."""

    def __init__(self):
        self.server = MemoryServer(password="the-operators-password")
        self.backend = Credentials(
            user="operator",
            password=pydantic.SecretStr(self.server.password),
            database="pgbouncer",
            endpoints=endpoints_in("10.1.0.1:5432"),
        )

    def databases(self):
        return MemoryDatabases(self.server)

    def has_role(self, name):
        self.server.roles[name] = Role(ours=False, password="the-password-of-somebody")

    def roles_of(self, name):
        return set(self.server.roles[name].groups)

    def has_closed_database(self, name):
        self.server.closed.add(name)

    @contextmanager
    def sticks(self, name, database):
        self.server.stuck = f"{name} is used in {database}"
        yield
        self.server.stuck = ""

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
