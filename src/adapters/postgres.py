"""How do roles, databases and the auth function get into PostgreSQL?

Over psycopg, which is imported on first use: most hooks never reach PostgreSQL.
"""

from __future__ import annotations

import hashlib
import logging
import pathlib
import queue
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple, TypeVar

from adapters import ping
from adapters.said import one_line
from app.errors import AccessRefused, DatabaseRefused, DatabaseUnreachable
from domain import scram
from domain.facts import Credentials as BackendCredentials
from domain.pools import Endpoint
from domain.users import ATTRIBUTES, GROUPS, NAME_BYTES, AuthMaterial, Credentials, Grant

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import psycopg
    import pydantic
    from psycopg import sql

    Connection = psycopg.Connection[tuple[Any, ...]]

logger = logging.getLogger(__name__)

T = TypeVar("T")

APPLICATION_NAME = "pgbouncer-k8s"
SCHEMA = "pgbouncer"
FUNCTION = pathlib.Path(__file__).parents[2] / "templates" / "get_auth.sql"

OLDEST = 140_000  # PostgreSQL 14, as libpq counts: pg_database_owner came with it.

# Members of it are named in pg_hba.conf by the PostgreSQL charms, where it exists.
HBA_GROUP = "relation_access"

# The owner of whatever database one is in: no superuser, even if the database's owner is one.
# (https://www.postgresql.org/docs/current/predefined-roles.html)
DATABASE_OWNER = "pg_database_owner"

# Everybody uses these as their first database, whoever owns them.
COMMON_DATABASES = frozenset({"postgres", "template1"})

# What the PostgreSQL charms give a user of their own with a group.
_IMPLIED = {"admin": "createdb"}

# Two seconds are the least that libpq knows.
_CONNECT_SECONDS = 2
_PING_SECONDS = 1.0
_ADMIT_SECONDS = 1.8
_PAUSE = 0.2

# Options of the session win over those that an owner set for a database or a role: nobody else's
# objects stand in for the catalog's, and whoever a role becomes at login, we are the user that
# we log in as.
_OPTIONS = (
    "-c statement_timeout=10s -c lock_timeout=2s -c search_path=pg_catalog,pg_temp -c role=none"
)

# The server itself was seen to take changes; a database's owner may say otherwise there.
_WRITABLE = "-c default_transaction_read_only=off"

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
_GONE = ("08", "57P01", "57P02", "57P03")

_READ_ONLY = "PostgreSQL takes no changes now: it is a replica or was made read-only"


class PsycopgDatabases:
    """A PostgreSQL server, in which roles of this application carry its mark.

    `owner` names the application in all the world, e.g. `<model uuid>/pgbouncer`. A server that
    was not reached is not tried again by the same object: every hook has a new one.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._silent: set[tuple[Endpoint, ...]] = set()

    @contextmanager
    def open(self, backend: BackendCredentials) -> Generator[PsycopgDatabase]:
        """Log in as the backend's user. Raises DatabaseUnreachable or DatabaseRefused."""
        server = _Server(backend, self._reached(backend))
        try:
            with server.connect(backend.database) as connection:
                if connection.info.server_version < OLDEST:
                    raise DatabaseRefused(f"PostgreSQL is older than version {OLDEST // 10_000}")
                if _read_only(connection):
                    raise _ReadOnly(_READ_ONLY)
                yield PsycopgDatabase(server, connection, self._owner)
        except DatabaseUnreachable:
            self._silent.add(backend.endpoints)
            raise

    def answers(self, backend: BackendCredentials) -> bool:
        """Whether something that speaks PostgreSQL's protocol listens, without logging in."""
        if backend.endpoints in self._silent:
            return False
        if _answering(backend.endpoints, enough=1):
            return True
        self._silent.add(backend.endpoints)
        return False

    def admits(self, backend: BackendCredentials, credentials: Credentials, database: str) -> bool:
        """Whether these credentials can log in; waits for two seconds at most.

        Raises DatabaseUnreachable.
        """
        end = time.monotonic() + _ADMIT_SECONDS
        server = _Server(backend, self._reached(backend))
        while True:
            if server.admits(credentials, database):
                return True
            if time.monotonic() + _PAUSE > end:
                break
            time.sleep(_PAUSE)
        # What went away in the meantime has refused nobody.
        if not self.answers(backend):
            raise DatabaseUnreachable(f"PostgreSQL at {_named(backend.endpoints)} does not answer")
        return False

    def _reached(self, backend: BackendCredentials) -> tuple[Endpoint, ...]:
        """The endpoints that answer, in their order.

        They are asked before anybody logs in: libpq waits two seconds for each that is silent, and
        its errors do not tell a server that refuses from one that is not there.
        """
        if backend.endpoints not in self._silent:
            if found := _answering(backend.endpoints):
                return found
            self._silent.add(backend.endpoints)
        raise DatabaseUnreachable(f"PostgreSQL at {_named(backend.endpoints)} does not answer")


