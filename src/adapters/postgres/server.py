"""Find the endpoints of a PostgreSQL server that answer, and log in there within a time limit."""

from __future__ import annotations

import pathlib
import queue
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from adapters.connections import ping
from adapters.connections.login import log_in, tls_parameters, weak_method
from adapters.connections.messages import one_line
from adapters.connections.statement_timeout import timed_connection
from app.errors import DatabaseRefused, DatabaseUnreachable
from domain import sentences
from domain.backend import BackendLogin
from domain.endpoints import Endpoint
from domain.tls import bundle
from domain.users import Login
from domain.verification import VERIFYING

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    import psycopg
    import pydantic

    Connection = psycopg.Connection[tuple[Any, ...]]

APPLICATION_NAME = "pgbouncer-k8s"

# The least connect_timeout that libpq accepts.
_CONNECT_SECONDS = 2
_LOGIN_SECONDS = 2.0
_PING_SECONDS = 1.0

# Options of a session take precedence over options that an owner set for a database or a role. So
# search_path cannot put a user's objects before the catalog, and the session keeps the role that logged in.
LOCK_SECONDS = 1.0
_OPTIONS = (
    f"-c statement_timeout=10s -c lock_timeout={LOCK_SECONDS:.0f}s -c search_path=pg_catalog,pg_temp -c role=none"
    " -c idle_session_timeout=0 -c idle_in_transaction_session_timeout=0"
    " -c local_preload_libraries= -c default_transaction_isolation=read\\ committed"
    " -c default_transaction_deferrable=off"
)

# The server accepts changes, but the owner of a database may have set this option for the database.
WRITABLE = "-c default_transaction_read_only=off"

# Parts of PostgreSQL's errors when all connections but the reserved connections are in use.
_ALL_CONNECTIONS_USED = (
    "too many clients",
    "too many connections",
    "connection slots are reserved",
)

# The beginning of PostgreSQL's error while it starts, recovers after a crash or ends (code 57P03).
_NOT_READY = "the database system is "


