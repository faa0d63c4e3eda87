"""Roles of PostgreSQL in memory, and the former names of clients."""

from __future__ import annotations

import abc
import time
from dataclasses import dataclass, field
from typing import Protocol

from app.errors import AccessRefused, DatabaseBusy


@dataclass
class MemoryRole:
    """A role in the server in memory."""

    # Whether this application made the role.
    ours: bool = True
    password: str = ""
    # The database of a client user; '' for every other role.
    database: str = ""
    groups: frozenset[str] = frozenset()
    # Roles that other users have made members of this role.
    members: set[str] = field(default_factory=set[str])
    # Whether the role can log in: not after the application has begun to drop it.
    login: bool = True
    # The client user as which the sessions of a role with a former name act; '' for every other role.
    acts_as: str = ""
    # Until when the role can log in, in seconds since the epoch; 0 for no end.
    until: float = 0.0
    # Whether the role has sessions.
    sessions: bool = False
    # Whether a transaction of a session keeps the role locked.
    locked: bool = False

    @property
    def lets_in(self) -> bool:
        """Return whether the role can log in with its password."""
        return (
            self.login and bool(self.password) and not (self.until and time.time() >= self.until)
        )

    @property
    def client(self) -> bool:
        """Return whether this is a client user that this application made."""
        return self.ours and bool(self.database)


class Roles(Protocol):
    """A server with roles."""

    @property
    def roles(self) -> dict[str, MemoryRole]:
        """Return the roles by their names."""
        ...


class FormerNames(abc.ABC):
    """The methods of a connection that rename a client user."""

    @property
    @abc.abstractmethod
    def _server(self) -> Roles:
        """Return the server. Raises DatabaseUnreachable if it has gone since the login."""

    def rename(self, former: str, username: str) -> None:
        """Rename a client user, and make a role with its former name. Raises AccessRefused."""
        roles = self._server.roles
        if new := roles.get(username):
            if not new.client:
                raise not_ours(username)
            if new.acts_as == former:
                raise AccessRefused(f"role {username} still belongs to the last rotation")
            return
        if (role := roles.get(former)) is None:
            return
        if not role.client:
            raise not_ours(former)
        roles[former] = MemoryRole(
            password=role.password, database=role.database, groups=role.groups, acts_as=username
        )
        roles[username] = role
        role.members = role.members | {former}

    def expire(self, former: str, seconds: float) -> float:
        """Let the role with a former name log in for so many seconds; return the end. Raises AccessRefused."""
        role = self._server.roles.get(former)
        if role and not role.client:
            raise not_ours(former)
        if role and role.locked:
            raise DatabaseBusy(f"another session keeps {former} locked")
        until = time.time() + seconds
        if role:
            role.until = until
        return until

    def has_sessions(self, username: str) -> bool:
        """Return whether a test has given the user sessions."""
        role = self._server.roles.get(username)
        return bool(role and role.sessions)


def not_ours(name: str) -> AccessRefused:
    """Return the error for a role that this application did not make."""
    return AccessRefused(f"role {name} exists and is not ours")
