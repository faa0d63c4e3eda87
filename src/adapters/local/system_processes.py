"""Find the processes of this machine, and check that a process ID still belongs to the expected process."""

from __future__ import annotations

import os
import pathlib
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

_PROC = pathlib.Path("/proc")


def pids() -> Iterator[int]:
    """Return the process IDs of all processes."""
    for directory in _PROC.glob("[0-9]*"):
        yield int(directory.name)


def pid_in(text: str) -> int:
    """Return the process ID in the first line of a pid file; 0 if there is none."""
    match = re.match(r"\s*([0-9]{1,10})\s*(\n|$)", text)
    return int(match[1]) if match else 0


def command_of(pid: int) -> list[str]:
    """Return the command line of a process, or the title that it has set; empty if it has ended."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
    return [os.fsdecode(word) for word in words]


def user_of(pid: int) -> int | None:
    """Return the user ID of a process; None if it has ended, or has the rights of two users."""
    try:
        status = (_PROC / str(pid) / "status").read_text(errors="replace")
    except OSError:
        return None
    match = re.search(r"^Uid:\t([0-9]+)\t([0-9]+)\t([0-9]+)", status, re.MULTILINE)
    if not match or len(set(match.groups())) > 1:
        return None
    return int(match[1])


def send(pid: int, number: signal.Signals, recognized: Callable[[int], bool]) -> None:
    """Send a signal to a process if `recognized` accepts its ID, and never to a process that reuses the ID."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            if recognized(pid):
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