class Server:
    """Logs in to the databases of a server.

    `endpoints` are the endpoints of the backend that answer; a connection is closed if the server says
    nothing for `statement_seconds` while a statement runs.
    """

    def __init__(
        self,
        backend: BackendLogin,
        endpoints: tuple[Endpoint, ...],
        statement_seconds: float,
    ) -> None:
        self._backend = backend
        self._endpoints = endpoints
        self._statement_seconds = statement_seconds

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
        """Yield a connection of the backend's user. Raises DatabaseUnreachable or DatabaseRefused."""
        import psycopg

        # Time for a second endpoint, in case the first does not answer a login.
        seconds = _LOGIN_SECONDS * min(2, len(self._endpoints))
        try:
            connection = self._login(self.user, self.password, database, seconds, options)
        except psycopg.Error as error:
            raise self._translate_login_error(error) from None
        with closing(connection):
            yield connection

    @contextmanager
    def connect_to_client(
        self, database: str, seconds: float, options: str
    ) -> Generator[Connection]:
        """Yield a connection of the backend's user to a client's database. Raises psycopg.Error."""
        with closing(
            self._login(self.user, self.password, database, seconds, options)
        ) as connection:
            yield connection

    def reason(self, error: psycopg.Error) -> str:
        """Return the reason that the server, or libpq, gives for a login that failed."""
        text = str(error).partition("\n")[0].rpartition(" failed: ")[2].removeprefix("FATAL:")
        password = self.password.get_secret_value() or "\0"
        return one_line(text.strip().replace(password, "…"))

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

    def refusals(self, seconds: float = _PING_SECONDS) -> dict[Endpoint, str]:
        """Return the endpoints that answer and are not verified, each with the reason."""
        backend = self._backend
        if (backend.mode or "prefer") not in VERIFYING:
            return {}
        reasons = refusals(backend, self._endpoints, seconds)
        return {endpoint: reason for endpoint, reason in reasons.items() if reason}

    def _login(
        self,
        user: str,
        password: pydantic.SecretStr,
        database: str,
        seconds: float,
        options: str | None,
    ) -> Connection:
        return log_in(
            timed_connection(self._statement_seconds).connect,
            seconds,
            **tls_parameters(self._backend),
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

    def _translate_login_error(
        self, error: psycopg.Error
    ) -> DatabaseUnreachable | DatabaseRefused:
        import psycopg

        where, user = f"PostgreSQL at {endpoint_list(self._backend.endpoints)}", self.user
        if weakness := weak_method(error):
            return DatabaseRefused(f"{where} is not trusted with user {user}: it {weakness}")
        if isinstance(error, psycopg.errors.ConnectionTimeout):
            return DatabaseUnreachable(
                f"{where} does not answer when user {user} logs in: check that it runs and has"
                " processor time"
            )
        if not answering_endpoints(self._endpoints, enough=1):
            return unreachable(self._backend.endpoints)
        if unverified := self.refusals():
            return not_verified(unverified)
        return _refusal(where, user, self.reason(error))


def _refusal(where: str, user: str, reason: str) -> DatabaseUnreachable | DatabaseRefused:
    """Return the error for a server that answers, and refuses a login with this reason."""
    if any(words in reason for words in _ALL_CONNECTIONS_USED):
        return DatabaseUnreachable(
            f"{where} has no connection left for user {user}:"
            " lower max_db_connections, or raise max_connections of PostgreSQL"
        )
    if reason.startswith(_NOT_READY):
        return DatabaseUnreachable(f"{where} accepts no connections yet: {reason}")
    return DatabaseRefused(f"{where} refuses user {user}: {reason}")


def not_verified(reasons: Mapping[Endpoint, str]) -> DatabaseUnreachable:
    """Return the error for endpoints that are not verified. PostgreSQL may verify again without an event."""
    endpoint, reason = next(iter(reasons.items()))
    return DatabaseUnreachable(
        sentences.SERVER_NOT_VERIFIED.text(endpoint=endpoint, reason=reason)
    )


def refusals(
    backend: BackendLogin, endpoints: tuple[Endpoint, ...], seconds: float
) -> dict[Endpoint, str]:
    """Return the endpoints that are not verified, each with the reason; '' if an endpoint does not answer."""
    # Imported here, because a server that is not verified does not need it.
    from adapters.connections import handshake

    try:
        authorities = (
            pathlib.Path(backend.authority_file).read_text(errors="replace")
            if backend.authority_file
            else bundle(backend.authorities)
        )
    except OSError as error:
        reason = f"{backend.authority_file} cannot be read: {error.strerror}"
        return dict.fromkeys(endpoints, reason)
    found = handshake.refusals(
        [(endpoint.host, endpoint.port) for endpoint in endpoints],
        authorities,
        seconds,
        names=backend.mode == "verify-full",
    )
    reasons = {Endpoint(host=host, port=port): reason for (host, port), reason in found.items()}
    return {endpoint: reasons[endpoint] for endpoint in endpoints if endpoint in reasons}


def unreachable(endpoints: tuple[Endpoint, ...]) -> DatabaseUnreachable:
    """Return the error for a server none of whose endpoints answers."""
    return DatabaseUnreachable(
        f"PostgreSQL at {endpoint_list(endpoints)} does not answer: check that it runs, and the"
        " network between"
    )


def answering_endpoints(
    endpoints: tuple[Endpoint, ...], enough: int = 0, seconds: float = _PING_SECONDS
) -> tuple[Endpoint, ...]:
    """Return the endpoints that answer within `seconds`, in their order; stop after `enough` answers.

    All endpoints are asked at a time, so that a silent endpoint does not use up the time of the next.
    """
    answers: queue.SimpleQueue[tuple[Endpoint, bool]] = queue.SimpleQueue()

    def ask(endpoint: Endpoint) -> None:
        answers.put((endpoint, ping.answers([(endpoint.host, endpoint.port)], seconds)))

    for endpoint in endpoints:
        # A daemon thread does not keep the process from ending while a name is resolved.
        threading.Thread(target=ask, args=(endpoint,), daemon=True).start()
    end, answering, left = time.monotonic() + seconds, set[Endpoint](), len(endpoints)
    while left and not (enough and len(answering) >= enough):
        try:
            endpoint, answered = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        left -= 1
        if answered:
            answering.add(endpoint)
    return tuple(endpoint for endpoint in endpoints if endpoint in answering)


def endpoint_list(endpoints: tuple[Endpoint, ...]) -> str:
    """Return endpoints as a list in a sentence."""
    return ", ".join(map(str, endpoints))
