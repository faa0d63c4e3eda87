"""How does a role come to be as wanted, and how does it go without taking others' things along?"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from adapters.postgres import remains
from adapters.postgres.lockout import end_sessions
from adapters.postgres.ours import heir_name
from adapters.postgres.server import WRITABLE
from adapters.postgres.session import Session, not_ours
from adapters.postgres.statements import literal, regrole, run
from app.errors import AccessRefused, DatabaseRefused
from domain import scram
from domain.roles import GROUPS
from domain.users import NAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    import pydantic

# Members of it are named in pg_hba.conf by the PostgreSQL charms, where it exists.
HBA_GROUP = "relation_access"

_V15 = 150_000  # in the form of the protocol (server_version_num)

# A password can be guessed from its verifier, so that verifiers must not be logged.
_NO_LOG: LiteralString = """
SELECT set_config(name, value, true)
FROM unnest(%s::text[], %s::text[]) AS wanted (name, value)
WHERE current_setting(name, true) IS NOT NULL
AND has_parameter_privilege(name, 'SET')
"""

_NO_LOG_14: LiteralString = """
SELECT set_config(name, value, true)
FROM unnest(%s::text[], %s::text[]) AS wanted (name, value)
WHERE current_setting(name, true) IS NOT NULL
AND (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
"""

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

    def groups(self, asked: frozenset[str]) -> frozenset[str]:
        """Those that were asked for, and the one for pg_hba.conf if there is one."""
        found: set[str] = set()
        for name in sorted(asked | {HBA_GROUP}):
            role = self._session.role(name)
            if role is None and name != HBA_GROUP:
                raise AccessRefused(f"PostgreSQL has no role {name}")
            if role is None:
                continue
            # The operator may have allowed a role that a client asks for, but not this group.
            if role.mighty and name == HBA_GROUP:
                raise AccessRefused(f"role {name} of PostgreSQL has more power than a client may")
            # The PostgreSQL charms have one among their groups that may log in.
            if role.login and not name.startswith("charmed_"):
                raise AccessRefused(f"role {name} of PostgreSQL is a user, and no group of users")
            found.add(name)
        return frozenset(found)

    def have_role(self, name: str, mark: str) -> None:
        """Make a role unless it exists, and let the backend's user act as it. Raises AccessRefused."""
        if len(name.encode()) > NAME_BYTES:
            raise DatabaseRefused(f"the name of role {name} is longer than {NAME_BYTES} bytes")
        session = self._session
        role = session.role(name)
        if role and role.mark != mark:
            raise not_ours(name)
        if role:
            group = mark == session.marks.group
            if foreign := session.ours.foreign_members(role.oid, group=group):
                raise AccessRefused(
                    f"role {name} of PostgreSQL was given to {foreign[0]}, not by this application:"
                    f" run `REVOKE {regrole(name)} FROM {regrole(foreign[0])}`"
                )
        with session.connection.transaction():
            if role is None:
                session.run("CREATE ROLE {r}", r=name)
                role = session.role(name)
                if role is None:
                    raise AccessRefused(f"role {name} was made in PostgreSQL and is gone again")
                comment = session.ours.comment(mark, role.oid, name)
                session.run("COMMENT ON ROLE {r} IS {mark}", r=name, mark=literal(comment))
                session.ours.note(mark, role.oid, name)
            if not role.usable:
                # A superuser has all rights; anybody else needs them to share and to drop.
                options = " WITH INHERIT TRUE, SET TRUE" if session.knows_grantors else ""
                session.run("GRANT {r} TO CURRENT_USER" + options, r=name)

    def have_attributes(self, name: str, wanted: frozenset[str]) -> None:
        """The user may log in, and has exactly these of the attributes that clients may have."""
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

    def have_memberships(self, name: str, wanted: frozenset[str]) -> None:
        """The user is in these groups, and in no other that is ours to give."""
        rows = self._session.connection.execute(
            """
            SELECT g.rolname, pg_get_userbyid(m.grantor)
            FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
            WHERE m.member = %s::regrole ORDER BY g.rolname
            """,
            (regrole(name),),
        ).fetchall()
        for group in sorted(wanted - {row[0] for row in rows}):
            self._session.run("GRANT {g} TO {r}", g=group, r=name)
        own = self._session.marked(self._session.marks.group)
        for group, grantor in rows:
            if group not in wanted and (group in GROUPS or group in own):
                if self._session.knows_grantors:
                    self._session.run(
                        "REVOKE {g} FROM {r} GRANTED BY {by}", g=group, r=name, by=grantor
                    )
                else:
                    self._session.run("REVOKE {g} FROM {r}", g=group, r=name)

    def have_password(self, name: str, password: pydantic.SecretStr) -> None:
        """PostgreSQL is given a verifier: the password itself never is in a statement or a log."""
        try:
            verifier = scram.verifier(name, password.get_secret_value())
        except UnicodeEncodeError:
            raise DatabaseRefused(f"the password of {name} has other than ASCII letters") from None
        row = self._session.connection.execute(
            "SELECT rolpassword FROM pg_authid WHERE rolname = %s", (name,)
        ).fetchone()
        # The comparison is made here, because PostgreSQL may log the parameters of a query.
        if row and row[0] != verifier:
            with self._session.connection.transaction():
                self._keep_out_of_logs()
                self._session.run("ALTER ROLE {r} PASSWORD {v}", r=name, v=literal(verifier))

    def _keep_out_of_logs(self) -> None:
        """Turn off the logging of statements for this transaction, as far as the backend's user may."""
        connection = self._session.connection
        knows_rights = connection.info.server_version >= _V15
        query = _NO_LOG if knows_rights else _NO_LOG_14
        connection.execute(query, ([*_UNLOGGED], [*_UNLOGGED.values()]))

    def have_heir(self) -> str:
        """Make the role that owns objects that clients left, and return its name.

        The role has no rights, and no client is a member.
        """
        name = heir_name(self._session.owner)
        self.have_role(name, self._session.marks.heir)
        return name

    def drop_idle_heir(self) -> None:
        """Drop the heir if it owns nothing."""
        name = heir_name(self._session.owner)
        role = self._session.role(name)
        if role is None or role.mark != self._session.marks.heir:
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

    def drop(self, name: str, mark: str, heir: Callable[[str], str]) -> None:
        """Drop a role of ours; its objects in each database then belong to the heir for that database.

        `heir` returns the name of a role without rights for a database.
        """
        role = self._session.role(name)
        if role is None or role.mark != mark:
            return
        if role.login:
            self._session.run("ALTER ROLE {r} NOLOGIN PASSWORD NULL", r=name)
        # A login that had begun before may have succeeded only now.
        end_sessions(self._session, [role.oid])
        owned = self._session.connection.execute(
            "SELECT datname FROM pg_database WHERE datdba = %s ORDER BY datname", (role.oid,)
        )
        for (database,) in owned.fetchall():
            self._session.run(
                "ALTER DATABASE {d} OWNER TO {h}",
                d=database,
                h=heir(database),
            )
        touched = self._session.connection.execute(
            """
            SELECT datname FROM pg_database WHERE oid IN (
                SELECT dbid FROM pg_shdepend
                WHERE refclassid = 'pg_authid'::regclass AND refobjid = %s)
            ORDER BY datname
            """,
            (role.oid,),
        )
        for (database,) in touched.fetchall():
            to = heir(database)
            with self._session.inside(database, WRITABLE) as inside, inside.transaction():
                left = remains.defuse(inside, role.oid)
                run(inside, "REASSIGN OWNED BY {r} TO {h}", r=name, h=to)
                run(inside, "DROP OWNED BY {r}", r=name)
            for text in left:
                self._session.note(f"user {name} left in database {database}: {text}")
        administered = self._session.connection.execute(
            """
            SELECT DISTINCT g.rolname FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
            WHERE m.member = %s AND m.admin_option ORDER BY 1
            """,
            (role.oid,),
        )
        for (other,) in administered.fetchall():
            self._session.note(f"role {other} of PostgreSQL stays: user {name} made or managed it")
        with self._session.connection.transaction():
            self._session.run("DROP OWNED BY {r}", r=name)  # Rights on databases.
            self._session.run("DROP ROLE {r}", r=name)
