"""How is a PostgreSQL server found, and who is let in?"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from adapters.connections.waiting import WaitingBudget
from adapters.postgres.database import PsycopgDatabase
from adapters.postgres.server import Server, answering, named
from adapters.postgres.session import ReadOnly, Session
from app.errors import DatabaseRefused, DatabaseUnreachable
from domain.facts import BackendLogin
from domain.pools import Endpoint
from domain.users import Login

if TYPE_CHECKING:
    from collections.abc import Generator

    from adapters.postgres.server import Connection
    from domain.facts import Ledger

OLDEST = 140_000  # PostgreSQL 14, as libpq counts: pg_database_owner came with it.

_ADMIT_SECONDS = 1.8
_PAUSE = 0.2

# Upper limits of the seconds that a server that works takes for a TCP answer, a login, and its own work.
_PING_SECONDS, _LEAST_PING_SECONDS = 1.0, 0.2
_LOGIN_SECONDS, _LEAST_LOGIN_SECONDS = 1.0, 0.25
_WORK_SECONDS = 0.2

# More than the statement_timeout: whoever still runs, has said so by then.
_PATIENCE = 12.0


class PsycopgDatabases:
    """A PostgreSQL server, in which this application makes roles.

    `owner` names the application in all the world, e.g. `<model uuid>/pgbouncer`; `patience` is how
    many seconds a server that let us in may say nothing. A server that was not reached is not tried
    again by the same object: every hook makes a new object, with the `waiting` that the hook has left.
    """

    def __init__(
        self, owner: str, patience: float = _PATIENCE, waiting: WaitingBudget | None = None
    ) -> None:
        self._owner = owner
        self._patience = patience
        self._waiting = waiting or WaitingBudget()
        self._stalled = False
        self._silent: set[tuple[Endpoint, ...]] = set()

    @contextmanager
    def open(
        self, backend: BackendLogin, ledger: Ledger | None = None
    ) -> Generator[PsycopgDatabase]:
        """Log in as the backend's user; `ledger` has the roles that this application made there.

        Raises DatabaseUnreachable or DatabaseRefused.
        """
        server = Server(backend, self._reached(backend), self._patience)
        try:
            with server.connect(backend.database) as connection:
                if connection.info.server_version < OLDEST:
                    raise DatabaseRefused(f"PostgreSQL is older than version {OLDEST // 10_000}")
                if _read_only(connection):
                    raise ReadOnly
                session = Session(server, connection, self._owner, self._waiting, ledger)
                yield PsycopgDatabase(session)
        except DatabaseUnreachable:
            self._silent.add(backend.endpoints)
            raise

    def answers(self, backend: BackendLogin) -> bool:
        """Whether something that speaks PostgreSQL's protocol listens, without logging in."""
        if backend.endpoints in self._silent:
            return False
        if self._answering(backend, enough=1):
            return True
        self._silent.add(backend.endpoints)
        return False

    def admits(self, backend: BackendLogin, credentials: Login, database: str) -> bool:
        """Return whether these credentials can log in; all clients of a hook share the time to wait.

        Raises DatabaseUnreachable.
        """
        server = Server(backend, self._reached(backend), self._patience)
        with self._waiting.spent(_ADMIT_SECONDS, work=_WORK_SECONDS) as seconds:
            end = time.monotonic() + seconds
            while not self._stalled:
                left = max(_LEAST_LOGIN_SECONDS, min(_LOGIN_SECONDS, end - time.monotonic()))
                admitted = server.admits(credentials, database, left)
                if admitted:
                    return True
                if time.monotonic() + _PAUSE > end:
                    # Another login that hangs would take longer than the hook may wait.
                    self._stalled = admitted is None
                    break
                time.sleep(_PAUSE)
        # What went away in the meantime has refused nobody.
        if not self.answers(backend):
            raise DatabaseUnreachable(f"PostgreSQL at {named(backend.endpoints)} does not answer")
        return False

    def _answering(self, backend: BackendLogin, enough: int = 0) -> tuple[Endpoint, ...]:
        with self._waiting.spent(_PING_SECONDS, work=_WORK_SECONDS) as seconds:
            return answering(backend.endpoints, enough, max(_LEAST_PING_SECONDS, seconds))

    def _reached(self, backend: BackendLogin) -> tuple[Endpoint, ...]:
        """The endpoints that answer, in their order.

        They are asked before anybody logs in: libpq waits two seconds for each that is silent, and
        its errors do not tell a server that refuses from one that is not there.
        """
        if backend.endpoints not in self._silent:
            if found := self._answering(backend):
                return found
            self._silent.add(backend.endpoints)
        raise DatabaseUnreachable(f"PostgreSQL at {named(backend.endpoints)} does not answer")


def _read_only(connection: Connection) -> bool:
    status = connection.info.parameter_status
    return "on" in (status("in_hot_standby"), status("default_transaction_read_only"))
