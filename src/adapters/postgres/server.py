"""How is a PostgreSQL server reached, and how long is it waited for?"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adapters.connections import ping
from adapters.connections.login import log_in, unproved
from adapters.connections.messages import one_line
from adapters.connections.statement_timeout import patient
from app.errors import DatabaseRefused, DatabaseUnreachable
from domain.facts import BackendLogin
from domain.pools import Endpoint
from domain.users import Login

if TYPE_CHECKING:
    from collections.abc import Generator

    import psycopg
    import pydantic

    Connection = psycopg.Connection[tuple[Any, ...]]

APPLICATION_NAME = "pgbouncer-k8s"

# Two seconds are the least that libpq knows.
_CONNECT_SECONDS = 2
_LOGIN_SECONDS = 2.0
_PING_SECONDS = 1.0

# Options of the session win over those that an owner set for a database or a role: nobody else's
# objects stand in for the catalog's, and whoever a role becomes at login, we are the user that
# we log in as.
LOCK_SECONDS = 1.0
_OPTIONS = (
    f"-c statement_timeout=10s -c lock_timeout={LOCK_SECONDS:.0f}s -c search_path=pg_catalog,pg_temp -c role=none"
    " -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0"
    " -c local_preload_libraries= -c default_transaction_isolation=read\\ committed"
    " -c default_transaction_deferrable=off"
)

# The server itself was seen to take changes; a database's owner may say otherwise there.
WRITABLE = "-c default_transaction_read_only=off"


# Parts of PostgreSQL's errors when all connections but the reserved connections are in use.
_FULL = ("too many clients", "too many connections", "connection slots are reserved")


class Server:
    """The way to each database of one server, for the backend's user."""

    def __init__(
        self, backend: BackendLogin, endpoints: tuple[Endpoint, ...], patience: float
    ) -> None:
        self._backend = backend
        self._endpoints = endpoints
        self._patience = patience

    @property
    def user(self) -> str:
        """The backend's user."""
        return self._backend.user

    @property
    def password(self) -> pydantic.SecretStr:
        """Return the password of the backend's user."""
        return self._backend.password

    @property
    def database(self) -> str:
        """The backend's own database."""
        return self._backend.database

    @contextmanager
    def connect(self, database: str, options: str = "") -> Generator[Connection]:
        """An open connection. Raises DatabaseUnreachable or DatabaseRefused."""
        import psycopg

        user, password = self._backend.user, self._backend.password
        # Time for a second endpoint, in case the first does not answer a login.
        seconds = _LOGIN_SECONDS * min(2, len(self._endpoints))
        try:
            connection = self._login(user, password, database, seconds, options)
        except psycopg.Error as error:
            raise self._not_let_in(error, user) from None
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def enter(self, database: str, seconds: float, options: str = "") -> Generator[Connection]:
        """Yield a connection to a client's database. Raises psycopg.Error."""
        user, password = self._backend.user, self._backend.password
        connection = self._login(user, password, database, seconds, options)
        try:
            yield connection
        finally:
            connection.close()

    def reason(self, error: psycopg.Error) -> str:
        """Return the reason that the server, or libpq, gives for a login that failed."""
        first = str(error).partition("\n")[0].rpartition(" failed: ")[2].removeprefix("FATAL:")
        password = self._backend.password.get_secret_value() or "\0"
        return one_line(first.strip().replace(password, "…"))

    def admits(self, credentials: Login, database: str, seconds: float) -> bool | None:
        """Return whether these credentials can log in now; None if the login takes longer than `seconds`."""
        import psycopg

        try:
            self._login(
                credentials.username, credentials.password, database, seconds, None
            ).close()
        except psycopg.errors.ConnectionTimeout:
            return None
        except psycopg.Error:
            return False
        return True

    def _login(
        self,
        user: str,
        password: pydantic.SecretStr,
        database: str,
        seconds: float,
        options: str | None,
    ) -> Connection:
        return log_in(
            patient(self._patience).connect,
            seconds,
            host=",".join(endpoint.host for endpoint in self._endpoints),
            port=",".join(str(endpoint.port) for endpoint in self._endpoints),
            user=user,
            password=password.get_secret_value(),
            dbname=database,
            connect_timeout=_CONNECT_SECONDS,
            target_session_attrs="read-write" if len(self._backend.endpoints) > 1 else "any",
            application_name=APPLICATION_NAME,
            client_encoding="utf8",
            options="" if options is None else f"{_OPTIONS} {options}",
            autocommit=True,
            prepare_threshold=None,
        )

    def _not_let_in(
        self, error: psycopg.Error, user: str
    ) -> DatabaseUnreachable | DatabaseRefused:
        import psycopg

        where = f"PostgreSQL at {named(self._backend.endpoints)}"
        if ends := unproved(error):
            return DatabaseRefused(f"{where} is not trusted with user {user}: it {ends}")
        if isinstance(error, psycopg.errors.ConnectionTimeout):
            return DatabaseUnreachable(f"{where} does not answer when user {user} logs in")
        if not answering(self._endpoints, enough=1):
            return DatabaseUnreachable(f"{where} does not answer")
        reason = self.reason(error)
        if any(words in reason for words in _FULL):
            return DatabaseUnreachable(
                f"{where} has no connection left for user {user}:"
                " lower max_db_connections, or raise max_connections of PostgreSQL"
            )
        return DatabaseRefused(f"{where} refuses user {user}: {reason}")


def answering(
    endpoints: tuple[Endpoint, ...], enough: int = 0, seconds: float = _PING_SECONDS
) -> tuple[Endpoint, ...]:
    """Return the endpoints that answer within `seconds`, in their order; stop after `enough` answers.

    All are asked at the same time, so that one that is silent does not use up another's time.
    """
    answers: queue.SimpleQueue[tuple[Endpoint, bool]] = queue.SimpleQueue()

    def ask(endpoint: Endpoint) -> None:
        answers.put((endpoint, ping.answers([(endpoint.host, endpoint.port)], seconds)))

    for endpoint in endpoints:
        # A daemon: a name that takes long to look up does not keep the process.
        threading.Thread(target=ask, args=(endpoint,), daemon=True).start()
    end, found, left = time.monotonic() + seconds, set[Endpoint](), len(endpoints)
    while left and not (enough and len(found) >= enough):
        try:
            endpoint, answered = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        left -= 1
        if answered:
            found.add(endpoint)
    return tuple(endpoint for endpoint in endpoints if endpoint in found)


def named(endpoints: tuple[Endpoint, ...]) -> str:
    """How they are told to a reader."""
    return ", ".join(str(endpoint) for endpoint in endpoints)
