"""The users that PgBouncer and PostgreSQL run as, if `pooler` runs as root."""

from __future__ import annotations

import os
import pathlib
import pwd
from typing import NamedTuple, TypedDict


class RunAs(NamedTuple):
    """The user ID and the group ID that a program runs as."""

    user: int
    group: int


# PgBouncer needs no entry in /etc/passwd. No distribution gives these user IDs to a user
# (https://systemd.io/UIDS-GIDS/), so no other service has the rights of this user.
_NUMBERS = range(61_032, 61_042)

# Prometheus has a user ID of its own: PgBouncer lets its own user into its console.
_PROMETHEUS_NUMBERS = range(61_042, 61_052)

# PostgreSQL refuses to run under a user ID without a name.
POSTGRESQL_USERS = ("postgres", "nobody")
_POOLER_USERS = ("pgbouncer", "nobody")


class Identity(TypedDict, total=False):
    """Arguments of `subprocess` that run a program as another user."""

    user: int
    group: int
    extra_groups: list[int]


def identity(owner: RunAs | None) -> Identity:
    """Return the arguments that run a program as this owner, or as the current user without an owner."""
    return {"user": owner.user, "group": owner.group, "extra_groups": []} if owner else {}


def chown(path: pathlib.Path, owner: RunAs | None) -> None:
    """Give a file or directory to this owner; the target of a link keeps its owner."""
    if owner:
        os.chown(path, *owner, follow_symlinks=False)


def pooler_owner() -> RunAs | None:
    """Return the user and group that PgBouncer runs as; None unless `pooler` runs as root.

    The user ID belongs to no other service. If no process on this machine can have such an ID,
    the user is `pgbouncer`, or `nobody`.
    """
    return _owner(_NUMBERS, _POOLER_USERS)


def prometheus_owner() -> RunAs | None:
    """Return the user and group that Prometheus runs as; None unless `pooler` runs as root."""
    return _owner(_PROMETHEUS_NUMBERS, ("nobody",))


def _owner(numbers: range, names: tuple[str, ...]) -> RunAs | None:
    """Return the first user ID that a process can have and that has no name, or else a user of these names."""
    if os.geteuid() != 0:
        return None
    for number in numbers:
        if _is_mapped(number) and user_name(number) is None:
            return RunAs(number, number)
    named = [entry for name in names if (entry := _entry(name))]
    if named:
        return RunAs(named[0].pw_uid, named[0].pw_gid)
    return RunAs(numbers[0], numbers[0])


def pooler_users() -> frozenset[int]:
    """Return the user IDs that a PgBouncer of an earlier command or release may run as."""
    if os.geteuid() != 0:
        return frozenset({os.geteuid()})
    named = (_entry(name) for name in (*_POOLER_USERS, *POSTGRESQL_USERS))
    return frozenset(_NUMBERS) | {entry.pw_uid for entry in named if entry}


def shared_user(owner: RunAs | None) -> str:
    """Return a warning if PgBouncer would run as this user of PostgreSQL, too; '' if not."""
    if owner is None or owner != pooler_owner():
        return ""
    return (
        f"PgBouncer and PostgreSQL both run as user {user_name(owner.user)}, so each program can read"
        " the files of the other program: add a user `pgbouncer` to this machine"
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
