"""How does a role come to be as wanted, and how does it go without taking others' things along?"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from adapters.postgres.lockout import end_sessions
from adapters.postgres.server import WRITABLE
from adapters.postgres.session import Session, not_ours
from adapters.postgres.statements import literal, regrole, run
from app.errors import AccessRefused, DatabaseRefused
from domain import scram
from domain.users import GROUPS, NAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    import pydantic

    from adapters.postgres.server import Connection

# Members of it are named in pg_hba.conf by the PostgreSQL charms, where it exists.
HBA_GROUP = "relation_access"

# The owner of whatever database one is in: no superuser, even if the database's owner is one.
# (https://www.postgresql.org/docs/current/predefined-roles.html)
DATABASE_OWNER = "pg_database_owner"


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
            if role.mighty:
                raise AccessRefused(f"role {name} of PostgreSQL has more power than a client may")
            # The PostgreSQL charms have one among their groups that may log in.
            if role.login and not name.startswith("charmed_"):
                raise AccessRefused(f"role {name} of PostgreSQL is a user, and no group of users")
            found.add(name)
        return frozenset(found)

    def have_role(self, name: str, mark: str) -> None:
        """The role exists, marked as ours, and the backend's user may act in its place."""
        if len(name.encode()) > NAME_BYTES:
            raise DatabaseRefused(f"the name of role {name} is longer than {NAME_BYTES} bytes")
        role = self._session.role(name)
        if role and role.mark != mark:
            raise not_ours(name)
        with self._session.connection.transaction():
            if role is None:
                self._session.run("CREATE ROLE {r}", r=name)
                self._session.run("COMMENT ON ROLE {r} IS {mark}", r=name, mark=literal(mark))
                role = self._session.role(name)
            if role and not role.usable:
                # A superuser has all rights; anybody else needs them to share and to drop.
                options = " WITH INHERIT TRUE, SET TRUE" if self._session.knows_grantors else ""
                self._session.run("GRANT {r} TO CURRENT_USER" + options, r=name)

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
            SELECT g.rolname, pg_get_userbyid(m.grantor),
                   shobj_description(g.oid, 'pg_authid') = %s
            FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
            WHERE m.member = %s::regrole ORDER BY g.rolname
            """,
            (self._session.marks.group, regrole(name)),
        ).fetchall()
        for group in sorted(wanted - {row[0] for row in rows}):
            self._session.run("GRANT {g} TO {r}", g=group, r=name)
        for group, grantor, marked in rows:
            if group not in wanted and (group in GROUPS or marked):
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
            "SELECT rolpassword = %s FROM pg_authid WHERE rolname = %s", (verifier, name)
        ).fetchone()
        if row and not row[0]:
            self._session.run("ALTER ROLE {r} PASSWORD {v}", r=name, v=literal(verifier))

    def drop(self, name: str, mark: str, heir: Callable[[str], str | None]) -> None:
        """The role is gone, if it was ours; what it owned is its heir's, or its database's owner's.

        `heir` names a role for a database, if one is entitled.
        """
        role = self._session.role(name)
        if role is None or role.mark != mark:
            return
        if role.login:
            self._session.run("ALTER ROLE {r} NOLOGIN PASSWORD NULL", r=name)
        # A login that had begun before may have ended only now.
        end_sessions(self._session, [role.oid])
        owned = self._session.connection.execute(
            "SELECT datname FROM pg_database WHERE datdba = %s ORDER BY datname", (role.oid,)
        )
        for (database,) in owned.fetchall():
            self._session.run(
                "ALTER DATABASE {d} OWNER TO {h}",
                d=database,
                h=heir(database) or self._session.user,
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
            with self._session.inside(database, WRITABLE) as inside, inside.transaction():
                to = heir(database) or self._owner_in(inside)
                run(inside, "REASSIGN OWNED BY {r} TO {h}", r=name, h=to)
                run(inside, "DROP OWNED BY {r}", r=name)
        with self._session.connection.transaction():
            self._session.run("DROP OWNED BY {r}", r=name)  # Rights on databases.
            self._session.run("DROP ROLE {r}", r=name)

    def _owner_in(self, inside: Connection) -> str:
        """Who inherits what a client made, if no group does.

        Never a superuser, though the backend's user may be one: a function or a view that a
        client has left would then run with its rights.
        """
        row = inside.execute(
            "SELECT pg_has_role(current_user, %s, 'USAGE')", (DATABASE_OWNER,)
        ).fetchone()
        return DATABASE_OWNER if row and row[0] else self._session.user
