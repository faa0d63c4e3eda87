"""Find out which sessions keep roles, or other objects that all databases share, locked."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from adapters.connections.messages import one_line

if TYPE_CHECKING:
    from adapters.postgres.server import Connection

# Locks on objects that all databases share. ALTER ROLE keeps a lock on the catalog until its transaction ends, and
# a lock on the row that pg_locks does not show. Only a session that waits for such a lock is shown its holder. So
# every transaction that has changed such a catalog is a holder. A prepared transaction has no process.
# (https://www.postgresql.org/docs/current/view-pg-locks.html)
_HOLDERS: LiteralString = """
WITH held AS (
    SELECT DISTINCT pid, virtualtransaction FROM pg_locks
    WHERE database = 0 AND granted AND pid IS DISTINCT FROM pg_backend_pid()
    AND (locktype = 'object' OR mode NOT IN ('AccessShareLock', 'RowShareLock'))
)
SELECT a.pid, '', a.usename, a.datname FROM held JOIN pg_stat_activity a USING (pid)
WHERE a.usename IS NOT NULL
UNION ALL
SELECT NULL, quote_literal(p.gid), p.owner, p.database FROM held
JOIN pg_locks own ON own.virtualtransaction = held.virtualtransaction AND own.pid IS NULL
JOIN pg_prepared_xacts p ON p.transaction = own.transactionid
WHERE held.pid IS NULL
ORDER BY 1, 2 LIMIT 3
"""


def lock_holders(connection: Connection) -> str:
    """Return who holds locks on roles, and the statements that end these transactions; '' if no session does."""
    rows = connection.execute(_HOLDERS).fetchall()
    return ", ".join(
        f"pid {pid} ({_whose(user, database)}; to end it, run `SELECT pg_terminate_backend({pid})`)"
        if pid
        else f"prepared transaction {one_line(gid)} ({_whose(user, database)}; to end it, run"
        f" `ROLLBACK PREPARED {one_line(gid)}` in that database)"
        for pid, gid, user, database in rows
    )


def _whose(user: object, database: object) -> str:
    return f"user {one_line(str(user))}, database {one_line(str(database or ''))}"
