"""Write and read the files of `pooler` without following a link that another user has placed.

As root, `pooler` writes only to directories that no other user can write. It only reads or removes files
in directories of the servers' users, and treats their contents as untrusted.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
from collections.abc import Iterator

from adapters.local.run_as import user_name

# The most bytes that are read of a file that a server writes.
_MOST_BYTES = 65_536
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def insecure(path: pathlib.Path) -> str:
    """Return why another user could replace root's files under this path; '' if no user can.

    For an ordinary user every path is accepted, because `pooler` then has only that user's rights.
    """
    if os.geteuid() != 0:
        return ""
    home = pathlib.Path(os.path.realpath(path))
    for part in _parts(path):
        try:
            status = part.lstat()
        except OSError:
            continue
        if status.st_uid != 0:
            name = user_name(status.st_uid) or f"number {status.st_uid}"
            return (
                f"{part} belongs to user {name}, who could replace files of root there:"
                f" `chown root {part}`, or set $POOLER_HOME to a directory of root"
            )
        # In a sticky directory, such as /tmp, users cannot rename or remove files of other users, but they can
        # add files, such as a state.
        sticky = stat.S_ISLNK(status.st_mode) or (part != home and status.st_mode & stat.S_ISVTX)
        open_to = stat.S_IWOTH if status.st_gid == 0 else _OTHERS_WRITE
        if not sticky and status.st_mode & open_to:
            return (
                f"other users can write to {part}, and could replace files of root there:"
                f" `chmod go-w {part}`, or set $POOLER_HOME to another directory of root"
            )
    return ""


def _parts(path: pathlib.Path) -> Iterator[pathlib.Path]:
    for whole in (path, pathlib.Path(os.path.realpath(path))):
        yield from (whole, *whole.parents)


def is_ours(directory: pathlib.Path) -> bool:
    """Return whether the path is a directory that belongs to the current user, and not a link."""
    try:
        status = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def make_parents(path: pathlib.Path) -> None:
    """Make the missing directories above a path, with a mode that lets other users pass through them."""
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(0o711)


def make_directory(directory: pathlib.Path, mode: int, group: int | None = None) -> None:
    """Make a directory of the current user with this mode and group; its parent has to be the user's, too.

    A directory that an earlier release gave to another user, and a link, are removed: every file in the
    directory is written again from the state.
    """
    if not is_ours(directory):
        remove(directory)
        directory.mkdir(0o700)
    if group is not None:
        os.chown(directory, -1, group, follow_symlinks=False)
    directory.chmod(mode)


def remove(path: pathlib.Path) -> None:
    """Remove a file, a link or a whole directory; the target of a link stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write(
    path: pathlib.Path, text: str, group: int | None = None, *, public: bool = False
) -> None:
    """Replace a file by this text, readable only for the current user, and for `group` if it is given.

    Every user can read a `public` file.

    The directory has to belong to the current user. If the process is killed, the old file or the new
    file is there.
    """
    new = path.with_suffix(".new")
    try:
        with open(_created(new), "w") as file:
            file.write(text)
            if group is not None:
                os.chown(file.fileno(), -1, group)
                os.chmod(file.fileno(), 0o640)
            if public:
                os.chmod(file.fileno(), 0o644)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)  # An incomplete file must not stay.
        raise


def remove_incomplete(directory: pathlib.Path) -> None:
    """Remove what `write` was making in this directory, and in those below it, when its process was killed."""
    if is_ours(directory):
        for path in directory.iterdir():
            if path.suffix == ".new":
                remove(path)
            else:
                remove_incomplete(path)


def _created(path: pathlib.Path) -> int:
    """Create a file that only the current user can read, and return its descriptor."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o600)
    except FileExistsError:
        remove(path)  # A command that was killed left it there.
        return os.open(path, flags, 0o600)


def open_log(path: pathlib.Path) -> int:
    """Open a log of the current user for appending; its directory has to belong to the user, too."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(0, "is no regular file", str(path))
    if status.st_uid != os.geteuid():
        # An earlier release gave the log to the servers' user. The directory belongs to the current
        # user, so this is still the file that `pooler` made.
        os.chown(descriptor, os.geteuid(), os.getegid())
    return descriptor


def read(path: pathlib.Path) -> str:
    """Return the beginning of a file that another user may have written.

    Raises OSError for a link and for anything but a regular file: reading a pipe could block for ever.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "is no regular file", str(path))
        return file.read(_MOST_BYTES).decode(errors="replace")
