"""Recognize the roles that this application made in PostgreSQL."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from domain.made import AUTH, CLIENT, GROUP, HEIR, Made, OwnRole, seal, seal_key
from domain.users import auth_user

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pydantic

    from adapters.postgres.server import Connection
    from domain.facts import Ledger


class Marks(NamedTuple):
    """The comments of the roles of an application, by kind of role."""

    application: str
    client: str
    auth: str
    group: str
    heir: str

    def of(self, kind: str) -> str:
        """Return the comment of a kind of roles; '' for an unknown kind, which a later release may have."""
        found = {CLIENT: self.client, AUTH: self.auth, GROUP: self.group, HEIR: self.heir}
        return found.get(kind, "")

    def kind(self, mark: str) -> str:
        """Return the kind of roles that has this comment; '' if there is none."""
        found = {self.client: CLIENT, self.auth: AUTH, self.group: GROUP, self.heir: HEIR}
        return found.get(mark, "")


def group_name(owner: str, database: str) -> str:
    """Return the name of the group of a database, which differs between applications of PgBouncer."""
    both = f"{owner}\0{database}".encode()
    return f"pgbouncer_{hashlib.sha256(both).hexdigest()[:32]}"


def heir_name(owner: str) -> str:
    """Return the name of the role that owns the objects of clients that have left."""
    return f"pgbouncer_heir_{hashlib.sha256(owner.encode()).hexdigest()[:32]}"


class Ours:
    """The roles that this application made in this cluster.

    A role is ours if the ledger has its OID, or if the seal in its comment matches its OID. With the
    seal, a hook finds a role that an earlier hook made before it was killed. A release that recorded no
    OIDs gave its roles a comment without a seal; the roles in its grants are taken over.
    """

    def __init__(
        self,
        connection: Connection,
        owner: str,
        marks: Marks,
        password: pydantic.SecretStr,
        ledger: Ledger | None,
    ) -> None:
        self._connection = connection
        self._owner = owner
        self._marks = marks
        self._password = password
        self._ledger = ledger
        self._made: dict[int, OwnRole] = {}  # roles made over this connection, by OID

    @cached_property
    def _before(self) -> Made:
        """The roles and databases that the ledger has of this cluster."""
        row = self._connection.execute(
            "SELECT system_identifier::text FROM pg_control_system()"
        ).fetchone()
        made = self._ledger.made if self._ledger else Made()
        return made.here(str(row[0]) if row else "")

    @cached_property
    def _known(self) -> dict[int, OwnRole]:
        return {role.oid: role for role in self._before.roles}

    @cached_property
    def _former(self) -> dict[str, str]:
        """The marks of the roles of a release that recorded no OIDs, by the names of the roles."""
        found: dict[str, str] = {}
        if self._ledger and not self._ledger.made.cluster:
            for grant in self._ledger.grants:
                found[grant.username] = self._marks.client
                found[group_name(self._owner, grant.database)] = self._marks.group
            if self._ledger.provisioned_for:
                found[auth_user(self._ledger.provisioned_for)] = self._marks.auth
        return found

    def mark_of(self, oid: int, name: str, comment: str | None) -> str | None:
        """Return the mark of a role's kind, if this application made the role; None if it did not."""
        if known := self._known.get(oid) or self._made.get(oid):
            return self._marks.of(known.kind) or None
        mark, _, rest = (comment or "").partition(" [")
        if not self._marks.kind(mark):
            return None
        if not rest:
            return mark if self._former.get(name) == mark else None
        return mark if comment == self.comment(mark, oid, name) else None

    def comment(self, mark: str, oid: int, name: str) -> str:
        """Return the comment for a new role: its mark and its seal."""
        key = seal_key(self._password.get_secret_value(), self._owner)
        return f"{mark} [{seal(key, self._marks.kind(mark), oid, name)}]"

    def database_comment(self, application: str, oid: int, name: str) -> str:
        """Return the comment for a database that stays: the application that it was made for, and a seal."""
        key = seal_key(self._password.get_secret_value(), self._owner)
        kind = f"database of {application}"
        return f"{self._marks.application}: {kind} [{seal(key, kind, oid, name)}]"

    def application_of(self, oid: int, name: str, comment: str | None) -> str:
        """Return the application for which a database was made, if its comment proves it; '' if not."""
        prefix = f"{self._marks.application}: database of "
        if not comment or not comment.startswith(prefix):
            return ""
        application = comment.removeprefix(prefix).partition(" [")[0]
        return application if comment == self.database_comment(application, oid, name) else ""

    def note(self, mark: str, oid: int, name: str) -> None:
        """Record a role that was made over this connection."""
        self._made[oid] = OwnRole(kind=self._marks.kind(mark), name=name, oid=oid)

    def marked(self, mark: str) -> tuple[str, ...]:
        """Return the names of the roles of this kind."""
        return tuple(name for _, name, found in self._look() if found == mark)

    def made(self) -> Made:
        """Return the roles that exist now, and the databases that the ledger has."""
        roles = tuple(
            OwnRole(kind=self._marks.kind(mark), name=name, oid=oid)
            for oid, name, mark in self._look()
        )
        return self._before.with_roles(roles)

    def imitations(self) -> tuple[str, ...]:
        """Return the roles that have a comment of this application, which did not make them."""
        ours = {oid for oid, _, _ in self._look()}
        return tuple(name for oid, name, _ in self._candidates() if oid not in ours)

    def foreign_members(self, oid: int, *, group: bool) -> tuple[str, ...]:
        """Return the members of a role, and its administrators, that this application did not add.

        The members of a group are its clients, which this application made; no other role of ours has
        members. Superusers need no membership, and the backend's user is a member because it made the
        role.
        """
        rows = self._connection.execute(
            """
            SELECT r.oid, r.rolname, bool_or(m.admin_option)
            FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
            WHERE m.roleid = %s AND NOT r.rolsuper AND r.rolname <> current_user
            GROUP BY r.oid, r.rolname ORDER BY r.rolname
            """,
            (oid,),
        ).fetchall()
        clients = {found for found, _, mark in self._look() if mark == self._marks.client}
        return tuple(
            name for member, name, admin in rows if admin or not group or member not in clients
        )

    def _look(self) -> Iterable[tuple[int, str, str]]:
        for oid, name, comment in self._candidates():
            if mark := self.mark_of(oid, name, comment):
                yield oid, name, mark

    def _candidates(self) -> Iterable[tuple[int, str, str | None]]:
        return self._connection.execute(
            """
            SELECT oid, rolname, shobj_description(oid, 'pg_authid') FROM pg_roles
            WHERE oid = ANY(%s::oid[])
               OR starts_with(shobj_description(oid, 'pg_authid'), %s) ORDER BY rolname
            """,
            ([*self._known, *self._made], f"{self._marks.application}: "),
        ).fetchall()
