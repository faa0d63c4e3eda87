"""Find the rights that a member of a PostgreSQL role gets."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from domain.consent import BECOME_SUPERUSER, Reach, reach_of
from domain.roles import ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adapters.postgres.session import Session

# Each membership is followed, whether it has the option INHERIT, SET or only ADMIN.
_ROLES: LiteralString = """
WITH RECURSIVE leads AS (
    SELECT oid FROM pg_roles WHERE rolname = %s
    UNION
    SELECT m.roleid FROM pg_auth_members m JOIN leads ON m.member = leads.oid
)
SELECT r.oid, rolname, rolsuper, rolreplication, rolbypassrls, rolcreaterole, rolcreatedb
FROM pg_roles r JOIN leads USING (oid) ORDER BY rolname
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


def reaches(session: Session, roles: Iterable[str], database: str) -> tuple[Reach, ...]:
    """Return the reach of each of these roles, for a client of this database.

    Raises psycopg.Error, and the errors of `Session.inside`.
    """
    major = session.connection.info.server_version // 10_000
    return tuple(
        reach_of(role, major) if role in ATTRIBUTES else _followed(session, role, database, major)
        for role in roles
    )


def _followed(session: Session, role: str, database: str, major: int) -> Reach:
    found = session.connection.execute(_ROLES, (role,)).fetchall()
    oids = [row[0] for row in found]
    attributes = [
        (attribute, row[1])
        for row in found
        for attribute, has in zip(_ATTRIBUTES, row[2:], strict=True)
        if has
    ]
    functions, objects = set[str](), set[str]()
    inside = [session.database, *([database] if session.held(database) else [])]
    for name in dict.fromkeys(inside) if oids else ():
        with session.inside(name) as connection:
            parts = {"oids": oids, "names": sorted(BECOME_SUPERUSER)}
            functions.update(row[0] for row in connection.execute(_FUNCTIONS, parts))
            objects.update(row[0] for row in connection.execute(_FOREIGN, parts))
    shared = session.connection.execute(_SHARED_OBJECTS, (oids,))
    return reach_of(
        role,
        major,
        attributes=attributes,
        predefined=[name for _, name, *_ in found if name.startswith("pg_")],
        functions=sorted(functions),
        databases=[row[0] for row in session.connection.execute(_DATABASES, (oids, database))],
        others=sorted(objects.union(row[0] for row in shared)),
    )
