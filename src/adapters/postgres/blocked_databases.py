"""Find out, from another database, why a client's database accepts no session."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from adapters.postgres.server import Connection

# The first OID of objects that are not built in (FirstNormalObjectId in access/transam.h).
_FIRST_NORMAL_OID = 16384

# The connection limit of a database that an interrupted DROP DATABASE left.
_INVALID = -2

# A login reads the catalogs of its database. It waits for an AccessExclusiveLock on a catalog, and also
# behind a session that waits for such a lock, because PostgreSQL grants locks in the order of requests.
_CATALOG_LOCKED: LiteralString = """
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE database = (SELECT oid FROM pg_database WHERE datname = %s)
    AND locktype = 'relation' AND relation < %s AND mode = 'AccessExclusiveLock')
"""

# Users whose sessions hold a lock that another session waits for, or request an exclusive lock; if
# no session waits any more, users with an open transaction in the database. Process IDs are left out,
# so that the text does not change when the user continues in another session.
_HOLDERS: LiteralString = """
WITH lock AS (
    SELECT pid, granted, mode FROM pg_locks
    WHERE database = (SELECT oid FROM pg_database WHERE datname = %(database)s)
), holder AS (
    SELECT unnest(pg_blocking_pids(pid)) AS pid FROM pg_locks
    WHERE NOT granted AND pid IN (SELECT pid FROM lock)
    UNION
    SELECT pid FROM lock WHERE mode = 'AccessExclusiveLock'
), session AS (
    SELECT pid, usename FROM pg_stat_activity
    WHERE usename IS NOT NULL AND datname = %(database)s AND xact_start IS NOT NULL
    AND NOT (usename = current_user AND application_name = %(application_name)s)
), shown AS (
    SELECT * FROM session WHERE pid IN (SELECT pid FROM holder)
    UNION ALL
    SELECT * FROM session WHERE NOT EXISTS (SELECT FROM session JOIN holder USING (pid))
)
SELECT 'user ' || usename FROM shown
UNION
SELECT 'prepared transaction ' || quote_literal(gid) || ' of user ' || owner FROM pg_prepared_xacts
WHERE database = %(database)s
ORDER BY 1 LIMIT 4
"""

# Ends logins that wait for a lock inside of a database before pg_stat_activity shows their user.
# PostgreSQL before 18 has no row for them; later versions have a row in state `starting`.
_END_STUCK_LOGINS: LiteralString = """
SELECT pg_terminate_backend(l.pid) FROM pg_locks l
LEFT JOIN pg_stat_activity a ON a.pid = l.pid AND a.state IS DISTINCT FROM 'starting'
WHERE NOT l.granted AND l.locktype = 'relation' AND l.pid IS NOT NULL AND a.pid IS NULL
AND l.database = (SELECT oid FROM pg_database WHERE datname = %s)
"""


def closed_reason(connection: Connection, database: str) -> str:
    """Return why this database accepts no connection, with the statement that helps; '' if it accepts some."""
    row = connection.execute(
        """
        SELECT datallowconn, datconnlimit, rolsuper,
               (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid)
        FROM pg_database d, pg_roles r WHERE datname = %s AND rolname = current_user
        """,
        (database,),
    ).fetchone()
    if row is None:
        return ""
    allowed, limit, superuser, sessions = row
    if limit == _INVALID:  # https://www.postgresql.org/docs/current/catalog-pg-database.html
        return (
            f"an interrupted DROP DATABASE left database {database} unusable: run"
            f' DROP DATABASE "{database}"'
        )
    if not allowed:
        return (
            f"database {database} takes no connections: run"
            f' ALTER DATABASE "{database}" ALLOW_CONNECTIONS true'
        )
    if 0 <= limit <= sessions and not superuser:
        return (
            f"database {database} takes no more than {limit} connections: run"
            f' ALTER DATABASE "{database}" CONNECTION LIMIT -1'
        )
    return ""


def catalog_locked(connection: Connection, database: str) -> bool:
    """Return whether a login into this database would wait for a lock."""
    row = connection.execute(_CATALOG_LOCKED, (database, _FIRST_NORMAL_OID)).fetchone()
    return bool(row and row[0])


def lock_holders(connection: Connection, database: str) -> str:
    """Return the users whose sessions block other sessions of this database, as a list; '' if there are none."""
    values = {
        "database": database,
        "application_name": connection.info.get_parameters().get("application_name", ""),
    }
    rows = connection.execute(_HOLDERS, values).fetchall()
    return ", ".join(str(row[0]) for row in rows)


def end_stuck_logins(connection: Connection, database: str) -> None:
    """End the logins that wait for a lock in this database: each occupies a connection slot of the server."""
    connection.execute(_END_STUCK_LOGINS, (database,))
