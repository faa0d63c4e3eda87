"""Take the logins and sessions of users away without entering a client's database."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from adapters.postgres.statements import literal, run
from app.errors import DatabaseRefused
from domain.made import CLIENT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from adapters.postgres.session import Session

logger = logging.getLogger(__name__)

_LOCK_SECONDS = 0.1
_END_SECONDS = 0.5
_POLL_SECONDS = 0.02
# Seconds that ending sessions takes where nothing delays their end.
_WORK_SECONDS = 0.1
_ROUNDS = 3


def lock_out(session: Session, usernames: Iterable[str]) -> dict[str, str]:
    """Take the login, password and sessions of users away; return the users that can still log in, and why.

    All statements run on the main connection and wait for a fraction of a second at most. Sessions
    are ended first, because a session that changes its own password locks its role. Sessions are ended
    again afterwards, because a client may have logged in meanwhile, and once more, because a login
    that had begun may have waited for a lock of those sessions.
    """
    roles = {name: session.role(name) for name in sorted(usernames)}
    oids = {
        name: role.oid for name, role in roles.items() if role is not None and role.kind == CLIENT
    }
    failures: dict[str, str] = dict.fromkeys(oids, "")
    for _ in range(_ROUNDS):
        if failures:
            end_sessions(session, oids.values())
            failures = _remove_logins(session, failures)
        for name in failures:
            session.logged(partial(_roll_back_prepared, session, name))
    for _ in range(2 if oids else 0):
        end_sessions(session, oids.values())
    for name, reason in failures.items():
        logger.warning("User %s can still log in to PostgreSQL: %s", name, reason)
    return failures


def end_sessions(session: Session, oids: Iterable[int]) -> None:
    """End the sessions of these roles, and return when they have ended, or after half a second."""
    roles = list(oids)
    # A statement for each role: an error for a role does not keep the sessions of the other roles alive.
    for oid in roles:
        session.logged(partial(_terminate, session, oid))
    with session.waiting.spent(_END_SECONDS, work=_WORK_SECONDS) as seconds:
        end = time.monotonic() + max(seconds, 5 * _POLL_SECONDS)
        while session.with_retry(lambda: _has_sessions(session, roles)) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)


def _remove_logins(session: Session, names: Iterable[str]) -> dict[str, str]:
    """Take the logins of users away; return the users that keep their login, and why."""
    failures: dict[str, str] = {}
    before, session.lock_seconds = session.lock_seconds, _LOCK_SECONDS
    for name in names:
        try:
            session.with_retry(partial(_remove_login, session, name), again=False)
        except DatabaseRefused as error:
            failures[name] = str(error)
    session.lock_seconds = before
    return failures


def _terminate(session: Session, oid: int) -> None:
    session.connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = %s", (oid,)
    )


def _has_sessions(session: Session, oids: list[int]) -> bool:
    row = session.connection.execute(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usesysid = ANY(%s::oid[]))", (oids,)
    ).fetchone()
    return bool(row and row[0])


def _roll_back_prepared(session: Session, name: str) -> None:
    """Roll back the prepared transactions of a user, which outlive its sessions and keep their locks."""
    rows = session.connection.execute(
        "SELECT gid, database FROM pg_prepared_xacts WHERE owner = %s", (name,)
    ).fetchall()
    for gid, database in rows:
        logger.warning("Rolling back transaction %r, which user %s had prepared", gid, name)
        with session.connect_to(database) as connection:
            run(connection, "ROLLBACK PREPARED {gid}", gid=literal(gid))


def _remove_login(session: Session, name: str) -> None:
    row = session.connection.execute(
        "SELECT rolcanlogin OR rolpassword IS NOT NULL FROM pg_authid WHERE rolname = %s", (name,)
    ).fetchone()
    if row and row[0]:
        with session.connection.transaction():
            wait = literal(f"{_LOCK_SECONDS * 1000:.0f}ms")
            run(session.connection, "SET LOCAL lock_timeout = {wait}", wait=wait)
            run(session.connection, "ALTER ROLE {r} NOLOGIN PASSWORD NULL", r=name)