class _ReadOnly(DatabaseRefused):
    """The whole server takes no changes."""


class _Server:
    """The way to each database of one server, for the backend's user."""

    def __init__(self, backend: BackendCredentials, endpoints: tuple[Endpoint, ...]) -> None:
        self._backend = backend
        self._endpoints = endpoints

    @property
    def user(self) -> str:
        """The backend's user."""
        return self._backend.user

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
        import psycopg

        return psycopg.connect(
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

        if isinstance(error, psycopg.errors.ConnectionTimeout) or not _answering(
            self._endpoints, enough=1
        ):
            return DatabaseUnreachable(
                f"PostgreSQL at {_named(self._backend.endpoints)} does not answer"
            )
        # The first line ends in what the server, or libpq, has to say of the last endpoint.
        reason = str(error).partition("\n")[0].rpartition(" failed: ")[2].removeprefix("FATAL:")
        reason = reason.strip().replace(password.get_secret_value() or "\0", "…")
        return DatabaseRefused(
            f"PostgreSQL at {_named(self._backend.endpoints)} refuses user {user}: {one_line(reason)}"
        )


class _Role(NamedTuple):
    """What a role is now."""

    oid: int
    mark: str | None
    login: bool
    createdb: bool
    createrole: bool
    mighty: bool  #: superuser, replication or bypassrls
    usable: bool  #: the backend's user has its rights


class _Held(NamedTuple):
    """Who may do what with a database."""

    owner: str
    ours: bool  #: the backend's user owns it
    usable: bool  #: the backend's user has its owner's rights
    rights: frozenset[tuple[str, str]]  #: role and privilege; '' is everybody


class PsycopgDatabase:
    """An open conversation with PostgreSQL.

    - All roles that it makes carry a mark, their comment; no other is altered or dropped.
    - Access to a database belongs to a group, which owns it if it was made here. Its clients are
      the members, so they use each other's tables, and what one leaves stays with the others.
    - Everything is looked at before it is changed: a second call changes nothing.
    """

    def __init__(self, server: _Server, connection: Connection, owner: str) -> None:
        self._server = server
        self._connection = connection
        self._owner = owner
        self._mark = f"managed by pgbouncer-k8s for {owner}"
        self._client_mark = f"{self._mark}: client user"
        self._auth_mark = f"{self._mark}: auth user"
        self._group_mark = f"{self._mark}: clients of a database"

    def provision(self, auth: AuthMaterial, database: str) -> None:
        """Make the auth user, and in `database` the function by which it looks passwords up.

        An auth user of ours from before is dropped.
        """
        self._insist(lambda: self._provision(auth, database))
        # A relation that has ended may have taken our credentials along before we could clean up.
        for name in self._insist(lambda: self._marked(self._auth_mark)):
            if name != auth.auth_user:
                self._attempt(partial(self._drop_role, name, self._auth_mark, _nobody))

    def server(self) -> str:
        """Which server this is, and since when it runs, e.g. `10.1.0.7/32 5432 2026-02-03 04:05:06+00`."""
        query = """
            SELECT concat_ws(' ', inet_server_addr(), inet_server_port(), pg_postmaster_start_time())
        """
        row = self._insist(lambda: self._connection.execute(query).fetchone())
        return str(row[0])[:200] if row else ""

    def knows(self, address: str) -> bool:
        """Whether there is a connection from this address."""
        query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE host(client_addr) = %s)"
        row = self._insist(lambda: self._connection.execute(query, (address,)).fetchone())
        return bool(row and row[0])

    def users(self) -> frozenset[str]:
        """The client users that this application made."""
        return frozenset(self._insist(lambda: self._marked(self._client_mark)))

    def grant(self, grant: Grant) -> bool:
        """Make the user and its database, with the roles asked for. Raises AccessRefused.

        True if the user is new, which it is for as long as it has no password: who was killed
        before giving it one is told again.
        """
        try:
            return self._insist(lambda: self._grant(grant))
        except _ReadOnly:
            raise
        except DatabaseRefused as error:
            raise AccessRefused(str(error)) from None

    def set_password(self, credentials: Credentials) -> None:
        """Give a user of ours this password."""
        self._insist(lambda: self._set_password(credentials))

    def revoke(self, username: str) -> None:
        """Drop a user of ours; what it made stays with its database."""
        self._insist(lambda: self._drop_role(username, self._client_mark, self._group_of))

    def withdraw(self) -> None:
        """Drop all that this application made, except for databases and what is in them.

        What cannot be dropped does not keep the rest; it is told by DatabaseRefused at the end.
        """
        failures = self._attempt(self._drop_function)
        for mark in (self._client_mark, self._auth_mark, self._group_mark):
            for name in self._insist(partial(self._marked, mark)):
                failures += self._attempt(partial(self._drop_role, name, mark, _nobody))
        if failures:
            more = f" (and {len(failures) - 1} more)" if failures[1:] else ""
            raise DatabaseRefused(failures[0] + more)

    # The auth user and its function.

    def _provision(self, auth: AuthMaterial, database: str) -> None:
        self._check_rights()
        name = auth.auth_user
        self._have_role(name, self._auth_mark)
        self._have_attributes(name, frozenset())
        self._have_password(name, auth.auth_password)
        self._have_memberships(name, self._groups(frozenset()))
        with self._in(database) as inside, inside.transaction():
            self._have_schema(inside, database)
            self._have_function(inside)
            self._only_for(inside, name, "USAGE", _sql("SCHEMA {s}", s=SCHEMA), _SCHEMA_RIGHTS)
            self._only_for(inside, name, "EXECUTE", _get_auth(), _FUNCTION_RIGHTS)
        self._close(database, name)

    def _check_rights(self) -> None:
        row = self._connection.execute(
            """
            SELECT rolsuper OR rolcreaterole, has_table_privilege('pg_authid', 'SELECT')
            FROM pg_roles WHERE rolname = current_user
            """
        ).fetchone()
        makes_roles, reads_passwords = row or (False, False)
        user = self._server.user
        if not makes_roles:
            raise DatabaseRefused(
                f"user {user} of PostgreSQL cannot make users: it has to be a superuser, or have"
                " CREATEROLE and CREATEDB"
            )
        if not reads_passwords:
            raise DatabaseRefused(
                f"user {user} of PostgreSQL cannot read pg_catalog.pg_authid, as the owner of the"
                " function get_auth, which looks passwords up there, must: it has to be a"
                f" superuser, or be granted SELECT on it in database {self._server.database}"
            )

    def _have_schema(self, inside: Connection, database: str) -> None:
        row = inside.execute(
            """
            SELECT pg_get_userbyid(nspowner), pg_get_userbyid(nspowner) = current_user,
                   obj_description(n.oid, 'pg_namespace'),
                   pg_has_role(current_user, nspowner, 'USAGE'),
                   EXISTS (SELECT FROM pg_proc p WHERE pronamespace = n.oid
                           AND (proname, oidvectortypes(proargtypes)) <> ('get_auth', 'text'))
            FROM pg_namespace n WHERE nspname = %s
            """,
            (SCHEMA,),
        ).fetchone()
        if row is None:
            _run(inside, "CREATE SCHEMA {s}", s=SCHEMA)
            _run(inside, "COMMENT ON SCHEMA {s} IS {mark}", s=SCHEMA, mark=_text(self._mark))
            return
        owner, owned, mark, usable, crowded = row
        if mark != self._mark or not usable:
            raise DatabaseRefused(
                f"schema {SCHEMA} in database {database} belongs to {owner} and was not made by"
                " this application: rename or drop it"
            )
        if crowded:
            raise DatabaseRefused(
                f"schema {SCHEMA} in database {database} has functions that were not made by this"
                " application: drop them"
            )
        if not owned:  # Who made it has gone, and somebody inherited it.
            _run(inside, "ALTER SCHEMA {s} OWNER TO CURRENT_USER", s=SCHEMA)

    def _have_function(self, inside: Connection) -> None:
        """It is as it should be, or made anew, so that no former owner keeps a hold on it."""
        body = FUNCTION.read_text()
        row = inside.execute(
            """
            SELECT pg_get_userbyid(proowner) = current_user, prosrc, prosecdef, provolatile = 's',
                   proconfig, lanname, pg_get_function_result(p.oid),
                   obj_description(p.oid, 'pg_proc')
            FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
            JOIN pg_language l ON l.oid = prolang
            WHERE nspname = %s AND proname = 'get_auth'
            """,
            (SCHEMA,),
        ).fetchone()
        returned = "TABLE(username text, password text)"
        pinned = ["search_path=pg_catalog, pg_temp"]
        if row == (True, body, True, True, pinned, "sql", returned, self._mark):
            return
        if row:
            _run(inside, "DROP {f}", f=_get_auth())
        _run(
            inside,
            """
            CREATE FUNCTION {s}.get_auth(p_username pg_catalog.text)
            RETURNS TABLE (username pg_catalog.text, password pg_catalog.text)
            LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            AS {body}
            """,
            s=SCHEMA,
            body=_text(body),
        )
        _run(inside, "COMMENT ON {f} IS {mark}", f=_get_auth(), mark=_text(self._mark))

    def _only_for(
        self,
        inside: Connection,
        role: str,
        right: LiteralString,
        target: sql.Composed,
        query: LiteralString,
    ) -> None:
        """Beside its owner nobody has a right on the target but this role, and it this one only."""
        held = {(grantee, one) for grantee, one in inside.execute(query, (SCHEMA,))}
        others = {grantee for grantee, one in held if (grantee, one) != (role, right)}
        for grantee in sorted(others):
            who = _sql("{r}", r=grantee) if grantee else _sql("PUBLIC")
            _run(inside, "REVOKE ALL ON {t} FROM {who} CASCADE", t=target, who=who)
            held -= {(role, right)} if grantee == role else set()
        if (role, right) not in held:
            _run(inside, "GRANT {right} ON {t} TO {r}", right=_sql(right), t=target, r=role)

    def _close(self, database: str, auth_user: str) -> None:
        """The auth user enters this database; if it is our own, clients do not."""
        held = self._held(database)
        if held is None:
            raise DatabaseRefused(f"PostgreSQL has no database {database}")
        if held.usable and (auth_user, "CONNECT") not in held.rights:
            self._run("GRANT CONNECT ON DATABASE {d} TO {r}", d=database, r=auth_user)
        if held.ours and database not in COMMON_DATABASES and ("", "CONNECT") in held.rights:
            self._run("REVOKE CONNECT ON DATABASE {d} FROM PUBLIC", d=database)

    def _drop_function(self) -> None:
        row = self._connection.execute(
            """
            SELECT (SELECT obj_description(p.oid, 'pg_proc') FROM pg_proc p
                    WHERE pronamespace = n.oid AND proname = 'get_auth'
                    AND oidvectortypes(proargtypes) = 'text')
            FROM pg_namespace n
            WHERE nspname = %s AND obj_description(n.oid, 'pg_namespace') = %s
            """,
            (SCHEMA, self._mark),
        ).fetchone()
        if row is None:
            return
        with self._connection.transaction():
            if row[0] == self._mark:
                self._run("DROP {f}", f=_get_auth())
            self._run("DROP SCHEMA {s}", s=SCHEMA)

    # Clients and their databases.

    def _grant(self, grant: Grant) -> bool:
        name, database = grant.username, grant.database
        if len(database.encode()) > NAME_BYTES:
            raise AccessRefused(f"the name {database} is longer than {NAME_BYTES} bytes")
        groups = self._groups(frozenset(grant.roles) - ATTRIBUTES)
        attributes = {_IMPLIED.get(role, role) for role in grant.roles} & ATTRIBUTES
        self._have_role(name, self._client_mark)
        group = self._group_name(database)
        self._have_role(group, self._group_mark)
        self._have_attributes(name, frozenset(attributes))
        self._have_memberships(name, groups | {group})
        self._have_database(database, group)
        with self._in(database, _WRITABLE) as inside:
            self._share_future(inside, name, group)
            self._share_present(inside, database, group)
        row = self._connection.execute(
            "SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = %s", (name,)
        ).fetchone()
        return bool(row and row[0])

    def _groups(self, asked: frozenset[str]) -> frozenset[str]:
        """Those that were asked for, and the one for pg_hba.conf if there is one."""
        found: set[str] = set()
        for name in sorted(asked | {HBA_GROUP}):
            role = self._role(name)
            if role is None and name != HBA_GROUP:
                raise AccessRefused(f"PostgreSQL has no role {name}")
            if role is None:
                continue
            if role.mighty:
                raise AccessRefused(f"role {name} of PostgreSQL has more power than a client may")
            # The PostgreSQL charms have one among their groups that may log in.
            if role.login and not name.startswith("charmed_"):
                raise AccessRefused(f"role {name} of PostgreSQL is a user, and no group of users")
            found.add(name)
        return frozenset(found)

    def _have_database(self, name: str, group: str) -> None:
        held = self._held(name)
        if held is None:
            self._run("CREATE DATABASE {d} OWNER {g}", d=name, g=group)
            held = self._held(name)
        if held is None:
            raise AccessRefused(f"database {name} was made in PostgreSQL and is gone again")
        if held.owner == group:
            if held.rights & {("", "CONNECT"), ("", "TEMPORARY")}:
                self._run("REVOKE CONNECT, TEMPORARY ON DATABASE {d} FROM PUBLIC", d=name)
        elif not held.rights.issuperset((group, right) for right in _DATABASE_RIGHTS):
            if not held.usable:
                raise AccessRefused(
                    f"user {self._server.user} of PostgreSQL cannot give access to database {name},"
                    f" which belongs to {held.owner}"
                )
            self._run("GRANT ALL ON DATABASE {d} TO {g}", d=name, g=group)

    def _share_future(self, inside: Connection, user: str, group: str) -> None:
        """What the user makes from now on, the group may use."""
        kinds = _KINDS + (_LARGE_OBJECTS if inside.info.server_version >= _V18 else ())
        rows = inside.execute(
            """
            SELECT defaclobjtype::text, privilege_type
            FROM pg_default_acl, aclexplode(defaclacl)
            WHERE defaclrole = %s::regrole AND defaclnamespace = 0 AND grantee = %s::regrole
            """,
            (_quoted(user), _quoted(group)),
        )
        held = set(rows)
        rows = inside.execute(
            """
            SELECT kind::text, privilege_type
            FROM unnest(%s::"char"[]) AS kind,
                 aclexplode(acldefault(CASE kind WHEN 'S' THEN 's' ELSE kind END, %s::regrole))
            WHERE grantee = %s::regrole
            """,
            ([kind for kind, _ in kinds], _quoted(group), _quoted(group)),
        )
        lacking = {kind for kind, _ in set(rows) - held}
        for kind, plural in kinds:
            if kind in lacking:
                _run(
                    inside,
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {u} GRANT ALL ON {kinds} TO {g}",
                    u=user,
                    kinds=_sql(plural),
                    g=group,
                )

    def _share_present(self, inside: Connection, database: str, group: str) -> None:
        """What is there already, the group may use, as far as it is ours to give."""
        from psycopg import sql

        rows = inside.execute(
            _UNSHARED, {"group": _quoted(group), "schema": SCHEMA, "mark": self._mark}
        ).fetchall()
        if kept := [".".join(parts) for _, ours, parts in rows if not ours]:
            logger.warning(
                "Clients of database %s cannot use what belongs to others there: %s",
                database,
                ", ".join(kept[:5]) + (", …" if kept[5:] else ""),
            )
        for kind, statement in _GRANTS:
            names = [sql.Identifier(*parts) for k, ours, parts in rows if ours and k == kind]
            if names:
                _run(inside, statement, names=sql.SQL(", ").join(names), g=group)

    def _set_password(self, credentials: Credentials) -> None:
        name = credentials.username
        role = self._role(name)
        if role is None:
            raise DatabaseRefused(f"PostgreSQL has no user {name}")
        if role.mark != self._client_mark:
            raise _not_ours(name)
        self._have_password(name, credentials.password)

    # Roles.

    def _role(self, name: str) -> _Role | None:
        row = self._connection.execute(
            """
            SELECT oid, shobj_description(oid, 'pg_authid'), rolcanlogin, rolcreatedb,
                   rolcreaterole, rolsuper OR rolreplication OR rolbypassrls,
                   pg_has_role(current_user, oid, 'USAGE')
            FROM pg_roles WHERE rolname = %s
            """,
            (name,),
        ).fetchone()
        return _Role(*row) if row else None

    def _marked(self, mark: str) -> tuple[str, ...]:
        rows = self._connection.execute(
            """
            SELECT rolname FROM pg_roles
            WHERE shobj_description(oid, 'pg_authid') = %s ORDER BY rolname
            """,
            (mark,),
        )
        return tuple(row[0] for row in rows)

    def _group_name(self, database: str) -> str:
        """The same for each client of a database, and another for another application."""
        both = f"{self._owner}\0{database}".encode()
        return f"pgbouncer_{hashlib.sha256(both).hexdigest()[:32]}"

    def _group_of(self, database: str) -> str | None:
        name = self._group_name(database)
        role = self._role(name)
        return name if role and role.mark == self._group_mark else None

    def _have_role(self, name: str, mark: str) -> None:
        """The role exists, marked as ours, and the backend's user may act in its place."""
        if len(name.encode()) > NAME_BYTES:
            raise DatabaseRefused(f"the name of role {name} is longer than {NAME_BYTES} bytes")
        role = self._role(name)
        if role and role.mark != mark:
            raise _not_ours(name)
        with self._connection.transaction():
            if role is None:
                self._run("CREATE ROLE {r}", r=name)
                self._run("COMMENT ON ROLE {r} IS {mark}", r=name, mark=_text(mark))
                role = self._role(name)
            if role and not role.usable:
                # A superuser has all rights; anybody else needs them to share and to drop.
                options = " WITH INHERIT TRUE, SET TRUE" if self._knows_grantors else ""
                self._run("GRANT {r} TO CURRENT_USER" + options, r=name)

    def _have_attributes(self, name: str, wanted: frozenset[str]) -> None:
        """The user may log in, and has exactly these of the attributes that clients may have."""
        role = self._role(name)
        if role is None:
            return
        changes: list[LiteralString] = []
        if not role.login:
            changes.append("LOGIN")
        if role.createdb != ("createdb" in wanted):
            changes.append("NOCREATEDB" if role.createdb else "CREATEDB")
        if role.createrole != ("createrole" in wanted):
            changes.append("NOCREATEROLE" if role.createrole else "CREATEROLE")
        if changes:
            self._run("ALTER ROLE {r} " + " ".join(changes), r=name)

    def _have_memberships(self, name: str, wanted: frozenset[str]) -> None:
        """The user is in these groups, and in no other that is ours to give."""
        rows = self._connection.execute(
            """
            SELECT g.rolname, pg_get_userbyid(m.grantor),
                   shobj_description(g.oid, 'pg_authid') = %s
            FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
            WHERE m.member = %s::regrole ORDER BY g.rolname
            """,
            (self._group_mark, _quoted(name)),
        ).fetchall()
        for group in sorted(wanted - {row[0] for row in rows}):
            self._run("GRANT {g} TO {r}", g=group, r=name)
        for group, grantor, marked in rows:
            if group not in wanted and (group in GROUPS or marked):
                if self._knows_grantors:
                    self._run("REVOKE {g} FROM {r} GRANTED BY {by}", g=group, r=name, by=grantor)
                else:
                    self._run("REVOKE {g} FROM {r}", g=group, r=name)

    @property
    def _knows_grantors(self) -> bool:
        """Since PostgreSQL 16 a membership is its grantor's, and its rights can be told apart."""
        return self._connection.info.server_version >= _V16

    def _have_password(self, name: str, password: pydantic.SecretStr) -> None:
        """PostgreSQL is given a verifier: the password itself never is in a statement or a log."""
        try:
            verifier = scram.verifier(name, password.get_secret_value())
        except UnicodeEncodeError:
            raise DatabaseRefused(f"the password of {name} has other than ASCII letters") from None
        row = self._connection.execute(
            "SELECT rolpassword = %s FROM pg_authid WHERE rolname = %s", (verifier, name)
        ).fetchone()
        if row and not row[0]:
            self._run("ALTER ROLE {r} PASSWORD {v}", r=name, v=_text(verifier))

    def _drop_role(self, name: str, mark: str, heir: Callable[[str], str | None]) -> None:
        """The role is gone, if it was ours; what it owned is its heir's, or its database's owner's.

        `heir` names a role for a database, if one is entitled.
        """
        role = self._role(name)
        if role is None or role.mark != mark:
            return
        if role.login:
            self._run("ALTER ROLE {r} NOLOGIN", r=name)
            self._connection.execute(
                "SELECT pg_terminate_backend(pid, 100) FROM pg_stat_activity WHERE usesysid = %s",
                (role.oid,),
            )
        owned = self._connection.execute(
            "SELECT datname FROM pg_database WHERE datdba = %s ORDER BY datname", (role.oid,)
        )
        for (database,) in owned.fetchall():
            self._run(
                "ALTER DATABASE {d} OWNER TO {h}",
                d=database,
                h=heir(database) or self._server.user,
            )
        touched = self._connection.execute(
            """
            SELECT datname FROM pg_database WHERE datallowconn AND oid IN (
                SELECT dbid FROM pg_shdepend
                WHERE refclassid = 'pg_authid'::regclass AND refobjid = %s)
            ORDER BY datname
            """,
            (role.oid,),
        )
        for (database,) in touched.fetchall():
            with self._in(database, _WRITABLE) as inside, inside.transaction():
                to = heir(database) or self._owner_in(inside)
                _run(inside, "REASSIGN OWNED BY {r} TO {h}", r=name, h=to)
                _run(inside, "DROP OWNED BY {r}", r=name)
        with self._connection.transaction():
            self._run("DROP OWNED BY {r}", r=name)  # Rights on databases.
            self._run("DROP ROLE {r}", r=name)

    def _owner_in(self, inside: Connection) -> str:
        """Who inherits what a client made, if no group does.

        Never a superuser, though the backend's user may be one: a function or a view that a
        client has left would then run with its rights.
        """
        row = inside.execute(
            "SELECT pg_has_role(current_user, %s, 'USAGE')", (DATABASE_OWNER,)
        ).fetchone()
        return DATABASE_OWNER if row and row[0] else self._server.user

    # Conversation.

    def _held(self, database: str) -> _Held | None:
        rows = self._connection.execute(
            """
            SELECT pg_get_userbyid(datdba), pg_get_userbyid(datdba) = current_user,
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
        owner, ours, usable, _, _ = rows[0]
        return _Held(owner, ours, usable, frozenset((row[3], row[4]) for row in rows))

    @contextmanager
    def _in(self, database: str, options: str = "") -> Generator[Connection]:
        if database == self._server.database:
            yield self._connection
        else:
            with self._server.connect(database, options) as connection:
                yield connection

    def _run(self, text: LiteralString, **parts: str | sql.Composable) -> None:
        _run(self._connection, text, **parts)

    def _attempt(self, act: Callable[[], None]) -> list[str]:
        """What went wrong, as sentences."""
        try:
            self._insist(act)
        except DatabaseRefused as error:
            logger.warning("Something of ours is left in PostgreSQL: %s", error)
            return [str(error)]
        return []

    def _insist(self, act: Callable[[], T]) -> T:
        """Act, once more if somebody else did the same; errors are translated."""
        import psycopg

        try:
            try:
                return act()
            except psycopg.Error as error:
                if error.sqlstate not in _RACES:
                    raise
            time.sleep(_PAUSE)
            return act()
        except psycopg.Error as error:
            raise self._sentence(error) from None
        except (LookupError, TypeError, ValueError):
            # In a server that knows no encoding a name may be any bytes, and it may be no PostgreSQL.
            raise DatabaseRefused("PostgreSQL answers with what cannot be read") from None

    def _sentence(self, error: psycopg.Error) -> DatabaseRefused | DatabaseUnreachable:
        code = error.sqlstate or ""
        if self._connection.closed or not code or code.startswith(_GONE):
            return DatabaseUnreachable("PostgreSQL ended the connection")
        if code == _READ_ONLY_CODE:
            return _ReadOnly(_READ_ONLY)
        if code == _LOCKED:
            return DatabaseRefused("another session keeps something locked in PostgreSQL")
        if code == _TOO_SLOW:
            return DatabaseRefused("PostgreSQL took too long")
        said = one_line(error.diag.message_primary or "")
        if code == _NO_RIGHT:
            return DatabaseRefused(f"user {self._server.user} of PostgreSQL lacks a right: {said}")
        return DatabaseRefused(f"PostgreSQL refuses: {said}")


_DATABASE_RIGHTS = ("CONNECT", "CREATE", "TEMPORARY")

_SCHEMA_RIGHTS = """
SELECT CASE grantee WHEN 0 THEN '' ELSE pg_get_userbyid(grantee) END, privilege_type
FROM pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner)))
WHERE nspname = %s AND grantee <> nspowner
"""

_FUNCTION_RIGHTS = """
SELECT CASE grantee WHEN 0 THEN '' ELSE pg_get_userbyid(grantee) END, privilege_type
FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace,
     aclexplode(coalesce(proacl, acldefault('f', proowner)))
