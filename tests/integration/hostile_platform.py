"""The hooks of two units with a real PostgreSQL, and clients that log in to it directly."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import psycopg
from postgresql import PostgreSQL

from adapters.local.model import related
from adapters.memory import MemoryPlatform
from adapters.postgres.databases import PsycopgDatabases
from domain.problems import Level
from domain.status import assess
from logins import OWN, OWNER

if TYPE_CHECKING:
    from collections.abc import Callable

    from domain.backend import BackendLogin
    from domain.ledger import Ledger
    from domain.users import Login

_HOOKS = (
    "update_status", "peers_changed", "clients_changed", "clients_departed", "clients_broken",
    "backend_changed", "config_changed",
)  # fmt: skip


# The seconds in which another client has to be related. A hook waits for PostgreSQL for 2 s.
SECONDS = 5.0
HOOK_SECONDS = 4.0
# On a busy machine everything takes longer: by so many times what a client takes without a hostile client.
BUSY = 12.0

# Databases that several of the clients use.
SHARED = ",".join(["shop", *(f"hostile{number}" for number in range(10))])


class EachHook:
    """The way to PostgreSQL, which each hook has anew."""

    def __init__(self) -> None:
        self.now = PsycopgDatabases(OWNER)

    def open(self, backend: BackendLogin, ledger: Ledger | None = None):
        return self.now.open(backend, ledger)

    def answers(self, backend: BackendLogin) -> bool:
        return self.now.answers(backend)

    def admits(self, backend: BackendLogin, credentials: Login, database: str) -> bool:
        return self.now.admits(backend, credentials, database)


class HostilePlatform(MemoryPlatform):
    """PgBouncer is in memory; PostgreSQL is real."""

    def __init__(self, server: PostgreSQL) -> None:
        super().__init__(0)
        self.postgresql = server
        self.databases: Any = EachHook()
        self.longest = 0.0  #: seconds that a hook took
        for _ in range(2):
            unit = self.add_unit()
            for name in _HOOKS:
                setattr(unit, name, self._timed(getattr(unit, name)))
        # The operator trusts these clients more than they deserve.
        self.model.options = {"allowed-roles": "createdb,createrole", "shared-databases": SHARED}
        self.deploy()
        self.model.backend = related(server.credentials(OWN))
        for unit in self.units.values():
            unit.backend_changed()
        self.settle()

    def _timed(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **facts: Any) -> Any:
            self.databases.now = PsycopgDatabases(OWNER)
            begin = time.monotonic()
            try:
                return hook(*arguments, **facts)
            finally:
                self.longest = max(self.longest, time.monotonic() - begin)

        return run

    @property
    def sentences(self) -> list[str]:
        """What the leader's status says is wrong."""
        found = assess(self.leader.read())
        return [sentence.text for sentence in found if sentence.level is not Level.ACTIVE]


class Tenant:
    """A client with its relation; it logs in to PostgreSQL directly."""

    def __init__(
        self, platform: HostilePlatform, name: str, database: str, roles: str = ""
    ) -> None:
        self._platform = platform
        self.number = platform.relate(name, database, roles)
        self.user = f"relation_id_{self.number}"
        self.database = database
        record = platform.model.clients[self.number]
        assert record.told, platform.sentences
        assert record.password
        self._password = record.password.get_secret_value()
        self._sessions: list[psycopg.Connection[Any]] = []

    def session(self, database: str = "") -> psycopg.Connection[Any]:
        """An open session, each statement of which is a transaction."""
        server = self._platform.postgresql
        session = server.connect(database or self.database, self.user, self._password)
        self._sessions.append(session)
        return session

    def do(self, *statements: str, database: str = "") -> psycopg.Connection[Any]:
        """A session in which these have run."""
        session = self.session(database)
        for statement in statements:
            session.execute(statement.encode())
        return session

    def begins(self, statement: str) -> psycopg.Connection[Any]:
        """A session that waits for the end of this statement."""
        session = self.session()
        session.pgconn.send_query(statement.encode())
        query = "SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted"
        end = time.monotonic() + 10
        while not self._platform.postgresql.sql(query, (session.info.backend_pid,)):
            assert time.monotonic() < end, "it does not wait"
            time.sleep(0.02)
        return session

    def leave(self) -> None:
        """Its relation ends."""
        self._platform.unrelate(self.number)

    def is_shut_out(self) -> bool:
        """Whether it can log in neither directly nor by PgBouncer's look-up, and has no session."""
        server = self._platform.postgresql
        with contextlib.suppress(psycopg.OperationalError):
            self.session("postgres").close()
            return False
        auth = self._platform.leader.read().auth
        assert auth
        found = server.sql(
            f"SELECT username FROM {auth.auth_user}.get_auth(%s)", (self.user,), database=OWN,
            user=auth.auth_user, password=auth.auth_password.get_secret_value(),
        )  # fmt: skip
        sessions = "SELECT pid FROM pg_stat_activity WHERE usename = %s"
        # A stand-in answers for every name that may not log in.
        return found != [(self.user,)] and not server.sql(sessions, (self.user,))

    def close(self) -> None:
        """Its sessions end."""
        for session in self._sessions:
            session.close()


def waits_for_pg_class(client: Tenant) -> None:
    client.do("BEGIN", "SELECT FROM pg_class LIMIT 1")
    client.begins("VACUUM FULL pg_class")


class Patience:
    """The seconds that another client, and a hook, may take on this machine."""

    def __init__(self, platform: HostilePlatform) -> None:
        begin = time.monotonic()
        self.bystander = Tenant(platform, "bystander", "blog")
        self.bystander.session().close()
        busy = BUSY * (time.monotonic() - begin)
        self.client, self.hook = SECONDS + busy, HOOK_SECONDS + busy
