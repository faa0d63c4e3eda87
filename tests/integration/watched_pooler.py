"""The command `pooler`, which tells what it writes as root where another user could place a link.

Run as a script, by `test_local_attacks.py`. $WRITES is a file for what was written: a word, `safe` or
`UNSAFE`, the event, and the path.
"""

import os
import pathlib
import stat
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "src"))

from pooler import __main__ as pooler

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {
    "os.rename", "os.chown", "os.chmod", "os.mkdir", "os.link", "os.symlink", "os.truncate",
    "os.utime", "os.setxattr", "shutil.move", "shutil.copyfile",
}  # fmt: skip


def only_root_writes(directory):
    """Whether no other user can make, replace or rename a file there."""
    for part in (directory, *directory.parents):
        found = part.stat()
        others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if found.st_uid != 0 or (others and not found.st_mode & stat.S_ISVTX):
            return False
    return True


def paths(event, values):
    """The files that an event writes, which may be named by a descriptor."""
    if event == "open":
        path, _, flags = values
        return [path] if path is not None and flags & WRITES else []
    if event in CHANGES:
        return values[:2] if event in {"os.rename", "os.link"} else values[:1]
    return []


def main():
    told = open(os.environ["WRITES"], "a", buffering=1)  # noqa: SIM115 — until the process ends

    def audit(event, values):
        for path in paths(event, values):
            if isinstance(path, int):
                path = os.readlink(f"/proc/self/fd/{path}")  # noqa: PLW2901 — its name
            directory = pathlib.Path(os.path.abspath(os.fsdecode(path))).parent
            # Homes may be in memory, below /dev/shm.
            top = directory.parts[1:3]
            if top[:1] not in [("proc",), ("dev",)] or top == ("dev", "shm"):
                real = pathlib.Path(os.path.realpath(directory))
                word = "safe" if only_root_writes(real) else "UNSAFE"
                told.write(f"{word} {event} {os.fsdecode(path)}\n")

    sys.addaudithook(audit)
    return pooler.run()


if __name__ == "__main__":
    sys.exit(main())
