"""Which roles of PostgreSQL did this application make?"""

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
    """The comments of what an application made, by kind."""

    application: str
    client: str
    auth: str
    group: str
    heir: str

    def of(self, kind: str) -> str:
        """The comment of a kind of roles; '' for a kind that a later release may have."""
        found = {CLIENT: self.client, AUTH: self.auth, GROUP: self.group, HEIR: self.heir}
        return found.get(kind, "")

    def kind(self, mark: str) -> str:
        """The kind of roles whose comment this is; '' if there is none."""
        found = {self.client: CLIENT, self.auth: AUTH, self.group: GROUP, self.heir: HEIR}
        return found.get(mark, "")


def group_name(owner: str, database: str) -> str:
    """The group of a database: the same for each of its clients, and another for another application."""
    both = f"{owner}\0{database}".encode()
    return f"pgbouncer_{hashlib.sha256(both).hexdigest()[:32]}"


def heir_name(owner: str) -> str:
    """The role that owns what clients of this application left behind."""
    return f"pgbouncer_heir_{hashlib.sha256(owner.encode()).hexdigest()[:32]}"


class Ours:
    """The roles that this application made in this cluster.

    A role is ours if the ledger has its OID, or if the seal in its comment fits its OID: a hook that
    was killed after it made a role finds that role again. A release that noted no OIDs gave its
    roles a plain comment; those that are named in its grants are taken over.
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
        self._made: dict[int, OwnRole] = {}  # in this conversation, by OID

    @cached_property
    def _before(self) -> Made:
        """What the ledger has of this cluster."""
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
        """The marks of roles by their names, as a release made them that noted no OIDs."""
        found: dict[str, str] = {}
        if self._ledger and not self._ledger.made.cluster:
            for grant in self._ledger.grants:
                found[grant.username] = self._marks.client
                found[group_name(self._owner, grant.database)] = self._marks.group
            if self._ledger.provisioned_for:
                found[auth_user(self._ledger.provisioned_for)] = self._marks.auth
        return found

    def mark_of(self, oid: int, name: str, comment: str | None) -> str | None:
        """The mark of a role's kind, if this application made the role; None if it did not."""
        if known := self._known.get(oid) or self._made.get(oid):
            return self._marks.of(known.kind) or None
        mark, _, rest = (comment or "").partition(" [")
        if not self._marks.kind(mark):
            return None
        if not rest:
            return mark if self._former.get(name) == mark else None
        return mark if comment == self.comment(mark, oid, name) else None

    def comment(self, mark: str, oid: int, name: str) -> str:
        """The comment of a role that is made now: its mark and its seal."""
        key = seal_key(self._password.get_secret_value(), self._owner)
        return f"{mark} [{seal(key, self._marks.kind(mark), oid, name)}]"

    def database_comment(self, application: str, oid: int, name: str) -> str:
        """The comment of a database that stays: for which application it was made, and a seal."""
        key = seal_key(self._password.get_secret_value(), self._owner)
        kind = f"database of {application}"
        return f"{self._marks.application}: {kind} [{seal(key, kind, oid, name)}]"

    def application_of(self, oid: int, name: str, comment: str | None) -> str:
        """The application for which a database was made, as a comment proves; '' if it does not."""
        prefix = f"{self._marks.application}: database of "
        if not comment or not comment.startswith(prefix):
            return ""
        application = comment.removeprefix(prefix).partition(" [")[0]
        return application if comment == self.database_comment(application, oid, name) else ""

    def note(self, mark: str, oid: int, name: str) -> None:
        """This role was made just now."""
        self._made[oid] = OwnRole(kind=self._marks.kind(mark), name=name, oid=oid)

    def marked(self, mark: str) -> tuple[str, ...]:
        """The roles of this kind, by name."""
        return tuple(name for _, name, found in self._look() if found == mark)

    def made(self) -> Made:
        """The roles that there are now, and the databases that were noted before."""
        roles = tuple(
            OwnRole(kind=self._marks.kind(mark), name=name, oid=oid)
            for oid, name, mark in self._look()
        )
        return self._before.model_copy(update={"roles": roles})

    def imitations(self) -> tuple[str, ...]:
        """Roles that carry a comment like ours, and were not made by this application."""
        ours = {oid for oid, _, _ in self._look()}
        return tuple(name for oid, name, _ in self._candidates() if oid not in ours)

    def foreign_members(self, oid: int, *, group: bool) -> tuple[str, ...]:
        """Roles that may act as this one, or let others do so, and were not put there by us.

        Members of a group are its clients, which are ours; no other role has members. Superusers
        need no membership, and the backend's user has one because it made the role.
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
