"""What is there in PostgreSQL, whose is it, and what does an error of it mean?"""

from __future__ import annotations

import logging
import pathlib
import time
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, LiteralString, NamedTuple, TypeVar

from adapters.connections.messages import one_line
from adapters.postgres import obstacles
from adapters.postgres.ours import Marks, Ours
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
    from domain.facts import Ledger

logger = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSE = 0.2

_LOOK_EVERY = 0.05

# Seconds to wait for the database of a single client: at first, and after an earlier hook waited for it
# without success.
CLIENT_SECONDS = 1.0
HURRIED_SECONDS = 0.25

# Upper limit of the seconds that entering a database and reading its catalogs take without waiting.
_WORK_SECONDS = 0.5
_LEAST_SECONDS = 0.25
_STATEMENT_SECONDS = 3

_V16, _V17 = 160_000, 170_000  # in the form of the protocol (server_version_num)

# Two leaders, for a moment, make or drop the same; the second finds it done when it looks again.
# (https://www.postgresql.org/docs/current/errcodes-appendix.html)
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

_LOCKED = "55P03"
_NO_RIGHT = "42501"
_READ_ONLY_CODE = "25006"
_TOO_SLOW = "57014"

# The meaning of errors of a statement that reads all objects of a client's database.
_TOO_MUCH = {
    _TOO_SLOW: f"so many objects that they are not looked at in {_STATEMENT_SECONDS} s",
    "53200": "more objects than PostgreSQL can lock at a time: raise max_locks_per_transaction",
}
_GONE = ("08", "57P01", "57P02", "57P03")


class ReadOnly(DatabaseRefused):
    """The whole server takes no changes."""

    def __init__(self) -> None:
        super().__init__("PostgreSQL takes no changes now: it is a replica or was made read-only")


class Role(NamedTuple):
    """What a role is now."""

    oid: int
    #: The mark of its kind, if this application made it; a comment alone is no proof.
    mark: str | None
    login: bool
    createdb: bool
    createrole: bool
    mighty: bool  #: superuser, replication or bypassrls
    usable: bool  #: the backend's user has its rights


class Held(NamedTuple):
    """Who may do what with a database."""

    oid: int
    owner: str
    ours: bool  #: the backend's user owns it
    usable: bool  #: the backend's user has its owner's rights
    rights: frozenset[tuple[str, str]]  #: role and privilege; '' is everybody


