"""Recognize the roles and databases that this application made in PostgreSQL."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING

from adapters.postgres import statements
from domain.made import AUTH, CLIENT, GROUP, NEW_OWNER, Made, OwnRole, signature, signing_key
from domain.rotation import twin
from domain.users import auth_user

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pydantic

    from adapters.postgres.server import Connection
    from domain.ledger import Ledger

# The text in the comment of a role, by kind of role. Roles in PostgreSQL have these texts: keep them.
_COMMENTS = {
    CLIENT: "client user",
    AUTH: "auth user",
    GROUP: "clients of a database",
    NEW_OWNER: "owner of what clients left",
}
_KINDS = {text: kind for kind, text in _COMMENTS.items()}


def group_name(owner: str, database: str) -> str:
    """Return the name of the group of a database; each application of PgBouncer has its own group."""
    both = f"{owner}\0{database}".encode()
    return f"pgbouncer_{hashlib.sha256(both).hexdigest()[:32]}"


def new_owner_name(owner: str) -> str:
    """Return the name of the role that owns the objects of clients that have left."""
    return f"pgbouncer_heir_{hashlib.sha256(owner.encode()).hexdigest()[:32]}"


class OwnershipComments:
    """Recognizes what this application made in this cluster by OIDs in the ledger and by signed comments.

    A role belongs to this application if the ledger has its OID, or if the signature in its comment matches
    its OID. With the signature, a hook finds a role that an earlier hook made before it was killed. A release
    that recorded no OIDs gave its roles a comment without a signature; the roles in its grants are taken over.
    """

    def __init__(
        self,
        connection: Connection,
        owner: str,
        password: pydantic.SecretStr,
        ledger: Ledger | None,
    ) -> None:
        self._connection = connection
        self._owner = owner
        # The comment of the schema and function of the auth user; comments of roles begin with it.
        self.application = f"managed by pgbouncer-k8s for {owner}"
        self._password = password
        self._ledger = ledger
        # Roles made over this connection, by OID.
        self._made: dict[int, OwnRole] = {}

    @cached_property
    def _recorded(self) -> Made:
        """The roles and databases of this cluster that the ledger has."""
        row = self._connection.execute(
            "SELECT system_identifier::text FROM pg_control_system()"
        ).fetchone()
        made = self._ledger.made if self._ledger else Made()
        return made.here(str(row[0]) if row else "")

    @cached_property
    def _recorded_roles(self) -> dict[int, OwnRole]:
        return {role.oid: role for role in self._recorded.roles}

    @cached_property
    def _unsigned(self) -> dict[str, str]:
        """The kinds of the roles of a release that recorded no OIDs, by the names of the roles."""
        kinds: dict[str, str] = {}
        if self._ledger and not self._ledger.made.cluster:
            for grant in self._ledger.grants:
                kinds[grant.username] = CLIENT
                kinds[group_name(self._owner, grant.database)] = GROUP
            if self._ledger.provisioned_for:
                kinds[auth_user(self._ledger.provisioned_for)] = AUTH
        return kinds

    def kind_of(self, oid: int, name: str, comment: str | None) -> str | None:
        """Return the kind of a role that this application made; None for any other role.

        A kind that only a later release knows is None too.
        """
        if recorded := self._recorded_roles.get(oid) or self._made.get(oid):
            return recorded.kind if recorded.kind in _COMMENTS else None
        text, _, signed = (comment or "").partition(" [")
        kind = _KINDS.get(text.removeprefix(f"{self.application}: "))
        if kind is None or not text.startswith(f"{self.application}: "):
            return None
        if not signed:
            return kind if self._unsigned.get(name) == kind else None
        return kind if comment == self.of_role(kind, oid, name) else None

    def of_role(self, kind: str, oid: int, name: str) -> str:
        """Return the signed comment of a role of this kind."""
        return f"{self.application}: {_COMMENTS[kind]} [{self._seal(kind, oid, name)}]"

    def of_database(self, application: str, oid: int, name: str) -> str:
        """Return the signed comment of a database that was made for a related application."""
        kind = f"database of {application}"
        return f"{self.application}: {kind} [{self._seal(kind, oid, name)}]"

    def _seal(self, kind: str, oid: int, name: str) -> str:
        return signature(
            signing_key(self._password.get_secret_value(), self._owner), kind, oid, name
        )

    def sign_again(self) -> None:
        """Sign the comments on roles that the ledger has, and whose signatures do not match any more.

        The key of the signatures comes from the password of the backend's user, which may change. Without the
        ledger, and in another cluster, only the signatures tell which roles are those of this application.
        """
        for oid, name, comment in self._candidates():
            kind = self.kind_of(oid, name, comment)
            if kind and comment != (wanted := self.of_role(kind, oid, name)):
                statements.run(
                    self._connection,
                    "COMMENT ON ROLE {r} IS {c}",
                    r=name,
                    c=statements.literal(wanted),
                )

    def application_of(self, oid: int, name: str, comment: str | None) -> str:
        """Return the application for which a database was made, if its comment proves it; '' if not."""
        prefix = f"{self.application}: database of "
        if not comment or not comment.startswith(prefix):
            return ""
        application = comment.removeprefix(prefix).partition(" [")[0]
        return application if comment == self.of_database(application, oid, name) else ""

    def record(self, kind: str, oid: int, name: str) -> None:
        """Record a role that was made over this connection."""
        self._made[oid] = OwnRole(kind=kind, name=name, oid=oid)

    def roles(self, kind: str) -> tuple[str, ...]:
        """Return the names of the roles of this kind that this application made."""
        return tuple(role.name for role in self._own_roles() if role.kind == kind)

    def made(self) -> Made:
        """Return the roles that exist now, and the databases that the ledger has."""
        return self._recorded.with_roles(tuple(self._own_roles()))

    def imitations(self) -> tuple[str, ...]:
        """Return the roles that have a comment of this application, which did not make them."""
        own = {role.oid for role in self._own_roles()}
        return tuple(name for oid, name, _ in self._candidates() if oid not in own)

    def foreign_members(self, oid: int, kind: str) -> tuple[str, ...]:
        """Return the members and administrators of a role that this application did not add.

        The members of a group are its clients, which this application made. The role of a client has at most the
        role with its former name as a member. No other role that this application made has members. Superusers
        need no membership, and the backend's user is a member because it made the role.
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
        clients = {role.oid: role.name for role in self._own_roles() if role.kind == CLIENT}
        # The role with the former name of a client is a member of the client's role.
        former = twin(clients.get(oid, ""))
        allowed = (
            {*clients}
            if kind == GROUP
            else {member for member, name in clients.items() if name == former}
        )
        return tuple(name for member, name, admin in rows if admin or member not in allowed)

    def _own_roles(self) -> Iterable[OwnRole]:
        for oid, name, comment in self._candidates():
            if kind := self.kind_of(oid, name, comment):
                yield OwnRole(kind=kind, name=name, oid=oid)

    def _candidates(self) -> Iterable[tuple[int, str, str | None]]:
        return self._connection.execute(
            """
            SELECT oid, rolname, shobj_description(oid, 'pg_authid') FROM pg_roles
            WHERE oid = ANY(%s::oid[])
               OR starts_with(shobj_description(oid, 'pg_authid'), %s) ORDER BY rolname
            """,
            ([*self._recorded_roles, *self._made], f"{self.application}: "),
        ).fetchall()
