"""Give the role of a client another name, and let the client log in with its former name for a while."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING

from adapters.postgres.session import foreign_role
from adapters.postgres.statements import literal, regrole, statement
from app.errors import AccessRefused
from domain.made import CLIENT

if TYPE_CHECKING:
    from psycopg import sql

    from adapters.postgres.roles import Roles
    from adapters.postgres.session import Session


# The settings of a role, with the database for which they hold.
_SETTINGS = """
SELECT datname, split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
FROM pg_db_role_setting LEFT JOIN pg_database d ON d.oid = setdatabase, unnest(setconfig) AS setting
WHERE setrole = %s AND split_part(setting, '=', 1) NOT IN ('role', 'session_authorization')
ORDER BY 1, 2
"""

# Settings whose values are lists of names. PostgreSQL stores a list as a text in which names may be quoted.
_LISTS = frozenset(
    ("search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries")
)


def _setting(name: str, value: str) -> sql.Composable:
    """Return the value of a setting for ALTER ROLE: a text, or the texts of a list."""
    from psycopg import sql

    if name.lower() not in _LISTS:
        return sql.Literal(value)
    quoted = re.findall(r'"((?:[^"]|"")*)"|([^\s,"]+)', value)
    names = [inner.replace('""', '"') if inner else plain for inner, plain in quoted]
    return sql.SQL(", ").join(map(sql.Literal, names or [""]))


class FormerNames:
    """The roles with former names of clients."""

    def __init__(self, session: Session, roles: Roles) -> None:
        self._session = session
        self._roles = roles

    def rename(self, former: str, name: str) -> None:
        """Give the role of a client its new name, in a single transaction with the role that has its former name.

        Renaming a role keeps its OID, its objects, its rights and its sessions. Its verifier goes to the role with
        the former name, so that the former password never lets the new name in. Sessions of the role with the
        former name act as the client's role, so that what they create belongs to it: PostgreSQL sets `role` at
        login, and again with DISCARD ALL. (https://www.postgresql.org/docs/current/sql-set-role.html)
        """
        session = self._session
        client, new = session.role(former), session.role(name)
        if new is not None:
            if new.kind != CLIENT:
                raise foreign_role(name)
            if self._is_member(name, former):
                raise AccessRefused(
                    f"role {name} of PostgreSQL still belongs to the last rotation of this client: every"
                    " hook tries to drop it"
                )
            return
        if client is None:
            return
        if client.kind != CLIENT:
            raise foreign_role(former)
        comments = session.ownership
        with session.connection.transaction():
            row = session.connection.execute(
                "SELECT rolpassword FROM pg_authid WHERE oid = %s", (client.oid,)
            ).fetchone()
            session.run("ALTER ROLE {r} RENAME TO {n}", r=former, n=name)
            comment = literal(comments.of_role(CLIENT, client.oid, name))
            session.run("COMMENT ON ROLE {r} IS {comment}", r=name, comment=comment)
            comments.record(CLIENT, client.oid, name)
            self._roles.ensure_role(former, CLIENT)
            options = " WITH INHERIT TRUE, SET TRUE" if session.memberships_have_grantors else ""
            session.run("GRANT {r} TO {f}" + options, r=name, f=former)
            self._copy_settings(client.oid, former)
            session.run("ALTER ROLE {f} SET role = {r}", f=former, r=name)
            session.run("ALTER ROLE {f} LOGIN", f=former)
            if row and row[0]:
                self._roles.set_verifier(former, row[0])
            # The former password is that of the former name alone.
            session.run("ALTER ROLE {r} PASSWORD NULL", r=name)

    def _copy_settings(self, oid: int, former: str) -> None:
        """Give the role with a former name the limit of connections and the settings of the client's role.

        PostgreSQL applies the settings of the role that logs in, and not those of the role that it acts as. A
        setting that the backend's user may not set is left out.
        """
        from psycopg import sql

        session = self._session
        limit = session.connection.execute(
            "SELECT rolconnlimit FROM pg_roles WHERE oid = %s", (oid,)
        ).fetchone()
        if limit and limit[0] >= 0:
            session.run("ALTER ROLE {f} CONNECTION LIMIT {n}", f=former, n=sql.Literal(limit[0]))
        rows = session.connection.execute(_SETTINGS, (oid,)).fetchall()
        for database, name, value in rows:
            within = sql.SQL("IN DATABASE {d} ").format(d=sql.Identifier(database or ""))
            change = statement(
                "ALTER ROLE {f} {within}SET {name} TO {value}",
                f=former,
                within=within if database else sql.SQL(""),
                name=str(name),
                value=_setting(str(name), str(value)),
            )
            session.logged(lambda change=change: self._try(change))

    def _try(self, change: sql.Composed) -> None:
        """Execute a statement, and undo it alone if PostgreSQL refuses it."""
        with self._session.connection.transaction():
            self._session.connection.execute(change)

    def expire(self, former: str, seconds: float) -> float:
        """Let the role with a former name log in for so many seconds; return the end since the epoch."""
        role = self._session.role(former)
        if role and role.kind != CLIENT:
            raise foreign_role(former)
        query = "SELECT extract(epoch FROM clock_timestamp())::float8"
        row = self._session.connection.execute(query).fetchone()
        until = float(row[0]) + seconds if row else 0.0
        if role:
            end = datetime.datetime.fromtimestamp(until, datetime.UTC)
            self._session.run("ALTER ROLE {r} VALID UNTIL {end}", r=former, end=literal(str(end)))
        return until

    def _is_member(self, member: str, role: str) -> bool:
        row = self._session.connection.execute(
            """
            SELECT EXISTS (SELECT FROM pg_auth_members
                           WHERE member = %s::regrole AND roleid = to_regrole(%s))
            """,
            (regrole(member), regrole(role)),
        ).fetchone()
        return bool(row and row[0])
