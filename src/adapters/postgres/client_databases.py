"""Create the databases of clients, and let the clients of a database share the objects in it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, LiteralString

from adapters.postgres import leftover_code
from adapters.postgres.database_creation import create_database
from adapters.postgres.ownership import group_name, new_owner_name
from adapters.postgres.roles import Roles
from adapters.postgres.server import WRITABLE
from adapters.postgres.session import Session
from adapters.postgres.statements import regrole, run, statement
from app.errors import AccessRefused
from domain.made import CLIENT, GROUP
from domain.roles import ATTRIBUTES, attributes_of
from domain.rotation import twin
from domain.users import NAME_BYTES, Grant

if TYPE_CHECKING:
    from adapters.postgres.server import Connection

logger = logging.getLogger(__name__)

_DATABASE_RIGHTS = ("CONNECT", "CREATE", "TEMPORARY")

_V17, _V18 = 170_000, 180_000  # in the form of the protocol (server_version_num)

# Privileges are listed, because ALL grows with PostgreSQL's versions. TRIGGER is left out: a user that
# changes a table runs its triggers with the user's own rights. MAINTAIN is left out: VACUUM FULL locks a
# table against every other session.
_TABLE_RIGHTS: LiteralString = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES"
_SEQUENCE_RIGHTS: LiteralString = "USAGE, SELECT, UPDATE"
_SCHEMA_RIGHTS: LiteralString = "USAGE, CREATE"

# Kinds of objects: the letter in pg_default_acl, the name, and the group's rights on its members' objects.
# https://www.postgresql.org/docs/current/catalog-pg-default-acl.html
_KINDS: tuple[tuple[str, LiteralString, LiteralString], ...] = (
    ("n", "SCHEMAS", _SCHEMA_RIGHTS),
    ("r", "TABLES", _TABLE_RIGHTS),
    ("S", "SEQUENCES", _SEQUENCE_RIGHTS),
    ("f", "FUNCTIONS", "EXECUTE"),
    ("T", "TYPES", "USAGE"),
)
_LARGE_OBJECTS: tuple[tuple[str, LiteralString, LiteralString], ...] = (
    ("L", "LARGE OBJECTS", "SELECT, UPDATE"),
)

# The objects that a group cannot use, in schemas that belong neither to PostgreSQL nor to an extension nor to
# the auth function: kind, whether the backend's user may grant rights on the object, and the parts of its name.
_UNSHARED: LiteralString = """
WITH team AS (
    SELECT %(group)s::regrole::oid AS oid
), extension AS (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), schema AS (
    SELECT oid, nspname, nspowner FROM pg_namespace n
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    AND NOT ((nspname = 'pgbouncer' OR starts_with(nspname, 'pgbouncer_auth_'))
             AND coalesce(obj_description(oid, 'pg_namespace'), '') = %(comment)s)
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

_GRANTS: tuple[tuple[str, LiteralString], ...] = (
    ("SCHEMA", "GRANT " + _SCHEMA_RIGHTS + " ON SCHEMA {names} TO {g}"),
    ("SEQUENCE", "GRANT " + _SEQUENCE_RIGHTS + " ON SEQUENCE {names} TO {g}"),
    ("TABLE", "GRANT " + _TABLE_RIGHTS + " ON TABLE {names} TO {g}"),
)

# Tables on which earlier releases gave a group rights that are not listed above.
_EXCESS_RIGHTS: LiteralString = """
SELECT DISTINCT nspname, relname
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace, aclexplode(relacl) AS a
WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND grantee = %(group)s::regrole
AND relowner <> grantee AND grantor = relowner AND pg_has_role(current_user, relowner, 'USAGE')
AND privilege_type IN ('TRIGGER', 'MAINTAIN')
ORDER BY 1, 2
"""


class ClientDatabases:
    """The databases of clients. Each belongs to a group, whose members are the clients of the database."""

    def __init__(self, session: Session, roles: Roles) -> None:
        self._session = session
        self._roles = roles

    def grant(self, grant: Grant, oid: int) -> bool:
        """Create the user and its database, with its roles; return whether the user has no password yet."""
        name, database = grant.username, grant.database
        if len(database.encode()) > NAME_BYTES:
            raise AccessRefused(
                f"the name of database {database} is longer than {NAME_BYTES} bytes: the application"
                " has to ask for a shorter name"
            )
        groups = self._roles.groups(frozenset(grant.roles) - ATTRIBUTES)
        self._roles.ensure_role(name, CLIENT)
        self._roles.end_former_name(name)
        group = self.group_name(database)
        self._roles.ensure_role(group, GROUP)
        # First: nothing in the client's database keeps a role that the client does not request any more.
        self._roles.remove_roles(name, frozenset(grant.roles))
        self._check_database(database, group, oid)
        self._ensure_database(database, group)
        with self._session.connect_to(database, WRITABLE) as connection:
            former = self._session.role(twin(name))
            # A session of the role with the former name that leaves its client's role makes objects of its own.
            names = (name, twin(name)) if former and former.kind == CLIENT else (name,)
            for user in names:
                self._share_future_objects(connection, user, group)
            self._share_existing_objects(connection, database, group)
            if grant.roles:
                self._note_code(connection, database, group)
        # Last: a client that is refused above keeps the access that it has.
        self._roles.ensure_attributes(name, attributes_of(frozenset(grant.roles)))
        self._roles.ensure_memberships(name, groups | {group})
        row = self._session.connection.execute(
            "SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = %s", (name,)
        ).fetchone()
        return bool(row and row[0])

    def group_name(self, database: str) -> str:
        """Return the name of the group of a database."""
        return group_name(self._session.owner, database)

    def new_owner(self, database: str) -> str:
        """Return the role that will own a database, or the objects in it, after its clients have left.

        The role has rights only on objects that it owns, because a client's function or view that it
        owns runs with its rights.
        """
        name = self.group_name(database)
        role = self._session.role(name)
        return name if role and role.kind == GROUP else self._roles.ensure_new_owner()

    def _check_database(self, name: str, group: str, oid: int) -> None:
        """Raise AccessRefused if the database is not the database that the decision was made for."""
        access = self._session.database_access(name)
        if access and access.owner != group and access.oid != oid:
            raise AccessRefused(
                f"database {name} appeared in PostgreSQL just now: the next hook decides who gets it"
            )

    def _ensure_database(self, name: str, group: str) -> None:
        access = self._session.database_access(name)
        if access is None:
            create_database(self._session, name, group)
            access = self._session.database_access(name)
        if access is None:
            raise AccessRefused(
                f"database {name} was created in PostgreSQL and is gone again: find out who drops it;"
                " every hook tries again"
            )
        owner = access.owner
        if owner == new_owner_name(self._session.owner):
            self._session.run("ALTER DATABASE {d} OWNER TO {g}", d=name, g=group)
            owner = group
        if owner == group:
            self.close(name)
        elif not access.rights.issuperset((group, right) for right in _DATABASE_RIGHTS):
            if not access.usable:
                raise AccessRefused(
                    f"user {self._session.user} of PostgreSQL cannot give access to database {name},"
                    f" which belongs to {owner}: run"
                    f" `GRANT {regrole(owner)} TO {regrole(self._session.user)}`"
                )
            self._session.run(
                "GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {d} TO {g}", d=name, g=group
            )

    def close(self, name: str) -> None:
        """Take the rights to connect to a database, and to make temporary tables, from PUBLIC."""
        access = self._session.database_access(name)
        if access and access.rights & {("", "CONNECT"), ("", "TEMPORARY")}:
            self._session.run("REVOKE CONNECT, TEMPORARY ON DATABASE {d} FROM PUBLIC", d=name)

    def _note_code(self, connection: Connection, database: str, group: str) -> None:
        """Note code of clients that have left, which would run with the rights of a client with roles."""
        roles = map(self._session.role, (group, new_owner_name(self._session.owner)))
        oids = [role.oid for role in roles if role]
        if code := leftover_code.code_run_by_others(connection, oids):
            self._session.note(f"clients that have gone left in database {database}: {code}")

    def _share_future_objects(self, connection: Connection, user: str, group: str) -> None:
        """Let the group use the objects that the user will create."""
        kinds = _KINDS + (_LARGE_OBJECTS if connection.info.server_version >= _V18 else ())
        rows = connection.execute(
            """
            SELECT defaclobjtype::text, privilege_type
            FROM pg_default_acl, aclexplode(defaclacl)
            WHERE defaclrole = %s::regrole AND defaclnamespace = 0 AND grantee = %s::regrole
            """,
            (regrole(user), regrole(group)),
        )
        granted = set(rows)
        for kind, plural, rights in kinds:
            before = {right for granted_kind, right in granted if granted_kind == kind}
            wanted = set(rights.split(", "))
            parts = {"u": user, "kinds": statement(plural), "g": group}
            if before - wanted:
                run(
                    connection,
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {u} REVOKE ALL ON {kinds} FROM {g}",
                    **parts,
                )
            if before != wanted:
                run(
                    connection,
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {u} GRANT {rights} ON {kinds} TO {g}",
                    rights=statement(rights),
                    **parts,
                )

    def _share_existing_objects(self, connection: Connection, database: str, group: str) -> None:
        """Let the group use the objects that exist, as far as the backend's user may grant it."""
        from psycopg import sql

        comment = self._session.ownership.application
        values = {"group": regrole(group), "comment": comment}
        rows = connection.execute(_UNSHARED, values).fetchall()
        if kept := [".".join(parts) for _, grantable, parts in rows if not grantable]:
            logger.warning(
                "Clients of database %s cannot use objects there that belong to other roles: %s",
                database,
                ", ".join(kept[:5]) + (", …" if kept[5:] else ""),
            )
        for kind, text in _GRANTS:
            names = [
                sql.Identifier(*parts)
                for row_kind, grantable, parts in rows
                if grantable and row_kind == kind
            ]
            if names:
                run(connection, text, names=sql.SQL(", ").join(names), g=group)
        tables = connection.execute(_EXCESS_RIGHTS, {"group": regrole(group)}).fetchall()
        if tables:
            more: LiteralString = ", MAINTAIN" if connection.info.server_version >= _V17 else ""
            names = [sql.Identifier(*parts) for parts in tables]
            text = "REVOKE TRIGGER" + more + " ON TABLE {names} FROM {g}"
            run(connection, text, names=sql.SQL(", ").join(names), g=group)
