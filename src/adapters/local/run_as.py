"""The users that PgBouncer and PostgreSQL run as, if `pooler` runs as root."""

from __future__ import annotations

import os
import pathlib
import pwd
from typing import TypedDict

Owner = tuple[int, int]  #: a user ID and a group ID

# PgBouncer needs no entry in /etc/passwd. No distribution gives these user IDs to a user
# (https://systemd.io/UIDS-GIDS/), so no other service has the rights of this user.
_NUMBERS = range(61_032, 61_042)

# PostgreSQL refuses to run under a user ID without a name.
POSTGRESQL_USERS = ("postgres", "nobody")
_POOLER_USERS = ("pgbouncer", "nobody")


class Identity(TypedDict, total=False):
    """Arguments of `subprocess` that run a program as another user."""

    user: int
    group: int
    extra_groups: list[int]


def identity(owner: Owner | None) -> Identity:
    """Return the arguments that run a program as this owner, or as the current user without an owner."""
    return {"user": owner[0], "group": owner[1], "extra_groups": []} if owner else {}


def own(path: pathlib.Path, owner: Owner | None) -> None:
    """Give a file or directory to this owner; the target of a link keeps its owner."""
    if owner:
        os.chown(path, *owner, follow_symlinks=False)


def pooler_owner() -> Owner | None:
    """Return the user and group that PgBouncer runs as; None unless `pooler` runs as root.

    The user ID belongs to no other service. If no process on this machine can have such an ID,
    the user is `pgbouncer`, or `nobody`.
    """
    if os.geteuid() != 0:
        return None
    for number in _NUMBERS:
        if _is_mapped(number) and user_name(number) is None:
            return number, number
    named = [entry for name in _POOLER_USERS if (entry := _entry(name))]
    return (named[0].pw_uid, named[0].pw_gid) if named else (_NUMBERS[0], _NUMBERS[0])


def pooler_users() -> frozenset[int]:
    """Return the user IDs that a PgBouncer of an earlier command or release may run as."""
    if os.geteuid() != 0:
        return frozenset({os.geteuid()})
    named = (_entry(name) for name in (*_POOLER_USERS, *POSTGRESQL_USERS))
    return frozenset(_NUMBERS) | {entry.pw_uid for entry in named if entry}


def shared_user(owner: Owner | None) -> str:
    """Return a warning if PgBouncer would run as this user of PostgreSQL, too; '' if not."""
    if owner is None or owner != pooler_owner():
        return ""
    return (
        f"PgBouncer and PostgreSQL both run as user {user_name(owner[0])}, so each can read files of"
        " the other: add a user `pgbouncer`"
    )


def user_name(number: int) -> str | None:
    """Return the name of a user ID; None if it has no name."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return None


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _is_mapped(number: int) -> bool:
    """Return whether a process in the current user namespace can run as this user ID."""
    lines = pathlib.Path("/proc/self/uid_map").read_text().splitlines()
    ranges = ([int(word) for word in line.split()] for line in lines)
    return any(first <= number < first + count for first, _, count in ranges)