class Session:
    """An open connection, and what is seen by it."""

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
        #: seconds to wait for the database of a single client
        self.patience = CLIENT_SECONDS
        #: seconds that the main connection waits for a lock
        self.lock_seconds = LOCK_SECONDS
        self._reserve = 0.0  #: seconds that are kept for later work in this hook
        self._busy_databases: dict[str, str] = {}
        made = f"managed by pgbouncer-k8s for {owner}"
        self.marks = Marks(
            application=made,
            client=f"{made}: client user",
            auth=f"{made}: auth user",
            group=f"{made}: clients of a database",
            heir=f"{made}: owner of what clients left",
        )
        self.notes: list[str] = []
        self.ours = Ours(connection, owner, self.marks, server.password, ledger)

    @property
    def user(self) -> str:
        """The backend's user."""
        return self._server.user

    @property
    def database(self) -> str:
        """The backend's own database, which this connection leads to."""
        return self._server.database

    @property
    def knows_grantors(self) -> bool:
        """Since PostgreSQL 16 a membership is its grantor's, and its rights can be told apart."""
        return self.connection.info.server_version >= _V16

    def role(self, name: str) -> Role | None:
        """The role of this name, if there is one."""
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
        found = Role(*row)
        return found._replace(mark=self.ours.mark_of(found.oid, name, found.mark))

    def marked(self, mark: str) -> tuple[str, ...]:
        """Return the names of the roles of this kind that this application made."""
        return self.ours.marked(mark)

    def held(self, database: str) -> Held | None:
        """Who may do what with this database, if there is one."""
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
        oid, owner, ours, usable, _, _ = rows[0]
        return Held(oid, owner, ours, usable, frozenset((row[4], row[5]) for row in rows))

    @contextmanager
    def inside(self, database: str, options: str = "") -> Generator[Connection]:
        """Yield a connection to this database, which waits for locks only as long as this hook may.

        Raises AccessRefused, DatabaseBusy or NoTimeLeft, which concern the client of this database
        alone; never DatabaseUnreachable while the main connection works.
        """
        import psycopg

        if database == self.database:
            yield self.connection
            return
        self.check_time()
        if database in self._busy_databases:
            raise DatabaseBusy(self._busy_databases[database])
        if text := obstacles.closed(self.connection, database):
            raise AccessRefused(text)
        with self.waiting.spent(self.patience, work=_WORK_SECONDS) as seconds:
            # A locked catalog is visible at once: with a short patience the hook does not wait for its unlock.
            end = time.monotonic() + (seconds if self.patience > HURRIED_SECONDS else 0.0)
            while obstacles.catalog_locked(self.connection, database):
                if time.monotonic() + _LOOK_EVERY > end:
                    raise self._closed_by_lock(database)
                time.sleep(_LOOK_EVERY)
            try:
                limits = self._limits(max(HURRIED_SECONDS, end - time.monotonic()))
                login = max(self.patience, seconds, _WORK_SECONDS)
                with self._server.enter(database, login, f"{limits} {options}") as connection:
                    yield connection
            except psycopg.Error as error:
                if error.sqlstate in _RACES:
                    raise
                raise self._trouble(database, error) from None

    def check_time(self) -> None:
        """Raise NoTimeLeft if this hook may wait no longer."""
        if self.waiting.left() - self._reserve < min(_LEAST_SECONDS, self.patience):
            raise NoTimeLeft(
                "is tried again soon: PostgreSQL was waited for too long in this hook"
            )

    def hurry(self) -> None:
        """Wait only a moment for locks of clients from now on."""
        self.patience = self.lock_seconds = HURRIED_SECONDS
        self._reserve = max(0.0, self.waiting.left() - 2 * HURRIED_SECONDS)
        wait = literal(f"{HURRIED_SECONDS * 1000:.0f}ms")
        self.insist(lambda: self.run("SET lock_timeout = {wait}", wait=wait))

    def _limits(self, seconds: float) -> str:
        """Return the options of a session in a client's database."""
        limits = f"-c lock_timeout={seconds * 1000:.0f} -c statement_timeout={_STATEMENT_SECONDS}s"
        if self.connection.info.server_version >= _V17:
            limits += " -c transaction_timeout=0"
            if self.connection.info.parameter_status("is_superuser") == "on":
                limits += " -c event_triggers=off"
        return limits

    def _trouble(self, database: str, error: psycopg.Error) -> AccessRefused | DatabaseRefused:
        """Translate an error in a client's database. Raises psycopg.Error if the server is gone."""
        import psycopg

        self.connection.execute("SELECT 1")
        code = error.sqlstate or ""
        if isinstance(error, psycopg.errors.ConnectionTimeout):
            busy = self._closed_by_lock(database)
            obstacles.end_stuck_logins(self.connection, database)
            return busy
        if code == _LOCKED:
            return self._busy(database)
        if code in _TOO_MUCH:
            return DatabaseBusy(f"database {database} has {_TOO_MUCH[code]}")
        if not code and error.pgconn is not None and error.pgconn.status != 0:
            # libpq gives no SQLSTATE for a login that was refused.
            return AccessRefused(
                f"database {database} does not let us in: {self._server.reason(error)}; its owner"
                f' can undo settings by ALTER DATABASE "{database}" RESET ALL'
            )
        if not code or code.startswith(_GONE):
            return DatabaseBusy(f"database {database} ended our session")
        return self._refused(error)

    def _busy(self, database: str) -> DatabaseBusy:
        held = obstacles.holders(self.connection, database) or "another session"
        return DatabaseBusy(
            f"something in database {database} is locked by {held}: end its transactions there"
        )

    def _closed_by_lock(self, database: str) -> DatabaseBusy:
        """Return the error for a locked catalog; later in this hook the database is not waited for again."""
        held = obstacles.holders(self.connection, database) or "another session"
        text = (
            f"database {database} lets no session in while {held} locks its catalog: end its"
            " transactions there"
        )
        self._busy_databases[database] = text
        return DatabaseBusy(text)

    def run(self, text: LiteralString, **parts: str | sql.Composable) -> None:
        """Run a statement; a part that is a plain text is an identifier."""
        run(self.connection, text, **parts)

    def note(self, text: str) -> None:
        """Log a sentence for the operator, and keep it, once in each hook."""
        if text not in self.notes:
            logger.warning("In PostgreSQL, %s", text)
            self.notes.append(text)

    def attempt(self, act: Callable[[], None]) -> list[str]:
        """Act, and go on even if it is refused: what went wrong, as sentences."""
        try:
            self.insist(act)
        except DatabaseRefused as error:
            logger.warning("Something of ours is left in PostgreSQL: %s", error)
            return [str(error)]
        return []

    def insist(self, act: Callable[[], T], *, again: bool = True) -> T:
        """Call `act`, and with `again` once more after a race with another leader; translate errors."""
        import psycopg

        try:
            try:
                return act()
            except psycopg.Error as error:
                if not again or error.sqlstate not in _RACES:
                    raise
            self.waiting.pause(_PAUSE)
            return act()
        except psycopg.Error as error:
            raise self._sentence(error) from None
        except (LookupError, TypeError, ValueError) as error:
            # In a server that knows no encoding a name may be any bytes, and it may be no PostgreSQL.
            logger.warning("Not understood in an answer of PostgreSQL: %s", _place(error))
            raise DatabaseRefused("PostgreSQL answers with what cannot be read") from None

    def _sentence(self, error: psycopg.Error) -> DatabaseRefused | DatabaseUnreachable:
        code = error.sqlstate or ""
        if self.connection.closed or not code or code.startswith(_GONE):
            return DatabaseUnreachable("the connection to PostgreSQL broke off")
        return self._refused(error)

    def _refused(self, error: psycopg.Error) -> DatabaseRefused:
        code = error.sqlstate
        if code == _READ_ONLY_CODE:
            return ReadOnly()
        if code == _LOCKED:
            self.waiting.subtract(self.lock_seconds)
            return DatabaseBusy("another session keeps something locked in PostgreSQL")
        if code == _TOO_SLOW:
            return DatabaseRefused("PostgreSQL took too long")
        said = one_line(error.diag.message_primary or "")
        if code == _NO_RIGHT:
            return DatabaseRefused(f"user {self.user} of PostgreSQL lacks a right: {said}")
        return DatabaseRefused(f"PostgreSQL refuses: {said}")


def not_ours(name: str) -> AccessRefused:
    """What to say of a role that somebody else made."""
    return AccessRefused(
        f"role {name} exists in PostgreSQL and was not made by this application: rename or drop it"
    )


def _place(error: Exception) -> str:
    """Where it was raised: what it says may be anything."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {pathlib.Path(place.filename).name}:{place.lineno}"