WHERE nspname = %s AND proname = 'get_auth' AND grantee <> proowner
"""

# https://www.postgresql.org/docs/current/catalog-pg-default-acl.html
# Versions of the server, as the protocol tells them.
_V16, _V18 = 160000, 180000

_KINDS: tuple[tuple[str, LiteralString], ...] = (
    ("n", "SCHEMAS"),
    ("r", "TABLES"),
    ("S", "SEQUENCES"),
    ("f", "FUNCTIONS"),
    ("T", "TYPES"),
)
_LARGE_OBJECTS: tuple[tuple[str, LiteralString], ...] = (("L", "LARGE OBJECTS"),)

# What a group cannot use in the schemas that are neither PostgreSQL's nor an extension's nor ours:
# its kind, whether the backend's user may give it away, and its name in parts.
_UNSHARED: LiteralString = """
WITH team AS (
    SELECT %(group)s::regrole::oid AS oid
), extension AS (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), schema AS (
    SELECT oid, nspname, nspowner FROM pg_namespace n
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    AND NOT (nspname = %(schema)s AND obj_description(oid, 'pg_namespace') = %(mark)s)
    AND ('pg_namespace'::regclass, oid) NOT IN (SELECT classid, objid FROM extension)
), relation AS (
    SELECT c.oid, nspname, relname, relowner, relkind
    FROM pg_class c JOIN schema s ON s.oid = relnamespace, team
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relowner <> team.oid
    AND ('pg_class'::regclass, c.oid) NOT IN (SELECT classid, objid FROM extension)
)
SELECT 'SCHEMA', pg_has_role(current_user, nspowner, 'USAGE'), ARRAY[nspname]::text[]
FROM schema s, team
WHERE NOT (has_schema_privilege(team.oid, s.oid, 'USAGE')
           AND has_schema_privilege(team.oid, s.oid, 'CREATE'))
