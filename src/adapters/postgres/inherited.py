"""Take over roles and databases that Canonical's charm made, and drop its auth user with its functions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from adapters.postgres.lockout import end_sessions
from adapters.postgres.server import WRITABLE
from adapters.postgres.statements import literal, run
from app.errors import DatabaseRefused
from domain import scram
from domain.made import AUTH, CLIENT, GROUP

if TYPE_CHECKING:
    from collections.abc import Callable

    from adapters.postgres.roles import Roles
    from adapters.postgres.server import Connection
    from adapters.postgres.session import Session
    from domain.reference import InheritedRole

# The function and the schema that Canonical's charm made in a database, if the backend's user owns both: a schema
# of this name that a client made is not dropped.
_FUNCTION = """
SELECT p.oid IS NOT NULL FROM pg_namespace n
LEFT JOIN pg_proc p ON p.pronamespace = n.oid AND proname = 'get_auth'
                   AND oidvectortypes(proargtypes) = 'text' AND proowner = nspowner
WHERE nspname = %s AND nspowner = current_user::regrole
"""


class InheritedRoles:
    """The roles that Canonical's charm made, which have no comment and are not in the ledger."""

    def __init__(self, session: Session, roles: Roles, group_name: Callable[[str], str]) -> None:
        self._session = session
        self._roles = roles
        self._group_name = group_name

    def adopt(self, wanted: InheritedRole) -> bool:
        """Make a role that the peer data of Canonical's charm name that of this application.

        The password that was published has to be that of the role: a client may have made a role of this name.
        Without a password the client has left, and the caller drops the role. A superuser, and a role that was
        given to another user, stay as they are. Returns whether this application has the role.
        """
        session, name = self._session, wanted.username
        role = session.role(name)
        if role is None or role.kind is not None:
            return role is not None and role.kind == CLIENT
        row = session.connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE oid = %s", (role.oid,)
        ).fetchone()
        stored = str(row[0]) if row and row[0] else ""
        if role.privileged:
            session.note(f"role {name} stays: it is superuser, or has replication or bypassrls")
            return False
        if foreign := session.ownership.foreign_members(role.oid, CLIENT):
            session.note(f"role {name} stays: it was given to {foreign[0]}")
            return False
        password = wanted.password
        if password and not scram.fits(stored, name, password.get_secret_value()):
            session.note(f"role {name} stays: its password is not the published password")
            return False
        with session.connection.transaction():
            comment = session.ownership.of_role(CLIENT, role.oid, name)
            session.run("COMMENT ON ROLE {r} IS {comment}", r=name, comment=literal(comment))
            session.ownership.record(CLIENT, role.oid, name)
        if password:
            # The function of this application returns SCRAM verifiers only, and no MD5 hashes.
            if not stored.startswith("SCRAM-"):
                self._roles.ensure_password(name, password)
            self._adopt_database(wanted.database)
        return True

    def _adopt_database(self, name: str) -> None:
        """Give a database that Canonical's charm made to the group of its clients."""
        access = self._session.database_access(name)
        if access and access.owned and name != self._session.database:
            group = self._group_name(name)
            self._roles.ensure_role(group, GROUP)
            self._session.run("ALTER DATABASE {d} OWNER TO {g}", d=name, g=group)

    def drop_auth_user(self, name: str, new_owner: Callable[[str], str]) -> None:
        """Drop the auth user of Canonical's charm, and its schema with its function in every database."""
        session = self._session
        role = session.role(name)
        if role is None or role.kind is not None:
            return
        session.run("ALTER ROLE {r} NOLOGIN NOSUPERUSER PASSWORD NULL", r=name)
        end_sessions(session, [role.oid])
        rows = session.connection.execute(
            """
            SELECT datname FROM pg_database WHERE datallowconn AND oid IN (
                SELECT dbid FROM pg_shdepend
                WHERE refclassid = 'pg_authid'::regclass AND refobjid = %s)
            ORDER BY datname
            """,
            (role.oid,),
        ).fetchall()
        failures: list[str] = []
        for (database,) in rows:
            failures += session.logged(partial(self._drop_function, database, name))
        if failures:
            raise DatabaseRefused(failures[0])
        session.ownership.record(AUTH, role.oid, name)
        self._roles.drop(name, AUTH, new_owner)

    def _drop_function(self, database: str, schema: str) -> None:
        with (
            self._session.connect_to(database, WRITABLE) as connection,
            connection.transaction(),
        ):
            self._drop_in(connection, schema)

    def _drop_in(self, connection: Connection, schema: str) -> None:
        row = connection.execute(_FUNCTION, (schema,)).fetchone()
        if row is None:
            return
        if row[0]:
            run(connection, "DROP FUNCTION {s}.get_auth(pg_catalog.text)", s=schema)
        run(connection, "DROP SCHEMA {s}", s=schema)
