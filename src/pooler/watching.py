"""Start, find and stop the process `pooler watch` of a home, of which a single process runs."""

from __future__ import annotations

import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import TextIO

from adapters.local import environment, files
from adapters.local.system_processes import command_of, pid_in, send, user_of
from pooler.store import Store

LOG = "watch.log"
_LOCK = "watch.lock"

# How long a process that watches may take to end after SIGTERM, in seconds.
_END_SECONDS = 3.0

# How long `watcher`, in another command, may hold the lock, in seconds.
_PROBE_SECONDS = 0.5

_SOURCES = pathlib.Path(__file__).resolve().parents[1]


class Watched(Exception):
    """Another process watches the units of this home; its text is the process ID."""


@contextmanager
def only_one(store: Store) -> Generator[None]:
    """Hold the lock of the process that watches. Raises Watched if another process holds it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    with open(os.open(store.home / _LOCK, flags, 0o600), "r+") as lock:
        end = time.monotonic() + _PROBE_SECONDS
        while not _take(lock):
            if time.monotonic() > end:
                raise Watched(str(pid_in(lock.read())))
            time.sleep(0.02)
        os.truncate(lock.fileno(), 0)
        os.pwrite(lock.fileno(), f"{os.getpid()}\n".encode(), 0)
        yield


def watcher(store: Store) -> int:
    """Return the ID of the process that watches; 0 if none does."""
    try:
        descriptor = os.open(store.home / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return 0
    with open(descriptor, "r+") as lock:
        return 0 if _take(lock) else pid_in(lock.read())


def _take(lock: TextIO) -> bool:
    """Take a lock until its file is closed; return False if another process holds it."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def start(store: Store) -> subprocess.Popen[bytes] | None:
    """Start a process that watches in the background, and return it; None if there is another already.

    A process that an earlier `pooler up` has started is replaced, because its program may be older.
    """
    if pid := watcher(store):
        if not _is_background(pid):
            return None
        stop(store)
    with open(files.open_log(store.home / LOG), "a") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "pooler", "watch", "--background"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env=environment.for_watch(store.home, _SOURCES),
        )


def stop(store: Store) -> None:
    """End the process that watches, if it runs; PgBouncer and PostgreSQL go on."""
    pid, end = watcher(store), time.monotonic() + _END_SECONDS
    if not pid:
        return
    send(pid, signal.SIGTERM, _is_watcher)
    while watcher(store) == pid and time.monotonic() < end:
        time.sleep(0.02)
    with suppress(ProcessLookupError):
        if watcher(store) == pid:
            send(pid, signal.SIGKILL, _is_watcher)


def _is_watcher(pid: int) -> bool:
    return "watch" in command_of(pid) and user_of(pid) == os.geteuid()


def _is_background(pid: int) -> bool:
    return "--background" in command_of(pid)
