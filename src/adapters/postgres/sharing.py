"""How do the clients of a database share it, and nobody else enters?"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, LiteralString

from adapters.postgres import remains
from adapters.postgres.creation import create_database
from adapters.postgres.lookup import SCHEMA
from adapters.postgres.ours import group_name, heir_name
from adapters.postgres.roles import Roles
from adapters.postgres.server import WRITABLE
from adapters.postgres.session import Session
from adapters.postgres.statements import regrole, run, statement
from app.errors import AccessRefused
from domain.roles import ATTRIBUTES, attributes_of
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

_GRANTS: tuple[tuple[str, LiteralString], ...] = (
    ("SCHEMA", "GRANT " + _SCHEMA_RIGHTS + " ON SCHEMA {names} TO {g}"),
    ("SEQUENCE", "GRANT " + _SEQUENCE_RIGHTS + " ON SEQUENCE {names} TO {g}"),
    ("TABLE", "GRANT " + _TABLE_RIGHTS + " ON TABLE {names} TO {g}"),
)

# Tables on which earlier releases gave a group more than is listed.
_TOO_MUCH: LiteralString = """
SELECT DISTINCT nspname, relname
FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace, aclexplode(relacl) AS a
WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND grantee = %(group)s::regrole
AND relowner <> grantee AND grantor = relowner AND pg_has_role(current_user, relowner, 'USAGE')
AND privilege_type IN ('TRIGGER', 'MAINTAIN')
ORDER BY 1, 2
"""


class Sharing:
    """The databases of clients, each of which belongs to a group."""

    def __init__(self, session: Session, roles: Roles) -> None:
        self._session = session
        self._roles = roles

    def grant(self, grant: Grant, oid: int) -> bool:
        """The user is there with its database and its roles; whether it has no password yet."""
        name, database = grant.username, grant.database
        if len(database.encode()) > NAME_BYTES:
            raise AccessRefused(f"the name {database} is longer than {NAME_BYTES} bytes")
        groups = self._roles.groups(frozenset(grant.roles) - ATTRIBUTES)
        self._roles.have_role(name, self._session.marks.client)
        group = self.group_name(database)
        self._roles.have_role(group, self._session.marks.group)
        self._check_database(database, group, oid)
        self._roles.have_attributes(name, attributes_of(frozenset(grant.roles)))
        self._roles.have_memberships(name, groups | {group})
        self._have_database(database, group)
        with self._session.inside(database, WRITABLE) as inside:
            self._share_future(inside, name, group)
            self._share_present(inside, database, group)
            if grant.roles:
                self._note_code(inside, database, group)
        row = self._session.connection.execute(
            "SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = %s", (name,)
        ).fetchone()
        return bool(row and row[0])

    def group_name(self, database: str) -> str:
        """Return the name of the group of a database."""
        return group_name(self._session.owner, database)

    def group_of(self, database: str) -> str | None:
        """The group to which a database belongs, if it has one."""
        name = self.group_name(database)
        role = self._session.role(name)
        return name if role and role.mark == self._session.marks.group else None

    def heir(self, database: str) -> str:
        """Return the role that will own a database, or the objects in it, after its clients have left.

        The role has rights only on objects that it owns, because a client's function or view that it
        owns runs with its rights.
        """
        return self.group_of(database) or self._roles.have_heir()

    def _check_database(self, name: str, group: str, oid: int) -> None:
        """Raise AccessRefused if the database is not the database that the decision was made for."""
        held = self._session.held(name)
        if held and held.owner != group and held.oid != oid:
            raise AccessRefused(f"database {name} appeared in PostgreSQL just now")

    def _have_database(self, name: str, group: str) -> None:
        held = self._session.held(name)
        if held is None:
            create_database(self._session, name, group)
            held = self._session.held(name)
        if held is None:
            raise AccessRefused(f"database {name} was made in PostgreSQL and is gone again")
        if held.owner == heir_name(self._session.owner):
            self._session.run("ALTER DATABASE {d} OWNER TO {g}", d=name, g=group)
            held = held._replace(owner=group)
        if held.owner == group:
            self.close(name)
        elif not held.rights.issuperset((group, right) for right in _DATABASE_RIGHTS):
            if not held.usable:
                raise AccessRefused(
                    f"user {self._session.user} of PostgreSQL cannot give access to database {name},"
                    f" which belongs to {held.owner}"
                )
            self._session.run(
                "GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {d} TO {g}", d=name, g=group
            )

    def close(self, name: str) -> None:
        """Take the rights to connect to a database, and to make temporary tables, from PUBLIC."""
        held = self._session.held(name)
        if held and held.rights & {("", "CONNECT"), ("", "TEMPORARY")}:
            self._session.run("REVOKE CONNECT, TEMPORARY ON DATABASE {d} FROM PUBLIC", d=name)

    def _note_code(self, inside: Connection, database: str, group: str) -> None:
        """Note code of clients that have left, which would run with the rights of a client with roles."""
        roles = map(self._session.role, (group, heir_name(self._session.owner)))
        if code := remains.runs_as_others(inside, [role.oid for role in roles if role]):
            self._session.note(f"clients that have gone left in database {database}: {code}")

    def _share_future(self, inside: Connection, user: str, group: str) -> None:
        """What the user makes from now on, the group may use."""
        kinds = _KINDS + (_LARGE_OBJECTS if inside.info.server_version >= _V18 else ())
        rows = inside.execute(
            """
            SELECT defaclobjtype::text, privilege_type
            FROM pg_default_acl, aclexplode(defaclacl)
            WHERE defaclrole = %s::regrole AND defaclnamespace = 0 AND grantee = %s::regrole
            """,
            (regrole(user), regrole(group)),
        )
        held = set(rows)
        for kind, plural, rights in kinds:
            has = {right for found, right in held if found == kind}
            wanted = set(rights.split(", "))
            parts = {"u": user, "kinds": statement(plural), "g": group}
            if has - wanted:
                run(
                    inside,
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {u} REVOKE ALL ON {kinds} FROM {g}",
                    **parts,
                )
            if has != wanted:
                run(
                    inside,
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {u} GRANT {rights} ON {kinds} TO {g}",
                    rights=statement(rights),
                    **parts,
                )

    def _share_present(self, inside: Connection, database: str, group: str) -> None:
        """What is there already, the group may use, as far as it is ours to give."""
        from psycopg import sql

        rows = inside.execute(
            _UNSHARED,
            {"group": regrole(group), "schema": SCHEMA, "mark": self._session.marks.application},
        ).fetchall()
        if kept := [".".join(parts) for _, ours, parts in rows if not ours]:
            logger.warning(
                "Clients of database %s cannot use what belongs to others there: %s",
                database,
                ", ".join(kept[:5]) + (", …" if kept[5:] else ""),
            )
        for kind, text in _GRANTS:
            names = [sql.Identifier(*parts) for k, ours, parts in rows if ours and k == kind]
            if names:
                run(inside, text, names=sql.SQL(", ").join(names), g=group)
        found = inside.execute(_TOO_MUCH, {"group": regrole(group)}).fetchall()
        if found:
            more: LiteralString = ", MAINTAIN" if inside.info.server_version >= _V17 else ""
            names = [sql.Identifier(*parts) for parts in found]
            text = "REVOKE TRIGGER" + more + " ON TABLE {names} FROM {g}"
            run(inside, text, names=sql.SQL(", ").join(names), g=group)