UNION ALL
SELECT 'SEQUENCE', pg_has_role(current_user, relowner, 'USAGE'), ARRAY[nspname, relname]::text[]
FROM relation c, team
WHERE CASE relkind WHEN 'S' THEN
    NOT (has_sequence_privilege(team.oid, c.oid, 'USAGE')
         AND has_sequence_privilege(team.oid, c.oid, 'SELECT')
         AND has_sequence_privilege(team.oid, c.oid, 'UPDATE')) END
UNION ALL
SELECT 'TABLE', pg_has_role(current_user, relowner, 'USAGE'), ARRAY[nspname, relname]::text[]
FROM relation c, team
WHERE relkind <> 'S'
AND NOT (has_table_privilege(team.oid, c.oid, 'SELECT')
         AND has_table_privilege(team.oid, c.oid, 'INSERT')
         AND has_table_privilege(team.oid, c.oid, 'UPDATE')
         AND has_table_privilege(team.oid, c.oid, 'DELETE')
         AND has_table_privilege(team.oid, c.oid, 'TRUNCATE')
         AND has_table_privilege(team.oid, c.oid, 'REFERENCES'))
ORDER BY 1, 3
"""

# Not TRIGGER: whoever made a table would run the trigger with their own rights.
_GRANTS: tuple[tuple[str, LiteralString], ...] = (
    ("SCHEMA", "GRANT ALL ON SCHEMA {names} TO {g}"),
    ("SEQUENCE", "GRANT ALL ON SEQUENCE {names} TO {g}"),
    (
        "TABLE",
        "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES ON TABLE {names} TO {g}",
    ),
)


def _not_ours(name: str) -> AccessRefused:
    return AccessRefused(
        f"role {name} exists in PostgreSQL and was not made by this application: rename or drop it"
    )


def _nobody(database: str) -> None:
    """Nobody in particular inherits."""


def _read_only(connection: Connection) -> bool:
    status = connection.info.parameter_status
    return "on" in (status("in_hot_standby"), status("default_transaction_read_only"))


def _answering(endpoints: tuple[Endpoint, ...], enough: int = 0) -> tuple[Endpoint, ...]:
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


def _named(endpoints: tuple[Endpoint, ...]) -> str:
    return ", ".join(str(endpoint) for endpoint in endpoints)


def _get_auth() -> sql.Composed:
    return _sql("FUNCTION {s}.get_auth(pg_catalog.text)", s=SCHEMA)


def _run(connection: Connection, text: LiteralString, **parts: str | sql.Composable) -> None:
    connection.execute(_sql(text, **parts))


def _sql(text: LiteralString, **parts: str | sql.Composable) -> sql.Composed:
    """A statement; a part that is a plain text is an identifier."""
    from psycopg import sql

    return sql.SQL(text).format(
        **{
            name: sql.Identifier(part) if isinstance(part, str) else part
            for name, part in parts.items()
        }
    )


def _text(value: str) -> sql.Literal:
    from psycopg import sql

    return sql.Literal(value)


def _quoted(name: str) -> str:
    """As a regrole is read."""
    return '"' + name.replace('"', '""') + '"'
