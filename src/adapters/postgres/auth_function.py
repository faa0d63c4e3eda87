"""Install the function by which the auth user, and no other user, reads password verifiers."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, LiteralString

from adapters.postgres.roles import Roles
from adapters.postgres.session import Session
from adapters.postgres.statements import literal, regrole, run, statement
from app.errors import DatabaseRefused
from domain.made import AUTH
from domain.plan import FORMER_AUTH_SCHEMA
from domain.users import AuthMaterial, Login

if TYPE_CHECKING:
    from psycopg import sql

    from adapters.postgres.server import Connection

RESERVED = "pg_use_reserved_connections"
LANGUAGE = "plpgsql"
FUNCTION = pathlib.Path(__file__).parents[3] / "templates" / "get_auth.sql"

# Every user may connect to these databases: programs connect to them by default.
COMMON_DATABASES = frozenset({"postgres", "template1"})

# Another application of this charm may have schemas in the database: the comment names the application.
_OWN_SCHEMAS = """
SELECT nspname FROM pg_namespace
WHERE obj_description(oid, 'pg_namespace') = %s
  AND (nspname = 'pgbouncer' OR starts_with(nspname, 'pgbouncer_auth_')) ORDER BY nspname
"""

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


class AuthFunction:
    """The function get_auth in the schema of the auth user that calls it."""

    def __init__(self, session: Session, roles: Roles) -> None:
        self._session = session
        self._roles = roles

    def provision(self, auth: AuthMaterial, database: str) -> None:
        """Create the auth user, and in `database` the function, which only auth users may call.

        A schema of an earlier release stays, with its function, until the relation ends.
        """
        self._check_rights()
        self._ensure_user(auth.look_ups[0])
        name = auth.schema_name
        with self._session.connect_to(database) as connection, connection.transaction():
            own = self._own_schemas(connection)
            for schema in (name, FORMER_AUTH_SCHEMA) if FORMER_AUTH_SCHEMA in own else (name,):
                self._ensure_schema(connection, database, schema)
                self._ensure_function(connection, database, schema)
                self._restrict(connection, schema, self._callers(auth))
        self._restrict_database(database, auth.auth_user)

    def provision_next(self, auth: AuthMaterial, database: str) -> None:
        """Create the next auth user, and let it call the function, as the auth user may still do."""
        if auth.next_auth is None:
            return
        self._ensure_user(auth.next_auth)
        with self._session.connect_to(database) as connection, connection.transaction():
            self._restrict(connection, auth.schema_name, self._callers(auth))
        self._restrict_database(database, auth.next_auth.username)

    def _ensure_user(self, login: Login) -> None:
        name = login.username
        self._roles.ensure_role(name, AUTH)
        self._roles.ensure_attributes(name, frozenset())
        self._roles.ensure_password(name, login.password)
        self._roles.ensure_memberships(name, self._roles.groups(frozenset()))
        self._grant_reserved_connections(name)

    def _callers(self, auth: AuthMaterial) -> frozenset[str]:
        """Return the auth users of this application that exist, and that a unit may use."""
        existing = self._session.ownership.roles(AUTH)
        return frozenset(login.username for login in auth.look_ups).intersection(existing)

    def _grant_reserved_connections(self, name: str) -> None:
        """Let look-ups use the reserved connections of PostgreSQL 16, if the backend's user may grant that.

        Clients can then log in to PgBouncer although all other connections are in use. See `reserved_connections`
        (https://www.postgresql.org/docs/current/runtime-config-connection.html).
        """
        row = self._session.connection.execute(
            """
            SELECT pg_has_role(%s::regrole, oid, 'MEMBER')
                   OR NOT pg_has_role(current_user, oid, 'MEMBER WITH ADMIN OPTION')
            FROM pg_roles WHERE rolname = %s
            """,
            (regrole(name), RESERVED),
        ).fetchone()
        if row == (False,):
            self._session.run("GRANT {g} TO {r}", g=RESERVED, r=name)

    def _check_rights(self) -> None:
        """Raise DatabaseRefused if the backend's user lacks a right that the function takes."""
        row = self._session.connection.execute(
            """
            SELECT rolsuper OR rolcreaterole, has_table_privilege('pg_authid', 'SELECT')
            FROM pg_roles WHERE rolname = current_user
            """
        ).fetchone()
        makes_roles, reads_passwords = row or (False, False)
        user = self._session.user
        if not makes_roles:
            raise DatabaseRefused(
                f"user {user} of PostgreSQL cannot make users: it has to be a superuser, or have"
                " CREATEROLE and CREATEDB"
            )
        if not reads_passwords:
            raise DatabaseRefused(
                f"user {user} of PostgreSQL cannot read pg_catalog.pg_authid, as the owner of the"
                " function get_auth, which looks passwords up there, must: it has to be a"
                f" superuser, or be granted SELECT on it in database {self._session.database}"
            )

    def _own_schemas(self, connection: Connection) -> tuple[str, ...]:
        """Return the schemas that this application made for its auth users."""
        rows = connection.execute(_OWN_SCHEMAS, (self._session.ownership.application,))
        return tuple(str(name) for (name,) in rows)

    def _ensure_schema(self, connection: Connection, database: str, schema: str) -> None:
        row = connection.execute(
            """
            SELECT pg_get_userbyid(nspowner), pg_get_userbyid(nspowner) = current_user,
                   obj_description(n.oid, 'pg_namespace'),
                   pg_has_role(current_user, nspowner, 'USAGE'),
                   EXISTS (SELECT FROM pg_proc p WHERE pronamespace = n.oid
                           AND (proname, oidvectortypes(proargtypes)) <> ('get_auth', 'text'))
            FROM pg_namespace n WHERE nspname = %s
            """,
            (schema,),
        ).fetchone()
        if row is None:
            comment = literal(self._session.ownership.application)
            run(connection, "CREATE SCHEMA {s}", s=schema)
            run(connection, "COMMENT ON SCHEMA {s} IS {comment}", s=schema, comment=comment)
            return
        owner, owned, comment, usable, has_other_functions = row
        if comment != self._session.ownership.application or not usable:
            raise DatabaseRefused(
                f"schema {schema} in database {database} belongs to {owner} and was not made by"
                " this application: rename or drop it"
            )
        if has_other_functions:
            raise DatabaseRefused(
                f"schema {schema} in database {database} has functions that were not made by this"
                " application: drop them"
            )
        # The user of an earlier backend relation made the schema, and another role owns it now.
        if not owned:
            run(connection, "ALTER SCHEMA {s} OWNER TO CURRENT_USER", s=schema)

    def _ensure_function(self, connection: Connection, database: str, schema: str) -> None:
        """Create the function; drop a function that differs before, so that an earlier owner has no hold on it."""
        body, comment = FUNCTION.read_text(), self._session.ownership.application
        row = connection.execute(
            """
            SELECT pg_get_userbyid(proowner) = current_user, prosrc, prosecdef, provolatile = 's',
                   proconfig, lanname, pg_get_function_result(p.oid),
                   obj_description(p.oid, 'pg_proc')
            FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
            JOIN pg_language l ON l.oid = prolang
            WHERE nspname = %s AND proname = 'get_auth'
            """,
            (schema,),
        ).fetchone()
        result = "TABLE(username text, password text)"
        options = ["search_path=pg_catalog, pg_temp"]
        if row == (True, body, True, True, options, LANGUAGE, result, comment):
            return
        self._check_language(connection, database)
        if row:
            run(connection, "DROP {f}", f=_get_auth(schema))
        run(
            connection,
            """
            CREATE FUNCTION {s}.get_auth(p_username pg_catalog.text)
            RETURNS TABLE (username pg_catalog.text, password pg_catalog.text)
            LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            AS {body}
            """,
            s=schema,
            body=literal(body),
        )
        run(
            connection,
            "COMMENT ON {f} IS {comment}",
            f=_get_auth(schema),
            comment=literal(comment),
        )

    def _check_language(self, connection: Connection, database: str) -> None:
        """Raise DatabaseRefused if the function cannot be written in its language in this database."""
        row = connection.execute(
            "SELECT has_language_privilege(oid, 'USAGE') FROM pg_language WHERE lanname = %s",
            (LANGUAGE,),
        ).fetchone()
        if row is None:
            raise DatabaseRefused(
                f"database {database} has no language {LANGUAGE}, in which the function get_auth is"
                f" written: run CREATE EXTENSION {LANGUAGE} there"
            )
        if row == (False,):
            raise DatabaseRefused(
                f"user {self._session.user} of PostgreSQL cannot use language {LANGUAGE} in"
                f" database {database}: run GRANT USAGE ON LANGUAGE {LANGUAGE} TO"
                f" {regrole(self._session.user)} there"
            )

    def _restrict(self, connection: Connection, schema: str, roles: frozenset[str]) -> None:
        """Let these roles call the function, and take all other rights away from all but the owner."""
        rights: tuple[tuple[LiteralString, sql.Composed, LiteralString], ...] = (
            ("USAGE", statement("SCHEMA {s}", s=schema), _SCHEMA_RIGHTS),
            ("EXECUTE", _get_auth(schema), _FUNCTION_RIGHTS),
        )
        for right, target, query in rights:
            granted = set(connection.execute(query, (schema,)))
            wanted = {(role, right) for role in roles}
            for grantee in sorted({grantee for grantee, _ in granted - wanted}):
                who = statement("{r}", r=grantee) if grantee else statement("PUBLIC")
                run(connection, "REVOKE ALL ON {t} FROM {who} CASCADE", t=target, who=who)
                granted.discard((grantee, right))
            for role, _ in sorted(wanted - granted):
                given = statement(right)
                run(connection, "GRANT {right} ON {t} TO {r}", right=given, t=target, r=role)

    def _restrict_database(self, database: str, auth_user: str) -> None:
        """Let the auth user connect; if the backend's user owns the database, let no client connect."""
        access = self._session.database_access(database)
        if access is None:
            raise DatabaseRefused(
                f"PostgreSQL has no database {database}: create it, or relate to PostgreSQL again"
            )
        if access.usable and (auth_user, "CONNECT") not in access.rights:
            self._session.run("GRANT CONNECT ON DATABASE {d} TO {r}", d=database, r=auth_user)
        public = ("", "CONNECT") in access.rights
        if access.owned and database not in COMMON_DATABASES and public:
            self._session.run("REVOKE CONNECT ON DATABASE {d} FROM PUBLIC", d=database)

    def drop(self, kept: str = "") -> None:
        """Drop the schemas of this application with their functions from the backend's own database.

        `kept` is the auth user whose schema stays; so does the schema of an earlier release then.
        """
        connection = self._session.connection
        for schema in self._own_schemas(connection):
            if not kept or schema not in (kept, FORMER_AUTH_SCHEMA):
                self._drop(connection, schema)

    def _drop(self, connection: Connection, schema: str) -> None:
        row = connection.execute(
            """
            SELECT obj_description(p.oid, 'pg_proc')
            FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace
            WHERE nspname = %s AND proname = 'get_auth' AND oidvectortypes(proargtypes) = 'text'
            """,
            (schema,),
        ).fetchone()
        with connection.transaction():
            if row and row[0] == self._session.ownership.application:
                self._session.run("DROP {f}", f=_get_auth(schema))
            self._session.run("DROP SCHEMA {s}", s=schema)


def _get_auth(schema: str) -> sql.Composed:
    return statement("FUNCTION {s}.get_auth(pg_catalog.text)", s=schema)
