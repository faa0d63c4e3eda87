"""How may the auth user look passwords up, and nobody else?"""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, LiteralString

from adapters.postgres.roles import Roles
from adapters.postgres.session import Session
from adapters.postgres.statements import literal, regrole, run, statement
from app.errors import DatabaseRefused
from domain.users import AuthMaterial

if TYPE_CHECKING:
    from psycopg import sql

    from adapters.postgres.server import Connection

SCHEMA = "pgbouncer"
RESERVED = "pg_use_reserved_connections"
FUNCTION = pathlib.Path(__file__).parents[3] / "templates" / "get_auth.sql"

# Everybody uses these as their first database, whoever owns them.
COMMON_DATABASES = frozenset({"postgres", "template1"})

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


class Lookup:
    """The function get_auth, in a schema of its own."""

    def __init__(self, session: Session, roles: Roles) -> None:
        self._session = session
        self._roles = roles

    def provision(self, auth: AuthMaterial, database: str) -> None:
        """The auth user is there, and in `database` the function, which nobody else may use."""
        self._check_rights()
        name = auth.auth_user
        self._roles.have_role(name, self._session.marks.auth)
        self._roles.have_attributes(name, frozenset())
        self._roles.have_password(name, auth.auth_password)
        self._roles.have_memberships(name, self._roles.groups(frozenset()))
        self._reserve(name)
        with self._session.inside(database) as inside, inside.transaction():
            self._have_schema(inside, database)
            self._have_function(inside)
            self._only_for(
                inside, name, "USAGE", statement("SCHEMA {s}", s=SCHEMA), _SCHEMA_RIGHTS
            )
            self._only_for(inside, name, "EXECUTE", _get_auth(), _FUNCTION_RIGHTS)
        self._close(database, name)

    def _reserve(self, name: str) -> None:
        """Let look-ups use the reserved connections of PostgreSQL 16, if the backend's user may grant that.

        Clients can be let in then although all other connections are taken. See `reserved_connections`
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
            run(inside, "CREATE SCHEMA {s}", s=SCHEMA)
            run(
                inside,
                "COMMENT ON SCHEMA {s} IS {mark}",
                s=SCHEMA,
                mark=literal(self._session.marks.application),
            )
            return
        owner, owned, mark, usable, crowded = row
        if mark != self._session.marks.application or not usable:
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
            run(inside, "ALTER SCHEMA {s} OWNER TO CURRENT_USER", s=SCHEMA)

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
        if row == (
            True,
            body,
            True,
            True,
            pinned,
            "sql",
            returned,
            self._session.marks.application,
        ):
            return
        if row:
            run(inside, "DROP {f}", f=_get_auth())
        run(
            inside,
            """
            CREATE FUNCTION {s}.get_auth(p_username pg_catalog.text)
            RETURNS TABLE (username pg_catalog.text, password pg_catalog.text)
            LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
            AS {body}
            """,
            s=SCHEMA,
            body=literal(body),
        )
        run(
            inside,
            "COMMENT ON {f} IS {mark}",
            f=_get_auth(),
            mark=literal(self._session.marks.application),
        )

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
            who = statement("{r}", r=grantee) if grantee else statement("PUBLIC")
            run(inside, "REVOKE ALL ON {t} FROM {who} CASCADE", t=target, who=who)
            held -= {(role, right)} if grantee == role else set()
        if (role, right) not in held:
            run(inside, "GRANT {right} ON {t} TO {r}", right=statement(right), t=target, r=role)

    def _close(self, database: str, auth_user: str) -> None:
        """The auth user enters this database; if it is our own, clients do not."""
        held = self._session.held(database)
        if held is None:
            raise DatabaseRefused(f"PostgreSQL has no database {database}")
        if held.usable and (auth_user, "CONNECT") not in held.rights:
            self._session.run("GRANT CONNECT ON DATABASE {d} TO {r}", d=database, r=auth_user)
        if held.ours and database not in COMMON_DATABASES and ("", "CONNECT") in held.rights:
            self._session.run("REVOKE CONNECT ON DATABASE {d} FROM PUBLIC", d=database)

    def drop(self) -> None:
        """The function and its schema are gone from the backend's own database, if they were ours."""
        row = self._session.connection.execute(
            """
            SELECT (SELECT obj_description(p.oid, 'pg_proc') FROM pg_proc p
                    WHERE pronamespace = n.oid AND proname = 'get_auth'
                    AND oidvectortypes(proargtypes) = 'text')
            FROM pg_namespace n
            WHERE nspname = %s AND obj_description(n.oid, 'pg_namespace') = %s
            """,
            (SCHEMA, self._session.marks.application),
        ).fetchone()
        if row is None:
            return
        with self._session.connection.transaction():
            if row[0] == self._session.marks.application:
                self._session.run("DROP {f}", f=_get_auth())
            self._session.run("DROP SCHEMA {s}", s=SCHEMA)


def _get_auth() -> sql.Composed:
    return statement("FUNCTION {s}.get_auth(pg_catalog.text)", s=SCHEMA)
