"""Give the role of a client another name, and let the client log in with its former name for a while."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from adapters.postgres.session import foreign_role
from adapters.postgres.statements import literal, regrole
from app.errors import AccessRefused
from domain.made import CLIENT

if TYPE_CHECKING:
    from adapters.postgres.roles import Roles
    from adapters.postgres.session import Session


class FormerNames:
    """The roles with former names of clients."""

    def __init__(self, session: Session, roles: Roles) -> None:
        self._session = session
        self._roles = roles

    def rename(self, former: str, name: str) -> None:
        """Give the role of a client its new name, in a single transaction with the role that has its former name.

        Renaming a role keeps its OID, its objects, its rights, its sessions and its verifier. Sessions of the role
        with the former name act as the client's role, so that what they create belongs to it: PostgreSQL sets
        `role` at login, and again with DISCARD ALL. (https://www.postgresql.org/docs/current/sql-set-role.html)
        """
        session = self._session
        client, new = session.role(former), session.role(name)
        if new is not None:
            if new.kind != CLIENT:
                raise foreign_role(name)
            if self._is_member(name, former):
                raise AccessRefused(
                    f"role {name} of PostgreSQL still belongs to the last rotation of this client: every"
                    " hook tries to drop it"
                )
            return
        if client is None:
            return
        if client.kind != CLIENT:
            raise foreign_role(former)
        comments = session.ownership
        with session.connection.transaction():
            row = session.connection.execute(
                "SELECT rolpassword FROM pg_authid WHERE oid = %s", (client.oid,)
            ).fetchone()
            session.run("ALTER ROLE {r} RENAME TO {n}", r=former, n=name)
            comment = literal(comments.of_role(CLIENT, client.oid, name))
            session.run("COMMENT ON ROLE {r} IS {comment}", r=name, comment=comment)
            comments.record(CLIENT, client.oid, name)
            self._roles.ensure_role(former, CLIENT)
            options = " WITH INHERIT TRUE, SET TRUE" if session.memberships_have_grantors else ""
            session.run("GRANT {r} TO {f}" + options, r=name, f=former)
            session.run("ALTER ROLE {f} SET role = {r}", f=former, r=name)
            session.run("ALTER ROLE {f} LOGIN", f=former)
            if row and row[0]:
                self._roles.set_verifier(former, row[0])

    def expire(self, former: str, seconds: float) -> float:
        """Let the role with a former name log in for so many seconds; return the end since the epoch."""
        role = self._session.role(former)
        if role and role.kind != CLIENT:
            raise foreign_role(former)
        query = "SELECT extract(epoch FROM clock_timestamp())::float8"
        row = self._session.connection.execute(query).fetchone()
        until = float(row[0]) + seconds if row else 0.0
        if role:
            end = datetime.datetime.fromtimestamp(until, datetime.UTC)
            self._session.run("ALTER ROLE {r} VALID UNTIL {end}", r=former, end=literal(str(end)))
        return until

    def _is_member(self, member: str, role: str) -> bool:
        row = self._session.connection.execute(
            """
            SELECT EXISTS (SELECT FROM pg_auth_members
                           WHERE member = %s::regrole AND roleid = to_regrole(%s))
            """,
            (regrole(member), regrole(role)),
        ).fetchone()
        return bool(row and row[0])
