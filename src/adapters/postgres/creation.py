"""Create a database as a copy of template1, in which other sessions may be."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, LiteralString

from app.errors import DatabaseBusy

if TYPE_CHECKING:
    from adapters.postgres.session import Session

_TEMPLATE = "template1"
_WORK_SECONDS = 0.2
_LOOK_EVERY = 0.05

# PostgreSQL does not copy a database that has sessions: it waits 5 s for their end, and then refuses.
# It ends autovacuum workers itself.
_SESSIONS: LiteralString = """
SELECT pid, usename, usename = ANY(%s) FROM pg_stat_activity
WHERE datname = %s AND backend_type <> 'autovacuum worker' AND pid <> pg_backend_pid()
AND usename IS NOT NULL
ORDER BY pid
"""


def create_database(session: Session, name: str, owner: str) -> None:
    """Create a database, and end the sessions of client users in template1 before.

    Raises DatabaseBusy if another session stays in template1.
    """
    clients = list(session.marked(session.marks.client))
    with session.waiting.spent(session.patience, work=_WORK_SECONDS) as seconds:
        end = time.monotonic() + seconds
        while found := session.connection.execute(_SESSIONS, (clients, _TEMPLATE)).fetchall():
            for pid, _, ours in found:
                if ours:
                    session.connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
            if time.monotonic() + _LOOK_EVERY > end:
                user = found[0][1]
                raise DatabaseBusy(
                    f"database {name} cannot be made while user {user} is in {_TEMPLATE}, of which it"
                    " is a copy: end that user's sessions there"
                )
            time.sleep(_LOOK_EVERY)
    session.run("CREATE DATABASE {d} OWNER {g}", d=name, g=owner)
