"""Open connections to PostgreSQL, and find out whether it answers and which logins it accepts."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from adapters.connections.waiting import WaitingBudget
from adapters.postgres.database import PsycopgDatabase
from adapters.postgres.server import Server, answering_endpoints, refusals, unreachable
from adapters.postgres.session import ReadOnly, Session
from app.errors import DatabaseRefused, DatabaseUnreachable
from domain.backend import BackendLogin
from domain.endpoints import Endpoint
from domain.users import Login

if TYPE_CHECKING:
    from collections.abc import Generator

    from adapters.postgres.server import Connection
    from domain.ledger import Ledger

# PostgreSQL 14, in the form of the protocol (server_version_num), introduced pg_database_owner.
OLDEST_VERSION = 140_000

# Seconds that all logins of clients in a hook may wait for a change of pg_hba.conf.
_ADMIT_SECONDS = 1.8
_RETRY_SECONDS = 0.2

# Upper and lower limits of the seconds in which a server answers a ping and a login, and the seconds that are
# work, not waiting.
_PING_SECONDS, _LEAST_PING_SECONDS = 1.0, 0.2
_LOGIN_SECONDS, _LEAST_LOGIN_SECONDS = 1.0, 0.25
_WORK_SECONDS = 0.2

# More than the statement_timeout of a session, which the server enforces itself while it works.
_STATEMENT_SECONDS = 12.0


class PsycopgDatabases:
    """Opens connections to PostgreSQL servers.

    `owner` names this application among those of all models, e.g. `<model uuid>/pgbouncer`. A connection
    is closed if the server says nothing for `statement_seconds` while a statement runs. A server that
    did not answer is not tried again by this object: every hook makes a new object, with the `waiting`
    that the hook has left. Logins of clients wait `admit_seconds` at most for a change of pg_hba.conf.
    `silent` has the servers that accepted no login, with the reason; the hooks of a single command share it,
    so that the command waits for such a server a single time.
    """

    def __init__(
        self,
        owner: str,
        statement_seconds: float = _STATEMENT_SECONDS,
        waiting: WaitingBudget | None = None,
        admit_seconds: float = _ADMIT_SECONDS,
        silent: dict[tuple[Endpoint, ...], str] | None = None,
    ) -> None:
        self._owner = owner
        self._statement_seconds = statement_seconds
        self._waiting = waiting or WaitingBudget()
        self._admit_seconds = admit_seconds
        # Whether a login took so long that the time for logins of this hook is used.
        self._login_timed_out = False
        self._silent = dict[tuple[Endpoint, ...], str]() if silent is None else silent
        self._unreachable = dict(self._silent)

    @contextmanager
    def open(
        self, backend: BackendLogin, ledger: Ledger | None = None
    ) -> Generator[PsycopgDatabase]:
        """Log in as the backend's user; `ledger` has the roles that this application made there.

        Raises DatabaseUnreachable or DatabaseRefused.
        """
        server, connected = (
            Server(backend, self._reachable(backend), self._statement_seconds),
            False,
        )
        try:
            with server.connect(backend.database) as connection:
                connected = True
                if connection.info.server_version < OLDEST_VERSION:
                    oldest = OLDEST_VERSION // 10_000
                    raise DatabaseRefused(
                        f"PostgreSQL is older than version {oldest}: relate to version {oldest} or later"
                    )
                if _read_only(connection):
                    raise ReadOnly
                session = Session(server, connection, self._owner, self._waiting, ledger)
                yield PsycopgDatabase(session)
        except DatabaseUnreachable as error:
            self._unreachable.setdefault(backend.endpoints, str(error))
            if not connected:
                self._silent.setdefault(backend.endpoints, str(error))
            raise

    def answers(self, backend: BackendLogin) -> bool:
        """Return whether a server that speaks PostgreSQL's protocol answers, without logging in."""
        if backend.endpoints in self._unreachable:
            return False
        if self._answering(backend, enough=1):
            return True
        self._remember_silence(backend)
        return False

    def refusals(self, backend: BackendLogin) -> dict[Endpoint, str]:
        """Return the endpoints, with those of replicas, that are not verified, each with the reason.

        The reason is '' if an endpoint does not answer.
        """
        with self._waiting.spent(_PING_SECONDS, work=_WORK_SECONDS) as seconds:
            endpoints = (*backend.endpoints, *backend.read_only)
            return refusals(backend, endpoints, max(_LEAST_PING_SECONDS, seconds))

    def admits(self, backend: BackendLogin, credentials: Login, database: str) -> bool:
        """Return whether these credentials can log in; all clients of a hook share the time to wait.

        Raises DatabaseUnreachable.
        """
        server = Server(backend, self._reachable(backend), self._statement_seconds)
        with self._waiting.spent(self._admit_seconds, work=_WORK_SECONDS) as seconds:
            end = time.monotonic() + seconds
            while not self._login_timed_out:
                left = max(_LEAST_LOGIN_SECONDS, min(_LOGIN_SECONDS, end - time.monotonic()))
                admitted = server.admits(credentials, database, left)
                if admitted:
                    return True
                if time.monotonic() + _RETRY_SECONDS > end:
                    # Another login that hangs would take longer than the hook may wait.
                    self._login_timed_out = admitted is None
                    break
                time.sleep(_RETRY_SECONDS)
        # A server that has stopped in the meantime has not refused the login.
        if not self.answers(backend):
            raise unreachable(backend.endpoints)
        return False

    def _answering(self, backend: BackendLogin, enough: int = 0) -> tuple[Endpoint, ...]:
        with self._waiting.spent(_PING_SECONDS, work=_WORK_SECONDS) as seconds:
            return answering_endpoints(
                backend.endpoints, enough, max(_LEAST_PING_SECONDS, seconds)
            )

    def _reachable(self, backend: BackendLogin) -> tuple[Endpoint, ...]:
        """Return the endpoints that answer, in their order. Raises DatabaseUnreachable.

        The endpoints are asked before a login: libpq waits two seconds for each silent endpoint, and its
        errors do not tell a server that refuses a login from a server that does not exist.
        """
        if backend.endpoints not in self._unreachable:
            if endpoints := self._answering(backend):
                return endpoints
            self._remember_silence(backend)
        raise DatabaseUnreachable(self._unreachable[backend.endpoints])

    def _remember_silence(self, backend: BackendLogin) -> None:
        reason = str(unreachable(backend.endpoints))
        self._silent[backend.endpoints] = self._unreachable[backend.endpoints] = reason


def _read_only(connection: Connection) -> bool:
    status = connection.info.parameter_status
    return "on" in (status("in_hot_standby"), status("default_transaction_read_only"))
