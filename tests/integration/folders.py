"""Directories for the servers of tests."""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile

# What the tests that run at the same time may need, in bytes.
_ROOM = 2**30


def new_folder(prefix: str) -> pathlib.Path:
    """Return a new directory; in memory if there is room, where PostgreSQL makes a database ten times faster.

    Its path is short enough for sockets. Servers that run as another user may pass through it.
    """
    memory = pathlib.Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    roomy = usable and shutil.disk_usage(memory).free > _ROOM
    folder = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=memory if roomy else "/tmp"))
    folder.chmod(0o711)
    return folder
