"""Create a database as a copy of template1, where sessions of other users may be open."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, LiteralString

from app.errors import DatabaseBusy
from domain.made import CLIENT

if TYPE_CHECKING:
    from adapters.postgres.session import Session

_TEMPLATE = "template1"
_WORK_SECONDS = 0.2
_POLL_SECONDS = 0.05

# PostgreSQL does not copy a database that has sessions: it waits 5 s for their end, and then refuses.
# It ends autovacuum workers itself.
_SESSIONS: LiteralString = """
SELECT pid, usename, usename = ANY(%s) FROM pg_stat_activity
WHERE datname = %s AND backend_type <> 'autovacuum worker' AND pid <> pg_backend_pid()
AND usename IS NOT NULL
ORDER BY pid
"""


def create_database(session: Session, name: str, owner: str) -> None:
    """Create a database, after ending the sessions of client users in template1.

    Raises DatabaseBusy if a session of another user stays in template1.
    """
    clients = list(session.ownership.roles(CLIENT))
    with session.waiting.spent(session.client_seconds, work=_WORK_SECONDS) as seconds:
        end = time.monotonic() + seconds
        while rows := session.connection.execute(_SESSIONS, (clients, _TEMPLATE)).fetchall():
            for pid, _, is_client in rows:
                if is_client:
                    session.connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
            if time.monotonic() + _POLL_SECONDS > end:
                user = rows[0][1]
                raise DatabaseBusy(
                    f"database {name} cannot be made while user {user} is in {_TEMPLATE}, of which it"
                    " is a copy: end that user's sessions there"
                )
            time.sleep(_POLL_SECONDS)
    session.run("CREATE DATABASE {d} OWNER {g}", d=name, g=owner)
