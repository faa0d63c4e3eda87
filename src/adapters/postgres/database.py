"""The operations of the application on PostgreSQL, over an open connection."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, LiteralString

from adapters.postgres.auth_function import AuthFunction
from adapters.postgres.client_databases import ClientDatabases
from adapters.postgres.former_names import FormerNames
from adapters.postgres.lockout import end_sessions, lock_out
from adapters.postgres.ownership import new_owner_name
from adapters.postgres.role_rights import rights_of_roles
from adapters.postgres.roles import Roles
from adapters.postgres.session import ReadOnly, Session, foreign_role
from adapters.postgres.statements import literal
from app.errors import AccessRefused, DatabaseRefused
from domain.consent import RoleRights, ServerDatabase
from domain.made import AUTH, CLIENT, GROUP, Made

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from adapters.postgres.inherited import InheritedRoles
    from domain.reference import InheritedRole
    from domain.users import AuthMaterial, Grant, Login


class PsycopgDatabase:
    """An open connection of the backend's user to PostgreSQL.

    - Only roles that this application made are altered or dropped. They are recognized by their OID in
      the ledger or by the signature in their comment.
    - Access to a database belongs to a group, which owns the database if the charm created it. The
      clients of the database are members of the group, so that they use each other's tables, and objects
      of a client that leaves stay with the remaining clients.
    - Every method reads the state before it changes it: a second call changes nothing.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._roles = Roles(session)
        self._auth_function = AuthFunction(session, self._roles)
        self._client_databases = ClientDatabases(session, self._roles)

    def provision(self, auth: AuthMaterial, database: str) -> None:
        """Create the auth user, and in `database` the function by which it looks passwords up.

        Comments on roles are signed again if the password of the backend's user has changed. An auth user that
        no unit uses is dropped, and the function of an earlier backend relation.
        """
        session = self._session
        session.logged(session.ownership.sign_again)
        session.with_retry(lambda: self._auth_function.provision(auth, database))
        session.logged(partial(self._auth_function.drop, auth.schema_name))
        # The credentials of a relation that has ended may have been withdrawn before its auth user was dropped.
        for name in session.with_retry(partial(session.ownership.roles, AUTH)):
            if name not in auth.auth_users:
                session.logged(partial(self._roles.drop, name, AUTH, self._new_owner))

    def provision_next(self, auth: AuthMaterial, database: str) -> None:
        """Create the next auth user, and let it call the function, as the auth user may still do."""
        self._session.with_retry(lambda: self._auth_function.provision_next(auth, database))

    def server(self) -> str:
        """Return the address and start time of the server, e.g. `10.1.0.7/32 5432 2026-02-03 04:05:06+00`."""
        query = """
            SELECT concat_ws(' ', inet_server_addr(), inet_server_port(), pg_postmaster_start_time())
        """
        return str(self._value(query))[:200]

    def capacity(self) -> int:
        """Return the number of connections that PostgreSQL accepts from ordinary users, without reserved slots."""
        # `reserved_connections` came with PostgreSQL 16.
        query = """
            SELECT current_setting('max_connections')::int
                 - current_setting('superuser_reserved_connections')::int
                 - coalesce(current_setting('reserved_connections', true), '0')::int
        """
        return max(1, int(str(self._value(query))))

    def has_connection_from(self, address: str) -> bool:
        """Return whether a connection from this address is open."""
        query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE host(client_addr) = %s)"
        return bool(self._value(query, address))

    def users(self) -> frozenset[str]:
        """Return the client users that this application made."""
        session = self._session
        return frozenset(session.with_retry(partial(session.ownership.roles, CLIENT)))

    def lock_out(self, usernames: Iterable[str]) -> dict[str, str]:
        """Take logins and sessions of client users away; return the users that can still log in, and why."""
        return lock_out(self._session, usernames)

    def hurry(self) -> None:
        """Wait only a moment for a client's database from now on."""
        self._session.hurry()

    def made(self) -> Made:
        """Return the roles of this application that exist, and the databases that the ledger has."""
        return self._session.with_retry(self._session.ownership.made)

    def role_rights(self, roles: Iterable[str], database: str) -> tuple[RoleRights, ...]:
        """Return the rights of each of these roles outside of this database. Raises AccessRefused."""
        with _refusing_a_client():
            return self._session.with_retry(
                lambda: rights_of_roles(self._session, roles, database)
            )

    def server_databases(self) -> tuple[ServerDatabase, ...]:
        """Return every database of this server with its owner."""
        query = """
            SELECT datname, oid, pg_get_userbyid(datdba),
                   EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) AS a
                           WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT'),
                   shobj_description(oid, 'pg_database')
            FROM pg_database ORDER BY datname
        """
        rows = self._session.with_retry(lambda: self._session.connection.execute(query).fetchall())
        return tuple(
            ServerDatabase(
                name=name,
                oid=oid,
                owner=owner,
                group=self._client_databases.group_name(name),
                open=is_open,
                application=self._session.ownership.application_of(oid, name, comment),
            )
            for name, oid, owner, is_open, comment in rows
        )

    def close(self, database: str) -> None:
        """Take the right to connect to a database that a client made away from PUBLIC."""
        self._session.logged(lambda: self._client_databases.close(database))

    def notes(self) -> tuple[str, ...]:
        """Return sentences for the operator about objects that clients left."""
        return tuple(self._session.notes)

    def left(self) -> tuple[str, ...]:
        """Return a sentence for everything that stays in PostgreSQL when this application leaves it."""
        return self._session.with_retry(self._left)

    def _left(self) -> tuple[str, ...]:
        session = self._session
        recorded = {database.oid for database in session.ownership.made().databases}
        new_owner = new_owner_name(session.owner)
        return (
            *session.notes,
            *(
                f"database {database.name}, which belongs to role {database.owner}"
                for database in self.server_databases()
                if database.oid in recorded or database.owner == new_owner
            ),
            *(
                f"role {name}, whose comment says that this application made it, which it did not"
                for name in session.ownership.imitations()
            ),
        )

    def grant(self, grant: Grant, oid: int = 0) -> bool:
        """Create the user and its database, with the requested roles. Raises AccessRefused.

        A database that existed before is given only if it has this OID: the decision to give it was
        made for that database.

        Returns whether the user has no password yet. A hook that is killed before it sets the password is
        told so again.
        """
        self._session.check_time()
        with _refusing_a_client():
            return self._session.with_retry(lambda: self._client_databases.grant(grant, oid))

    def adopt(self, role: InheritedRole) -> bool:
        """Make the role of a client of Canonical's charm that of this application, with its database."""
        return self._session.with_retry(lambda: self._inherited.adopt(role))

    def drop_inherited_auth_user(self, name: str) -> None:
        """Drop the auth user of Canonical's charm, with its functions in all databases, unless it is gone."""
        self._session.with_retry(lambda: self._inherited.drop_auth_user(name, self._new_owner))

    @property
    def _inherited(self) -> InheritedRoles:
        # Imported here, because most applications never replace another charm.
        from adapters.postgres.inherited import InheritedRoles

        return InheritedRoles(self._session, self._roles, self._client_databases.group_name)

    def set_password(self, credentials: Login) -> None:
        """Set the password of a client user that this application made. Raises AccessRefused."""
        with _refusing_a_client():
            self._session.with_retry(lambda: self._set_password(credentials))

    def rename(self, former: str, username: str) -> None:
        """Rename a client user, and make a role with its former name. Raises AccessRefused."""
        with _refusing_a_client():
            self._session.with_retry(
                lambda: FormerNames(self._session, self._roles).rename(former, username)
            )

    def expire(self, former: str, seconds: float) -> float:
        """Let the role with a former name log in for so many seconds; return the end. Raises AccessRefused."""
        with _refusing_a_client():
            return self._session.with_retry(
                lambda: FormerNames(self._session, self._roles).expire(former, seconds)
            )

    def end_sessions(self, username: str) -> None:
        """End the sessions of a client user, which can log in again."""
        role = self._session.with_retry(lambda: self._session.role(username))
        if role and role.kind == CLIENT:
            end_sessions(self._session, [role.oid])

    def has_sessions(self, username: str) -> bool:
        """Return whether a user has sessions."""
        query = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE usename = %s)"
        return bool(self._value(query, username))

    def revoke(self, username: str) -> None:
        """Drop a client user that this application made; its objects stay in its database."""
        self._session.check_time()
        new_owner = self._client_databases.new_owner
        self._session.with_retry(lambda: self._roles.drop(username, CLIENT, new_owner))

    def withdraw(self) -> None:
        """Drop everything that this application made, except databases and the objects in them.

        A role that cannot be dropped does not keep the other roles from being dropped; DatabaseRefused
        names it at the end.
        """
        session = self._session
        self.lock_out(self.users())
        failures = session.logged(self._auth_function.drop)
        for kind in (CLIENT, AUTH, GROUP):
            for name in session.with_retry(partial(session.ownership.roles, kind)):
                failures += session.logged(partial(self._roles.drop, name, kind, self._new_owner))
        session.logged(self._roles.drop_idle_new_owner)
        session.logged(self._sign_databases)
        if failures:
            more = f" (and {len(failures) - 1} more)" if failures[1:] else ""
            raise DatabaseRefused(failures[0] + more)

    def _value(self, query: LiteralString, *values: str) -> object:
        """Return the only value that a query finds; '' if it finds no row."""
        row = self._session.with_retry(
            lambda: self._session.connection.execute(query, values).fetchone()
        )
        return row[0] if row else ""

    def _set_password(self, credentials: Login) -> None:
        name = credentials.username
        role = self._session.role(name)
        if role is None:
            raise DatabaseRefused(f"PostgreSQL has no user {name}: the next hook creates it")
        if role.kind != CLIENT:
            raise foreign_role(name)
        self._roles.ensure_password(name, credentials.password)

    def _sign_databases(self) -> None:
        """Write to the comment of each database for which application it was made.

        An application that is related again gets its database back by this comment.
        """
        comments = self._session.ownership
        existing = {database.oid: database for database in self.server_databases()}
        for recorded in comments.made().databases:
            database = existing.get(recorded.oid)
            if database and not database.application:
                text = comments.of_database(recorded.application, database.oid, database.name)
                self._session.run(
                    "COMMENT ON DATABASE {d} IS {c}", d=database.name, c=literal(text)
                )

    def _new_owner(self, _database: str) -> str:
        """Return the role that owns the objects in a database whose group is dropped."""
        return self._roles.ensure_new_owner()


@contextmanager
def _refusing_a_client() -> Generator[None]:
    """Turn a refusal of PostgreSQL into AccessRefused, which concerns a single client.

    ReadOnly passes: it concerns the whole server.
    """
    try:
        yield
    except (ReadOnly, AccessRefused):
        raise
    except DatabaseRefused as error:
        raise AccessRefused(str(error)) from None
