"""Files that `pooler` writes and reads, so that no link of another user leads it elsewhere.

As root, `pooler` writes only to directories that no other user can write. What lies in a directory of
the servers' users is only read or removed, and what it says is not believed.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
from collections.abc import Iterator

from adapters.local.owner import user_name

_MOST_BYTES = 65_536  # of a file that is written by a server
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def insecure(path: pathlib.Path) -> str:
    """Return why another user could replace what root keeps under this path; '' if no user can.

    As an ordinary user `pooler` has no more rights than its user, so there every path will do.
    """
    if os.geteuid() != 0:
        return ""
    for part in _parts(path):
        try:
            found = part.lstat()
        except OSError:
            continue
        if found.st_uid != 0:
            name = user_name(found.st_uid) or f"number {found.st_uid}"
            return (
                f"{part} belongs to user {name}, who could replace files of root there:"
                f" `chown root {part}`, or set $POOLER_HOME to a directory of root"
            )
        # In a sticky directory, such as /tmp, users cannot rename or remove files of others.
        sticky = stat.S_ISLNK(found.st_mode) or found.st_mode & stat.S_ISVTX
        open_to = stat.S_IWOTH if found.st_gid == 0 else _OTHERS_WRITE
        if not sticky and found.st_mode & open_to:
            return (
                f"other users can write to {part}, and could replace files of root there:"
                f" `chmod go-w {part}`, or set $POOLER_HOME to another directory of root"
            )
    return ""


def _parts(path: pathlib.Path) -> Iterator[pathlib.Path]:
    for whole in (path, pathlib.Path(os.path.realpath(path))):
        yield from (whole, *whole.parents)


def is_ours(directory: pathlib.Path) -> bool:
    """Return whether this is a directory of our user, and no link."""
    try:
        found = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()


def make_parents(path: pathlib.Path) -> None:
    """Make the directories above a path; other users may pass through them."""
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(0o711)


def make_directory(directory: pathlib.Path, mode: int, group: int | None = None) -> None:
    """Make a directory of our user with this mode and group, in a directory that is ours.

    What an earlier release gave to another user, and any link, is removed: every file in it is
    written anew from the state.
    """
    if not is_ours(directory):
        remove(directory)
        directory.mkdir(0o700)
    if group is not None:
        os.chown(directory, -1, group, follow_symlinks=False)
    directory.chmod(mode)


def remove(path: pathlib.Path) -> None:
    """Remove a file, a link or a whole directory; never what a link leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write(path: pathlib.Path, text: str, group: int | None = None) -> None:
    """Replace a file by this text, for our user alone; this group may read it, too.

    The directory has to be ours. Killed at any moment, the old file or the new one is there.
    """
    new = path.with_suffix(".new")
    try:
        with open(_created(new), "w") as file:
            file.write(text)
            if group is not None:
                os.chown(file.fileno(), -1, group)
                os.chmod(file.fileno(), 0o640)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)  # Half of a file has no use.
        raise


def _created(path: pathlib.Path) -> int:
    """Return the descriptor of a new file that is ours alone."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:
        remove(path)  # A command that was killed left it there.
        return os.open(path, flags, 0o600)


def open_log(path: pathlib.Path) -> int:
    """Return a descriptor that appends to a log of our user, in a directory that is ours."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise OSError(0, "is no regular file", str(path))
    if found.st_uid != os.geteuid():
        # An earlier release gave the log to the servers' user. The directory is ours, so this is
        # still the file that we made.
        os.chown(descriptor, os.geteuid(), os.getegid())
    return descriptor


def read(path: pathlib.Path) -> str:
    """Return the beginning of a file that another user may have written.

    Raises OSError for a link and for anything but a regular file: a pipe would never end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "is no regular file", str(path))
        return file.read(_MOST_BYTES).decode(errors="replace")
