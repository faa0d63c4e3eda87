"""How do the clients of a database share it, and nobody else enters?"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, LiteralString

from adapters.postgres.creation import create_database
from adapters.postgres.lookup import SCHEMA
from adapters.postgres.roles import Roles
from adapters.postgres.server import WRITABLE
from adapters.postgres.session import Session
from adapters.postgres.statements import regrole, run, statement
from app.errors import AccessRefused
from domain.users import ATTRIBUTES, NAME_BYTES, Grant

if TYPE_CHECKING:
    from adapters.postgres.server import Connection

logger = logging.getLogger(__name__)

# What the PostgreSQL charms give a user of their own with a group.
_IMPLIED = {"admin": "createdb"}

_DATABASE_RIGHTS = ("CONNECT", "CREATE", "TEMPORARY")

_V18 = 180_000  # as the protocol tells versions

# https://www.postgresql.org/docs/current/catalog-pg-default-acl.html
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


class Sharing:
    """The databases of clients, each of which belongs to a group."""

    def __init__(self, session: Session, roles: Roles) -> None:
        self._session = session
        self._roles = roles

    def grant(self, grant: Grant) -> bool:
        """The user is there with its database and its roles; whether it has no password yet."""
        name, database = grant.username, grant.database
        if len(database.encode()) > NAME_BYTES:
            raise AccessRefused(f"the name {database} is longer than {NAME_BYTES} bytes")
        groups = self._roles.groups(frozenset(grant.roles) - ATTRIBUTES)
        attributes = {_IMPLIED.get(role, role) for role in grant.roles} & ATTRIBUTES
        self._roles.have_role(name, self._session.marks.client)
        group = self._group_name(database)
        self._roles.have_role(group, self._session.marks.group)
        self._roles.have_attributes(name, frozenset(attributes))
        self._roles.have_memberships(name, groups | {group})
        self._have_database(database, group)
        with self._session.inside(database, WRITABLE) as inside:
            self._share_future(inside, name, group)
            self._share_present(inside, database, group)
        row = self._session.connection.execute(
            "SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = %s", (name,)
        ).fetchone()
        return bool(row and row[0])

    def _group_name(self, database: str) -> str:
        """The same for each client of a database, and another for another application."""
        both = f"{self._session.owner}\0{database}".encode()
        return f"pgbouncer_{hashlib.sha256(both).hexdigest()[:32]}"

    def group_of(self, database: str) -> str | None:
        """The group to which a database belongs, if it has one."""
        name = self._group_name(database)
        role = self._session.role(name)
        return name if role and role.mark == self._session.marks.group else None

    def _have_database(self, name: str, group: str) -> None:
        held = self._session.held(name)
        if held is None:
            create_database(self._session, name, group)
            held = self._session.held(name)
        if held is None:
            raise AccessRefused(f"database {name} was made in PostgreSQL and is gone again")
        if held.owner == group:
            if held.rights & {("", "CONNECT"), ("", "TEMPORARY")}:
                self._session.run("REVOKE CONNECT, TEMPORARY ON DATABASE {d} FROM PUBLIC", d=name)
        elif not held.rights.issuperset((group, right) for right in _DATABASE_RIGHTS):
            if not held.usable:
                raise AccessRefused(
                    f"user {self._session.user} of PostgreSQL cannot give access to database {name},"
                    f" which belongs to {held.owner}"
                )
            self._session.run("GRANT ALL ON DATABASE {d} TO {g}", d=name, g=group)

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
        rows = inside.execute(
            """
            SELECT kind::text, privilege_type
            FROM unnest(%s::"char"[]) AS kind,
                 aclexplode(acldefault(CASE kind WHEN 'S' THEN 's' ELSE kind END, %s::regrole))
            WHERE grantee = %s::regrole
            """,
            ([kind for kind, _ in kinds], regrole(group), regrole(group)),
        )
        lacking = {kind for kind, _ in set(rows) - held}
        for kind, plural in kinds:
            if kind in lacking:
                run(
                    inside,
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {u} GRANT ALL ON {kinds} TO {g}",
                    u=user,
                    kinds=statement(plural),
                    g=group,
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
