"""Create and alter the roles of this application, and drop them without dropping the objects that they own."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from adapters.postgres import leftover_code
from adapters.postgres.lockout import end_sessions
from adapters.postgres.ownership import new_owner_name
from adapters.postgres.server import WRITABLE
from adapters.postgres.session import Session, foreign_role
from adapters.postgres.statements import literal, regrole, run
from app.errors import AccessRefused, DatabaseRefused
from domain import scram
from domain.made import GROUP, NEW_OWNER
from domain.roles import GROUPS
from domain.rotation import twin
from domain.users import NAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    import pydantic

# A group that some PostgreSQL charms create: a rule in their pg_hba.conf admits its members.
HBA_GROUP = "relation_access"

_V15 = 150_000  # in the form of the protocol (server_version_num)

# A weak password can be guessed from its verifier, so that verifiers must not be in the server's log.
_NO_LOG: LiteralString = """
SELECT set_config(name, value, true) FROM unnest(%s::text[], %s::text[]) AS wanted (name, value)
WHERE current_setting(name, true) IS NOT NULL AND """
_MAY_SET: LiteralString = "has_parameter_privilege(name, 'SET')"
_MAY_SET_14: LiteralString = "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)"

_UNLOGGED = {
    "log_statement": "none",
    "log_min_error_statement": "panic",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "pg_stat_statements.track_utility": "off",
}


class Roles:
    """The roles of one application: users of clients, the auth user, and groups."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def groups(self, requested: frozenset[str]) -> frozenset[str]:
        """Return the requested groups, and the group for pg_hba.conf if it exists. Raises AccessRefused."""
        groups: set[str] = set()
        for name in sorted(requested | {HBA_GROUP}):
            role = self._session.role(name)
            if role is None and name != HBA_GROUP:
                raise AccessRefused(
                    f"PostgreSQL has no role {name}: create it, or change the roles that the"
                    " application asks for"
                )
            if role is None:
                continue
            # The operator may have allowed a role that a client asks for, but not this group.
            if role.privileged and name == HBA_GROUP:
                raise AccessRefused(
                    f"role {name} of PostgreSQL has more power than a client may have: take"
                    " SUPERUSER, REPLICATION and BYPASSRLS away from it"
                )
            # A group of the PostgreSQL charms may have the attribute LOGIN.
            if role.login and not name.startswith("charmed_"):
                raise AccessRefused(
                    f"role {name} of PostgreSQL is a user, and no group of users: run"
                    f" `ALTER ROLE {regrole(name)} NOLOGIN`, or change the roles that the"
                    " application asks for"
                )
            groups.add(name)
        return frozenset(groups)

    def ensure_role(self, name: str, kind: str) -> None:
        """Create a role unless it exists, and let the backend's user act as it. Raises AccessRefused."""
        if len(name.encode()) > NAME_BYTES:
            raise DatabaseRefused(
                f"the name of role {name} is longer than {NAME_BYTES} bytes: shorten it"
            )
        session = self._session
        role = session.role(name)
        if role and role.kind != kind:
            raise foreign_role(name)
        if role and (foreign := session.ownership.foreign_members(role.oid, kind)):
            raise AccessRefused(
                f"role {name} of PostgreSQL was given to {foreign[0]}, not by this application:"
                f" run `REVOKE {regrole(name)} FROM {regrole(foreign[0])}`"
            )
        with session.connection.transaction():
            if role is None:
                session.run("CREATE ROLE {r}", r=name)
                role = session.role(name)
                if role is None:
                    raise AccessRefused(
                        f"role {name} was created in PostgreSQL and is gone again: find out who drops"
                        " it; every hook tries again"
                    )
                comment = session.ownership.of_role(kind, role.oid, name)
                session.run("COMMENT ON ROLE {r} IS {comment}", r=name, comment=literal(comment))
                session.ownership.record(kind, role.oid, name)
            if not role.usable:
                # A user that is not superuser needs the rights of the role to share and to drop its objects.
                options = (
                    " WITH INHERIT TRUE, SET TRUE" if session.memberships_have_grantors else ""
                )
                session.run("GRANT {r} TO CURRENT_USER" + options, r=name)

    def end_former_name(self, name: str) -> None:
        """Let a role that was the former name of a client act as itself, without its end and its password.

        The record of a rotation is lost when the relation with PostgreSQL ends while PostgreSQL does not answer.
        """
        row = self._session.connection.execute(
            """
            SELECT %s = ANY(setconfig) FROM pg_db_role_setting
            WHERE setrole = %s::regrole AND setdatabase = 0
            """,
            (f"role={twin(name)}", regrole(name)),
        ).fetchone()
        if row and row[0]:
            with self._session.connection.transaction():
                self._session.run("ALTER ROLE {r} VALID UNTIL 'infinity' PASSWORD NULL", r=name)
                self._session.run("ALTER ROLE {r} RESET role", r=name)

    def remove_roles(self, name: str, wanted: frozenset[str]) -> None:
        """Take from the user each attribute and group that a client may request and that it does not want."""
        role = self._session.role(name)
        if role and role.createdb and "createdb" not in wanted:
            self._session.run("ALTER ROLE {r} NOCREATEDB", r=name)
        if role and role.createrole and "createrole" not in wanted:
            self._session.run("ALTER ROLE {r} NOCREATEROLE", r=name)
        for group, grantor in self._groups_of(name):
            if group in GROUPS and group not in wanted:
                self._revoke(group, name, grantor)

    def ensure_attributes(self, name: str, wanted: frozenset[str]) -> None:
        """Let the user log in, and give it exactly these of the attributes that a client may have."""
        role = self._session.role(name)
        if role is None:
            return
        changes: list[LiteralString] = []
        if not role.login:
            changes.append("LOGIN")
        if role.createdb != ("createdb" in wanted):
            changes.append("NOCREATEDB" if role.createdb else "CREATEDB")
        if role.createrole != ("createrole" in wanted):
            changes.append("NOCREATEROLE" if role.createrole else "CREATEROLE")
        if changes:
            self._session.run("ALTER ROLE {r} " + " ".join(changes), r=name)

    def ensure_memberships(self, name: str, wanted: frozenset[str]) -> None:
        """Add the user to these groups, and remove it from other groups that this application gives."""
        rows = self._groups_of(name)
        for group in sorted(wanted - {row[0] for row in rows}):
            self._session.run("GRANT {g} TO {r}", g=group, r=name)
        own = self._session.ownership.roles(GROUP)
        for group, grantor in rows:
            if group not in wanted and (group in GROUPS or group in own):
                self._revoke(group, name, grantor)

    def _groups_of(self, name: str) -> list[tuple[str, str]]:
        """Return the groups of a role, each with the role that added it."""
        return self._session.connection.execute(
            """
            SELECT g.rolname, pg_get_userbyid(m.grantor)
            FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
            WHERE m.member = %s::regrole ORDER BY g.rolname
            """,
            (regrole(name),),
        ).fetchall()

    def _revoke(self, group: str, name: str, grantor: str) -> None:
        by = " GRANTED BY {by}" if self._session.memberships_have_grantors else ""
        self._session.run("REVOKE {g} FROM {r}" + by, g=group, r=name, by=grantor)

    def ensure_password(self, name: str, password: pydantic.SecretStr) -> None:
        """Set the password of a user by its verifier: a password is never in a statement or a log."""
        try:
            verifier = scram.verifier(name, password.get_secret_value())
        except UnicodeEncodeError:
            raise DatabaseRefused(
                f"the password of {name} has other than ASCII letters: choose an ASCII password"
            ) from None
        row = self._session.connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname = %s", (name,)
        ).fetchone()
        # The comparison is made here, because PostgreSQL may log the parameters of a query.
        if row and row[0] != verifier:
            self.set_verifier(name, verifier)

    def set_verifier(self, name: str, verifier: str) -> None:
        """Set the verifier of a user, and keep it out of PostgreSQL's log."""
        with self._session.connection.transaction():
            self._keep_out_of_logs()
            self._session.run("ALTER ROLE {r} PASSWORD {v}", r=name, v=literal(verifier))

    def _keep_out_of_logs(self) -> None:
        """Turn off the logging of statements for this transaction, as far as the backend's user may."""
        connection = self._session.connection
        may_set = _MAY_SET if connection.info.server_version >= _V15 else _MAY_SET_14
        connection.execute(_NO_LOG + may_set, ([*_UNLOGGED], [*_UNLOGGED.values()]))

    def ensure_new_owner(self) -> str:
        """Create the role that owns objects of clients that have left, and return its name.

        The role has no rights, and no client is a member.
        """
        name = new_owner_name(self._session.owner)
        self.ensure_role(name, NEW_OWNER)
        return name

    def drop_idle_new_owner(self) -> None:
        """Drop the role that owns objects of clients that have left, if it owns nothing."""
        name = new_owner_name(self._session.owner)
        role = self._session.role(name)
        if role is None or role.kind != NEW_OWNER:
            return
        owns = self._session.connection.execute(
            """
            SELECT FROM pg_shdepend
            WHERE refclassid = 'pg_authid'::regclass AND refobjid = %s AND deptype = 'o' LIMIT 1
            """,
            (role.oid,),
        ).fetchone()
        if owns is None:
            self._session.run("DROP ROLE {r}", r=name)

    def drop(self, name: str, kind: str, new_owner: Callable[[str], str]) -> None:
        """Drop a role of this application, if it exists.

        `new_owner` returns the role that then owns the objects of the role in a database.
        """
        role = self._session.role(name)
        if role is None or role.kind != kind:
            return
        if role.login:
            self._session.run("ALTER ROLE {r} NOLOGIN PASSWORD NULL", r=name)
        # A login that had begun before may have succeeded only now.
        end_sessions(self._session, [role.oid])
        self._give_away(name, role.oid, new_owner)
        administered = self._names(
            """
            SELECT DISTINCT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
            WHERE m.member = %s AND m.admin_option
            """,
            role.oid,
        )
        for other in administered:
            self._session.note(f"role {other} of PostgreSQL stays: user {name} made or managed it")
        with self._session.connection.transaction():
            # The rights on databases.
            self._session.run("DROP OWNED BY {r}", r=name)
            self._session.run("DROP ROLE {r}", r=name)

    def _give_away(self, name: str, oid: int, new_owner: Callable[[str], str]) -> None:
        """Give the databases of a role, and its objects in every database, to other roles."""
        for database in self._names("SELECT datname FROM pg_database WHERE datdba = %s", oid):
            self._session.run("ALTER DATABASE {d} OWNER TO {o}", d=database, o=new_owner(database))
        with_objects = self._names(
            """
            SELECT datname FROM pg_database WHERE oid IN (
                SELECT dbid FROM pg_shdepend
                WHERE refclassid = 'pg_authid'::regclass AND refobjid = %s)
            """,
            oid,
        )
        for database in with_objects:
            owner = new_owner(database)
            with (
                self._session.connect_to(database, WRITABLE) as connection,
                connection.transaction(),
            ):
                code = leftover_code.make_functions_invoker(connection, oid)
                run(connection, "REASSIGN OWNED BY {r} TO {o}", r=name, o=owner)
                run(connection, "DROP OWNED BY {r}", r=name)
            for text in code:
                self._session.note(f"user {name} left in database {database}: {text}")

    def _names(self, query: LiteralString, oid: int) -> list[str]:
        """Return the names that a query with the OID of a role finds, in alphabetical order."""
        return [row[0] for row in self._session.connection.execute(query + " ORDER BY 1", (oid,))]
