"""What may be asked of PostgreSQL?"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import LiteralString

from adapters.postgres.lockout import lock_out
from adapters.postgres.lookup import Lookup
from adapters.postgres.ours import heir_name
from adapters.postgres.reaching import reaches
from adapters.postgres.roles import Roles
from adapters.postgres.session import ReadOnly, Session, not_ours
from adapters.postgres.sharing import Sharing
from adapters.postgres.statements import literal
from app.errors import AccessRefused, DatabaseRefused
from domain.consent import Holding, Reach
from domain.made import Made
from domain.users import AuthMaterial, Grant, Login


class PsycopgDatabase:
    """An open conversation with PostgreSQL.

    - Only roles of ours are altered or dropped, by their OID in the ledger or the seal in their comment.
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
                session.attempt(partial(self._roles.drop, name, mark, self._heir))

    def server(self) -> str:
        """Which server this is, and since when it runs, e.g. `10.1.0.7/32 5432 2026-02-03 04:05:06+00`."""
        query = """
            SELECT concat_ws(' ', inet_server_addr(), inet_server_port(), pg_postmaster_start_time())
        """
        return str(self._one(query))[:200]

    def capacity(self) -> int:
        """Return the number of connections that PostgreSQL accepts from ordinary users, without reserved slots."""
        # `reserved_connections` came with PostgreSQL 16.
        query = """
            SELECT current_setting('max_connections')::int
                 - current_setting('superuser_reserved_connections')::int
                 - coalesce(current_setting('reserved_connections', true), '0')::int
        """
        return max(1, int(str(self._one(query))))

    def knows(self, address: str) -> bool:
        """Whether there is a connection from this address."""
        query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE host(client_addr) = %s)"
        return bool(self._one(query, address))

    def users(self) -> frozenset[str]:
        """The client users that this application made."""
        session = self._session
        return frozenset(session.insist(lambda: session.marked(session.marks.client)))

    def lock_out(self, usernames: Iterable[str]) -> dict[str, str]:
        """Take logins and sessions of client users away; return the users that can still log in, and why."""
        return lock_out(self._session, usernames)

    def hurry(self) -> None:
        """Wait only a moment for a client's database from now on."""
        self._session.hurry()

    def made(self) -> Made:
        """Return the roles of this application that exist, and the databases that the ledger has."""
        return self._session.insist(self._session.ours.made)

    def reaches(self, roles: Iterable[str], database: str) -> tuple[Reach, ...]:
        """Return the reach of each of these roles. Raises AccessRefused."""
        try:
            return self._session.insist(lambda: reaches(self._session, roles, database))
        except ReadOnly:
            raise
        except DatabaseRefused as error:
            raise AccessRefused(str(error)) from None

    def holdings(self) -> tuple[Holding, ...]:
        """Return every database of this server with its owner."""
        query = """
            SELECT datname, oid, pg_get_userbyid(datdba),
                   EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) AS a
                           WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT'),
                   shobj_description(oid, 'pg_database')
            FROM pg_database ORDER BY datname
        """
        rows = self._session.insist(lambda: self._session.connection.execute(query).fetchall())
        return tuple(
            Holding(
                name=name,
                oid=oid,
                owner=owner,
                group=self._sharing.group_name(name),
                open=is_open,
                application=self._session.ours.application_of(oid, name, comment),
            )
            for name, oid, owner, is_open, comment in rows
        )

    def close(self, database: str) -> None:
        """Take the right to connect to a database that a client made away from PUBLIC."""
        self._session.attempt(lambda: self._sharing.close(database))

    def notes(self) -> tuple[str, ...]:
        """Return sentences for the operator about objects that clients left."""
        return tuple(self._session.notes)

    def left(self) -> tuple[str, ...]:
        """Return a sentence for everything that stays in PostgreSQL when this application leaves it."""
        return self._session.insist(self._left)

    def _left(self) -> tuple[str, ...]:
        session = self._session
        found = list(session.notes)
        noted = {database.oid for database in session.ours.made().databases}
        heir = heir_name(session.owner)
        found += (
            f"database {held.name}, which belongs to role {held.owner}"
            for held in self.holdings()
            if held.oid in noted or held.owner == heir
        )
        found += (
            f"role {name}, whose comment says that this application made it, which it did not"
            for name in session.ours.imitations()
        )
        return tuple(found)

    def grant(self, grant: Grant, oid: int = 0) -> bool:
        """Make the user and its database, with the roles asked for. Raises AccessRefused.

        A database that existed before is given only if it has this OID: the decision to give it was
        made for that database.

        True if the user is new, which it is for as long as it has no password: who was killed
        before giving it one is told again.
        """
        self._session.check_time()
        try:
            return self._session.insist(lambda: self._sharing.grant(grant, oid))
        except (ReadOnly, AccessRefused):
            raise
        except DatabaseRefused as error:
            raise AccessRefused(str(error)) from None

    def set_password(self, credentials: Login) -> None:
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
        mark, heir = self._session.marks.client, self._sharing.heir
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
                failures += session.attempt(partial(self._roles.drop, name, mark, self._heir))
        session.attempt(self._roles.drop_idle_heir)
        session.attempt(self._sign_databases)
        if failures:
            more = f" (and {len(failures) - 1} more)" if failures[1:] else ""
            raise DatabaseRefused(failures[0] + more)

    def _one(self, query: LiteralString, *values: str) -> object:
        """What is in the only field of the only row."""
        row = self._session.insist(
            lambda: self._session.connection.execute(query, values).fetchone()
        )
        return row[0] if row else ""

    def _set_password(self, credentials: Login) -> None:
        name = credentials.username
        role = self._session.role(name)
        if role is None:
            raise DatabaseRefused(f"PostgreSQL has no user {name}")
        if role.mark != self._session.marks.client:
            raise not_ours(name)
        self._roles.have_password(name, credentials.password)

    def _sign_databases(self) -> None:
        """Write to the comment of each database for which application it was made.

        An application that is related again gets its database back by this comment.
        """
        session = self._session
        there = {held.oid: held for held in self.holdings()}
        for noted in session.ours.made().databases:
            held = there.get(noted.oid)
            if held and not held.application:
                text = session.ours.database_comment(noted.application, held.oid, held.name)
                session.run("COMMENT ON DATABASE {d} IS {c}", d=held.name, c=literal(text))

    def _heir(self, _database: str) -> str:
        """Return the role that owns the objects in a database whose group is dropped."""
        return self._roles.have_heir()
