"""Find the rights that a member of a PostgreSQL role gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from domain.consent import BECOME_SUPERUSER, RoleRights, rights_of
from domain.roles import ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adapters.postgres.session import Session

# All memberships count, also those without the options INHERIT and SET: an administrator of a membership
# can set them.
_ROLES: LiteralString = """
WITH RECURSIVE reached AS (
    SELECT oid FROM pg_roles WHERE rolname = %s
    UNION
    SELECT m.roleid FROM pg_auth_members m JOIN reached ON m.member = reached.oid
)
SELECT r.oid, rolname, rolsuper, rolreplication, rolbypassrls, rolcreaterole, rolcreatedb
FROM pg_roles r JOIN reached USING (oid) ORDER BY rolname
"""
_ATTRIBUTES = ("superuser", "replication", "bypassrls", "createrole", "createdb")

_DATABASES: LiteralString = """
SELECT DISTINCT datname FROM pg_shdepend s
JOIN pg_database d ON d.oid = s.dbid
    OR (s.dbid = 0 AND s.classid = 'pg_database'::regclass AND s.objid = d.oid)
WHERE refclassid = 'pg_authid'::regclass AND refobjid = ANY(%s::oid[]) AND datname <> %s
ORDER BY 1
"""

_SHARED_OBJECTS: LiteralString = """
SELECT DISTINCT pg_describe_object(classid, objid, objsubid) FROM pg_shdepend
WHERE refclassid = 'pg_authid'::regclass AND refobjid = ANY(%s::oid[]) AND dbid = 0
AND classid NOT IN ('pg_database'::regclass, 'pg_auth_members'::regclass)
ORDER BY 1
"""

# Functions that these roles may call and PUBLIC may not: functions that change the session's user, that
# run as a superuser, or that are built in, such as pg_read_file.
_FUNCTIONS: LiteralString = """
SELECT DISTINCT quote_ident(nspname) || '.' || quote_ident(proname)
FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_roles o ON o.oid = proowner,
     aclexplode(proacl) AS a
WHERE a.grantee = ANY(%(oids)s::oid[])
AND (proname = ANY(%(names)s) OR nspname = 'pg_catalog' OR (prosecdef AND o.rolsuper))
AND NOT EXISTS (SELECT FROM aclexplode(proacl) AS public WHERE public.grantee = 0)
ORDER BY 1
"""

_FOREIGN: LiteralString = """
SELECT 'foreign server ' || quote_ident(srvname) FROM pg_foreign_server, aclexplode(srvacl) AS a
WHERE a.grantee = ANY(%(oids)s::oid[]) OR srvowner = ANY(%(oids)s::oid[])
UNION
SELECT 'foreign-data wrapper ' || quote_ident(fdwname)
FROM pg_foreign_data_wrapper, aclexplode(fdwacl) AS a
WHERE a.grantee = ANY(%(oids)s::oid[]) OR fdwowner = ANY(%(oids)s::oid[])
ORDER BY 1
"""


def rights_of_roles(
    session: Session, roles: Iterable[str], database: str
) -> tuple[RoleRights, ...]:
    """Return the rights of each of these roles outside of this database, the database of a client.

    Raises psycopg.Error, and the errors of `Session.connect_to`.
    """
    major = session.connection.info.server_version // 10_000
    return tuple(
        rights_of(role, major)
        if role in ATTRIBUTES
        else _rights_of_group(session, role, database, major)
        for role in roles
    )


def _rights_of_group(session: Session, role: str, database: str, major: int) -> RoleRights:
    rows = session.connection.execute(_ROLES, (role,)).fetchall()
    oids = [row[0] for row in rows]
    attributes = [
        (attribute, row[1])
        for row in rows
        for attribute, has in zip(_ATTRIBUTES, row[2:], strict=True)
        if has
    ]
    functions, objects = set[str](), set[str]()
    searched = [session.database, *([database] if session.database_access(database) else [])]
    for name in dict.fromkeys(searched) if oids else ():
        with session.connect_to(name) as connection:
            parts = {"oids": oids, "names": sorted(BECOME_SUPERUSER)}
            functions.update(row[0] for row in connection.execute(_FUNCTIONS, parts))
            objects.update(row[0] for row in connection.execute(_FOREIGN, parts))
    shared = session.connection.execute(_SHARED_OBJECTS, (oids,))
    return rights_of(
        role,
        major,
        attributes=attributes,
        predefined=[name for _, name, *_ in rows if name.startswith("pg_")],
        functions=sorted(functions),
        databases=[row[0] for row in session.connection.execute(_DATABASES, (oids, database))],
        objects=sorted(objects.union(row[0] for row in shared)),
    )
