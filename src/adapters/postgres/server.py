"""How is a PostgreSQL server reached, and how long is it waited for?"""

from __future__ import annotations

import queue
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from adapters import ping
from adapters.patience import patient
from adapters.said import one_line
from app.errors import DatabaseRefused, DatabaseUnreachable
from domain.facts import Credentials as BackendCredentials
from domain.pools import Endpoint
from domain.users import Credentials

if TYPE_CHECKING:
    from collections.abc import Generator

    import psycopg
    import pydantic

    Connection = psycopg.Connection[tuple[Any, ...]]

APPLICATION_NAME = "pgbouncer-k8s"

# Two seconds are the least that libpq knows.
_CONNECT_SECONDS = 2
_PING_SECONDS = 1.0

# Options of the session win over those that an owner set for a database or a role: nobody else's
# objects stand in for the catalog's, and whoever a role becomes at login, we are the user that
# we log in as.
_OPTIONS = (
    "-c statement_timeout=10s -c lock_timeout=2s -c search_path=pg_catalog,pg_temp -c role=none"
)

# The server itself was seen to take changes; a database's owner may say otherwise there.
WRITABLE = "-c default_transaction_read_only=off"


class Server:
    """The way to each database of one server, for the backend's user."""

    def __init__(
        self, backend: BackendCredentials, endpoints: tuple[Endpoint, ...], patience: float
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
        """The password of the backend's user."""
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
        try:
            connection = self._login(user, password, database, f"{_OPTIONS} {options}")
        except psycopg.Error as error:
            raise self._not_let_in(error, user, password) from None
        try:
            yield connection
        finally:
            connection.close()

    def admits(self, credentials: Credentials, database: str) -> bool:
        """Whether they can log in now."""
        import psycopg

        try:
            self._login(credentials.username, credentials.password, database).close()
        except psycopg.Error:
            return False
        return True

    def _login(
        self, user: str, password: pydantic.SecretStr, database: str, options: str = ""
    ) -> Connection:
        return patient(self._patience).connect(
            host=",".join(endpoint.host for endpoint in self._endpoints),
            port=",".join(str(endpoint.port) for endpoint in self._endpoints),
            user=user,
            password=password.get_secret_value(),
            dbname=database,
            connect_timeout=_CONNECT_SECONDS,
            target_session_attrs="read-write" if len(self._backend.endpoints) > 1 else "any",
            application_name=APPLICATION_NAME,
            client_encoding="utf8",
            options=options,
            autocommit=True,
            prepare_threshold=None,
        )

    def _not_let_in(
        self, error: psycopg.Error, user: str, password: pydantic.SecretStr
    ) -> DatabaseUnreachable | DatabaseRefused:
        import psycopg

        if isinstance(error, psycopg.errors.ConnectionTimeout) or not answering(
            self._endpoints, enough=1
        ):
            return DatabaseUnreachable(
                f"PostgreSQL at {named(self._backend.endpoints)} does not answer"
            )
        # The first line ends in what the server, or libpq, has to say of the last endpoint.
        reason = str(error).partition("\n")[0].rpartition(" failed: ")[2].removeprefix("FATAL:")
        reason = reason.strip().replace(password.get_secret_value() or "\0", "…")
        return DatabaseRefused(
            f"PostgreSQL at {named(self._backend.endpoints)} refuses user {user}: {one_line(reason)}"
        )


def answering(endpoints: tuple[Endpoint, ...], enough: int = 0) -> tuple[Endpoint, ...]:
    """The endpoints that answer within a second, in their order; with `enough`, the first so many.

    All are asked at the same time, so that one that is silent does not use up another's time.
    """
    answers: queue.SimpleQueue[tuple[Endpoint, bool]] = queue.SimpleQueue()

    def ask(endpoint: Endpoint) -> None:
        answers.put((endpoint, ping.answers([(endpoint.host, endpoint.port)], _PING_SECONDS)))

    for endpoint in endpoints:
        # A daemon: a name that takes long to look up does not keep the process.
        threading.Thread(target=ask, args=(endpoint,), daemon=True).start()
    end, found, left = time.monotonic() + _PING_SECONDS, set[Endpoint](), len(endpoints)
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
