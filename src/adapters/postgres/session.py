"""A session in PostgreSQL: read roles and databases, connect to clients' databases, translate errors."""

from __future__ import annotations

import logging
import pathlib
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, LiteralString, NamedTuple, TypeVar

from adapters.connections.messages import one_line
from adapters.postgres import blocked_databases, locked_roles
from adapters.postgres.ownership import OwnershipComments
from adapters.postgres.server import LOCK_SECONDS, Server
from adapters.postgres.statements import literal, run
from app.errors import (
    AccessRefused,
    DatabaseBusy,
    DatabaseRefused,
    DatabaseUnreachable,
    NoTimeLeft,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import psycopg
    from psycopg import sql

    from adapters.connections.waiting import WaitingBudget
    from adapters.postgres.server import Connection
    from domain.ledger import Ledger

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds before a statement that lost a race is tried again.
_RETRY_SECONDS = 0.2

_POLL_SECONDS = 0.05

# Seconds to wait for the database of a single client: at first, and after an earlier hook waited for it
# without success.
CLIENT_SECONDS = 1.0
HURRIED_SECONDS = 0.25

# Upper limit of the seconds that entering a database and reading its catalogs take without waiting.
_WORK_SECONDS = 0.5

# A hook that has less time left does not begin with another client.
_MIN_SECONDS = 0.25
_STATEMENT_SECONDS = 3

_V16, _V17 = 160_000, 170_000  # in the form of the protocol (server_version_num)

# Two units may both lead for a moment, and make or drop the same role. When the second unit tries again, the
# work is done already. (https://www.postgresql.org/docs/current/errcodes-appendix.html)
_RACES = frozenset(
    {
        "23505",  # unique_violation
        "2BP01",  # dependent_objects_still_exist: a session made something while it ended
        "3F000",  # invalid_schema_name
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "42704",  # undefined_object
        "42710",  # duplicate_object
        "42723",  # duplicate_function
        "42P01",  # undefined_table
        "42P04",  # duplicate_database
        "42P06",  # duplicate_schema
        "55006",  # object_in_use: the template database
        "XX000",  # internal_error: tuple concurrently updated
    }
)

# `act` may make several objects, and lose a race for each of them.
_RACES_AT_MOST = 3

_LOCK_NOT_AVAILABLE = "55P03"
_INSUFFICIENT_PRIVILEGE = "42501"
_READ_ONLY_TRANSACTION = "25006"
_QUERY_CANCELED = "57014"

# The meaning of errors of a statement that reads all objects of a client's database.
_TOO_MANY_OBJECTS = {
    _QUERY_CANCELED: f"so many objects that reading them takes longer than {_STATEMENT_SECONDS} s: drop some",
    "53200": "more objects than PostgreSQL can lock at a time: raise max_locks_per_transaction",
}

# Beginnings of the codes of connection errors and of errors of a server that ends.
_CONNECTION_LOST = ("08", "57P01", "57P02", "57P03")


class ReadOnly(DatabaseRefused):
    """The whole server takes no changes."""

    def __init__(self) -> None:
        super().__init__(
            "PostgreSQL takes no changes now: it is a replica or was made read-only; check"
            " default_transaction_read_only, and that the relation leads to the primary"
        )


class Role(NamedTuple):
    """A role as it is now."""

    oid: int
    # The kind of a role that this application made; None for any other role.
    kind: str | None
    login: bool
    createdb: bool
    createrole: bool
    # Whether the role is superuser or has replication or bypassrls.
    privileged: bool
    # Whether the backend's user has the rights of the role.
    usable: bool


class DatabaseAccess(NamedTuple):
    """The owner of a database, and the rights that roles have on it."""

    oid: int
    owner: str
    # Whether the backend's user owns the database.
    owned: bool
    # Whether the backend's user has the rights of the owner.
    usable: bool
    # Pairs of role and privilege; the role '' stands for PUBLIC.
    rights: frozenset[tuple[str, str]]


class Session:
    """An open connection of the backend's user to its own database, and the state of a single hook.

    `owner` names this application, e.g. `<model uuid>/pgbouncer`; `ledger` has the roles that it made.
    """

    def __init__(
        self,
        server: Server,
        connection: Connection,
        owner: str,
        waiting: WaitingBudget,
        ledger: Ledger | None = None,
    ) -> None:
        self._server = server
        self.connection = connection
        self.owner = owner
        self.waiting = waiting
        # Seconds to wait for the database of a single client.
        self.client_seconds = CLIENT_SECONDS
        # Seconds that the main connection waits for a lock.
        self.lock_seconds = LOCK_SECONDS
        # Seconds that are kept for later work in this hook.
        self._reserve = 0.0
        self._locked_databases: dict[str, str] = {}
        self.notes: list[str] = []
        self.ownership = OwnershipComments(connection, owner, server.password, ledger)

    @property
    def user(self) -> str:
        """The backend's user."""
        return self._server.user

    @property
    def database(self) -> str:
        """The backend's own database, to which the main connection leads."""
        return self._server.database

    @property
    def memberships_have_grantors(self) -> bool:
        """Return whether memberships differ by grantor and have options (PostgreSQL 16)."""
        return self.connection.info.server_version >= _V16

    def role(self, name: str) -> Role | None:
        """Return the role of this name; None if there is none."""
        row = self.connection.execute(
            """
            SELECT oid, shobj_description(oid, 'pg_authid'), rolcanlogin, rolcreatedb,
                   rolcreaterole, rolsuper OR rolreplication OR rolbypassrls,
                   pg_has_role(current_user, oid, 'USAGE')
            FROM pg_roles WHERE rolname = %s
            """,
            (name,),
        ).fetchone()
        if row is None:
            return None
        oid, comment, *attributes = row
        return Role(oid, self.ownership.kind_of(oid, name, comment), *attributes)

    def database_access(self, database: str) -> DatabaseAccess | None:
        """Return the owner of a database and the rights on it; None if there is no such database."""
        rows = self.connection.execute(
            """
            SELECT pg_database.oid, pg_get_userbyid(datdba), pg_get_userbyid(datdba) = current_user,
                   pg_has_role(current_user, datdba, 'USAGE'),
                   CASE grantee WHEN 0 THEN '' ELSE pg_get_userbyid(grantee) END, privilege_type
            FROM pg_database
            LEFT JOIN aclexplode(coalesce(datacl, acldefault('d', datdba))) ON true
            WHERE datname = %s
            """,
            (database,),
        ).fetchall()
        if not rows:
            return None
        oid, owner, owned, usable, _, _ = rows[0]
        return DatabaseAccess(
            oid, owner, owned, usable, frozenset((row[4], row[5]) for row in rows)
        )

    @contextmanager
    def connect_to(self, database: str, options: str = "") -> Generator[Connection]:
        """Yield a connection to a client's database, which waits for locks as long as this hook may wait.

        Raises AccessRefused, DatabaseBusy or NoTimeLeft, which concern the client of this database
        alone; never DatabaseUnreachable while the main connection works.
        """
        import psycopg

        if database == self.database:
            yield self.connection
            return
        self.check_time()
        if database in self._locked_databases:
            raise DatabaseBusy(self._locked_databases[database])
        if text := blocked_databases.closed_reason(self.connection, database):
            raise AccessRefused(text)
        with self.waiting.spent(self.client_seconds, work=_WORK_SECONDS) as seconds:
            # A locked catalog is visible at once: a hurried session does not wait until it is unlocked.
            end = time.monotonic() + (seconds if self.client_seconds > HURRIED_SECONDS else 0.0)
            while blocked_databases.catalog_locked(self.connection, database):
                if time.monotonic() + _POLL_SECONDS > end:
                    raise self._catalog_locked(database)
                time.sleep(_POLL_SECONDS)
            try:
                limits = self._timeouts(max(HURRIED_SECONDS, end - time.monotonic()))
                login = max(self.client_seconds, seconds, _WORK_SECONDS)
                with self._server.connect_to_client(
                    database, login, f"{limits} {options}"
                ) as connection:
                    yield connection
            except psycopg.Error as error:
                if error.sqlstate in _RACES:
                    raise
                raise self._translate_client_error(database, error) from None

    def check_time(self) -> None:
        """Raise NoTimeLeft if this hook may wait no longer."""
        if self.waiting.left() - self._reserve < min(_MIN_SECONDS, self.client_seconds):
            raise NoTimeLeft(
                "is tried again soon: this hook has waited for PostgreSQL as long as a hook may"
            )

    def hurry(self) -> None:
        """Wait only a moment for locks of clients from now on."""
        self.client_seconds = self.lock_seconds = HURRIED_SECONDS
        self._reserve = max(0.0, self.waiting.left() - 2 * HURRIED_SECONDS)
        wait = literal(f"{HURRIED_SECONDS * 1000:.0f}ms")
        self.with_retry(lambda: self.run("SET lock_timeout = {wait}", wait=wait))

    def _timeouts(self, seconds: float) -> str:
        """Return the options that limit the time of a session in a client's database."""
        options = (
            f"-c lock_timeout={seconds * 1000:.0f} -c statement_timeout={_STATEMENT_SECONDS}s"
        )
        if self.connection.info.server_version >= _V17:
            options += " -c transaction_timeout=0"
            if self.connection.info.parameter_status("is_superuser") == "on":
                options += " -c event_triggers=off"
        return options

    def _translate_client_error(
        self, database: str, error: psycopg.Error
    ) -> AccessRefused | DatabaseRefused:
        """Return the error for a client's database. Raises psycopg.Error if the server does not answer."""
        import psycopg

        self.connection.execute("SELECT 1")
        code = error.sqlstate or ""
        if isinstance(error, psycopg.errors.ConnectionTimeout):
            locked = self._catalog_locked(database)
            blocked_databases.end_stuck_logins(self.connection, database)
            return locked
        if code == _LOCK_NOT_AVAILABLE:
            return DatabaseBusy(
                f"something in database {database} is locked by {self._lock_holders(database)}: end its"
                " transactions there"
            )
        if code in _TOO_MANY_OBJECTS:
            return DatabaseBusy(f"database {database} has {_TOO_MANY_OBJECTS[code]}")
        if not code and error.pgconn is not None and error.pgconn.status != 0:
            # libpq gives no SQLSTATE for a login that was refused.
            return AccessRefused(
                f"database {database} does not let user {self.user} in:"
                f" {self._server.reason(error)}; its owner can undo settings by"
                f' ALTER DATABASE "{database}" RESET ALL'
            )
        if not code or code.startswith(_CONNECTION_LOST):
            return DatabaseBusy(
                f"database {database} ended the session of user {self.user}: every hook tries again"
            )
        return self._refused(error)

    def _lock_holders(self, database: str) -> str:
        return blocked_databases.lock_holders(self.connection, database) or "another session"

    def _catalog_locked(self, database: str) -> DatabaseBusy:
        """Return the error for a locked catalog; this hook does not wait for the database again."""
        text = (
            f"database {database} lets no session in while {self._lock_holders(database)} locks its"
            " catalog: end its transactions there"
        )
        self._locked_databases[database] = text
        return DatabaseBusy(text)

    def run(self, text: LiteralString, **parts: str | sql.Composable) -> None:
        """Run a statement on the main connection; a part of type `str` is an identifier."""
        run(self.connection, text, **parts)

    def note(self, text: str) -> None:
        """Log a sentence for the operator, and keep it, once in each hook."""
        if text not in self.notes:
            logger.warning("In PostgreSQL, %s", text)
            self.notes.append(text)

    def logged(self, act: Callable[[], None]) -> list[str]:
        """Call `act`, and log a refusal; return the text of the refusal, or an empty list."""
        try:
            self.with_retry(act)
        except DatabaseRefused as error:
            logger.warning("Something that this application made stays in PostgreSQL: %s", error)
            return [str(error)]
        return []

    def with_retry(self, act: Callable[[], T], *, again: bool = True) -> T:
        """Call `act`, and with `again` a few times more after a race with another leader; translate errors."""
        import psycopg

        try:
            for _ in range(_RACES_AT_MOST if again else 0):
                try:
                    return act()
                except psycopg.Error as error:
                    if error.sqlstate not in _RACES:
                        raise
                self.waiting.pause(_RETRY_SECONDS)
            return act()
        except psycopg.Error as error:
            raise self._translate_error(error) from None
        except (LookupError, TypeError, ValueError) as error:
            # In a database of encoding SQL_ASCII a name may be any bytes, and another program may answer.
            logger.warning("An answer of PostgreSQL is not valid: %s", _place(error))
            raise DatabaseRefused(
                "PostgreSQL gives an answer that is not valid: check that the address leads to"
                " PostgreSQL, and that names there are valid in their encoding"
            ) from None

    def _translate_error(self, error: psycopg.Error) -> DatabaseRefused | DatabaseUnreachable:
        code = error.sqlstate or ""
        if self.connection.closed or not code or code.startswith(_CONNECTION_LOST):
            return DatabaseUnreachable(
                "the connection to PostgreSQL broke off: every hook connects again"
            )
        return self._refused(error)

    def _refused(self, error: psycopg.Error) -> DatabaseRefused:
        code = error.sqlstate
        if code == _READ_ONLY_TRANSACTION:
            return ReadOnly()
        if code == _LOCK_NOT_AVAILABLE:
            self.waiting.subtract(self.lock_seconds)
            holders = locked_roles.lock_holders(self.connection)
            return DatabaseBusy(
                "another session keeps something locked in PostgreSQL:"
                f" {holders or 'every hook tries again'}"
            )
        if code == _QUERY_CANCELED:
            return DatabaseRefused(
                "PostgreSQL took too long for a statement: look at its load; every hook tries again"
            )
        reason = one_line(error.diag.message_primary or "")
        if code == _INSUFFICIENT_PRIVILEGE:
            return DatabaseRefused(f"user {self.user} of PostgreSQL lacks a right: {reason}")
        return DatabaseRefused(f"PostgreSQL refuses: {reason}")


def foreign_role(name: str) -> AccessRefused:
    """Return the error for a role that this application did not make."""
    return AccessRefused(
        f"role {name} exists in PostgreSQL and was not made by this application: rename or drop it"
    )


def _place(error: Exception) -> str:
    """Return the type and the place of an error; its text may have anything that the server sent."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {pathlib.Path(place.filename).name}:{place.lineno}"
