"""How a database is made while other sessions may be in template1, of which it is a copy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, LiteralString

from app.errors import DatabaseBusy

if TYPE_CHECKING:
    from adapters.postgres.session import Session

_TEMPLATE = "template1"
_WORK_SECONDS = 0.2
_LOOK_EVERY = 0.05

# PostgreSQL copies no database that has sessions, waits 5 s for them, and refuses then. It ends
# the workers of autovacuum by itself.
_SESSIONS: LiteralString = """
SELECT pid, usename, usename = ANY(%s) FROM pg_stat_activity
WHERE datname = %s AND backend_type <> 'autovacuum worker' AND pid <> pg_backend_pid()
AND usename IS NOT NULL
ORDER BY pid
"""


def create_database(session: Session, name: str, owner: str) -> None:
    """The database is there. Raises DatabaseBusy if a session that is not ours stays in template1."""
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
