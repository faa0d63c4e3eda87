"""What may be asked of PostgreSQL?"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import LiteralString

from adapters.postgres.lockout import lock_out
from adapters.postgres.lookup import Lookup
from adapters.postgres.roles import Roles
from adapters.postgres.session import ReadOnly, Session, not_ours
from adapters.postgres.sharing import Sharing
from app.errors import AccessRefused, DatabaseRefused
from domain.users import AuthMaterial, Credentials, Grant


class PsycopgDatabase:
    """An open conversation with PostgreSQL.

    - All roles that it makes carry a mark, their comment; no other is altered or dropped.
    - Access to a database belongs to a group, which owns it if it was made here. Its clients are
      the members, so they use each other's tables, and what one leaves stays with the others.
    - Everything is looked at before it is changed: a second call changes nothing.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._roles = Roles(session)
        self._lookup = Lookup(session, self._roles)
        self._sharing = Sharing(session, self._roles)

    def provision(self, auth: AuthMaterial, database: str) -> None:
        """Make the auth user, and in `database` the function by which it looks passwords up.

        An auth user of ours from before is dropped.
        """
        session, mark = self._session, self._session.marks.auth
        session.insist(lambda: self._lookup.provision(auth, database))
        # A relation that has ended may have taken our credentials along before we could clean up.
        for name in session.insist(lambda: session.marked(mark)):
            if name != auth.auth_user:
                session.attempt(partial(self._roles.drop, name, mark, _nobody))

    def server(self) -> str:
        """Which server this is, and since when it runs, e.g. `10.1.0.7/32 5432 2026-02-03 04:05:06+00`."""
        query = """
            SELECT concat_ws(' ', inet_server_addr(), inet_server_port(), pg_postmaster_start_time())
        """
        return str(self._one(query))[:200]

    def knows(self, address: str) -> bool:
        """Whether there is a connection from this address."""
        query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE host(client_addr) = %s)"
        return bool(self._one(query, address))

    def users(self) -> frozenset[str]:
        """The client users that this application made."""
        session = self._session
        return frozenset(session.insist(lambda: session.marked(session.marks.client)))

    def lock_out(self, usernames: Iterable[str]) -> dict[str, str]:
        """End the sessions and the logins of users of ours; those that still have one, and why."""
        return lock_out(self._session, usernames)

    def hurry(self) -> None:
        """From now on, wait only a moment for a client's database."""
        self._session.hurry()

    def grant(self, grant: Grant) -> bool:
        """Make the user and its database, with the roles asked for. Raises AccessRefused.

        True if the user is new, which it is for as long as it has no password: who was killed
        before giving it one is told again.
        """
        self._session.check_time()
        try:
            return self._session.insist(lambda: self._sharing.grant(grant))
        except (ReadOnly, AccessRefused):
            raise
        except DatabaseRefused as error:
            raise AccessRefused(str(error)) from None

    def set_password(self, credentials: Credentials) -> None:
        """Give a user of ours this password."""
        try:
            self._session.insist(lambda: self._set_password(credentials))
        except (ReadOnly, AccessRefused):
            raise
        except DatabaseRefused as error:
            raise AccessRefused(str(error)) from None

    def revoke(self, username: str) -> None:
        """Drop a user of ours; what it made stays with its database."""
        self._session.check_time()
        mark, heir = self._session.marks.client, self._sharing.group_of
        self._session.insist(lambda: self._roles.drop(username, mark, heir))

    def withdraw(self) -> None:
        """Drop all that this application made, except for databases and what is in them.

        What cannot be dropped does not keep the rest; it is told by DatabaseRefused at the end.
        """
        session, marks = self._session, self._session.marks
        self.lock_out(self.users())
        failures = session.attempt(self._lookup.drop)
        for mark in (marks.client, marks.auth, marks.group):
            for name in session.insist(partial(session.marked, mark)):
                failures += session.attempt(partial(self._roles.drop, name, mark, _nobody))
        if failures:
            more = f" (and {len(failures) - 1} more)" if failures[1:] else ""
            raise DatabaseRefused(failures[0] + more)

    def _one(self, query: LiteralString, *values: str) -> object:
        """What is in the only field of the only row."""
        row = self._session.insist(
            lambda: self._session.connection.execute(query, values).fetchone()
        )
        return row[0] if row else ""

    def _set_password(self, credentials: Credentials) -> None:
        name = credentials.username
        role = self._session.role(name)
        if role is None:
            raise DatabaseRefused(f"PostgreSQL has no user {name}")
        if role.mark != self._session.marks.client:
            raise not_ours(name)
        self._roles.have_password(name, credentials.password)


def _nobody(database: str) -> None:
    """Nobody in particular inherits."""
