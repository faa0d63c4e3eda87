"""Read the ends of log files, select lines, and follow the files while servers write to them."""

from __future__ import annotations

import datetime
import os
import pathlib
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

_BLOCK = 65_536

# The most bytes that are read of what was appended to a log.
_MOST = 16 * _BLOCK

# A longer line is cut there.
_LONGEST = 4_000

# The time with which PgBouncer and PostgreSQL begin a line, in the time zone of their environment.
_TIME = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?)")

_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Source(NamedTuple):
    """A log file, and the name of its process in the output."""

    name: str
    path: pathlib.Path


class Line(NamedTuple):
    """A line of a log. A line without a time has the time of the line before, or ''."""

    time: str
    source: str
    text: str


Keep = Callable[[str], bool]


def moment(text: str, now: datetime.datetime) -> str:
    """Return the time that `10m`, `2h` or `2026-11-27T18:30` names, as logs write it. Raises ValueError."""
    if match := _AGO.fullmatch(text):
        since = now - datetime.timedelta(**{_UNITS[match[2]]: int(match[1])})
    else:
        since = datetime.datetime.fromisoformat(text)
        if since.tzinfo:
            since = since.astimezone(now.tzinfo)
    return f"{since:%Y-%m-%d %H:%M:%S}"


def tail(source: Source, most: int, since: str, keep: Keep) -> list[Line]:
    """Return the last `most` lines since a time that `keep` accepts, the oldest first."""
    found: list[Line] = []
    try:
        descriptor = _opened(source.path)
    except OSError:
        return []
    with open(descriptor, "rb") as file:
        continued: list[str] = []
        for text in _backwards(file.fileno()):
            match = _TIME.match(text)
            if not match:
                continued.append(text)
                continue
            if match[1] < since or len(found) >= most:
                break
            lines = [text, *reversed(continued)]
            continued = []
            if any(map(keep, lines)):
                found += [Line(match[1], source.name, line) for line in reversed(lines)]
        else:
            # The file begins with lines that have no time.
            found += (
                [] if since else [Line("", source.name, line) for line in continued if keep(line)]
            )
    return found[:most][::-1]


def _opened(path: pathlib.Path) -> int:
    """Open a regular file, and never a link: PgBouncer's user may write to its own directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "is no regular file", str(path))
    return descriptor


def _backwards(descriptor: int) -> Iterator[str]:
    """Yield the complete lines of a file, the last first."""
    end, rest = os.fstat(descriptor).st_size, b""
    while end > 0:
        begin = max(0, end - _BLOCK)
        block = os.pread(descriptor, end - begin, begin) + rest
        first, *lines = block.split(b"\n")
        rest, end = first[: 2 * _BLOCK], begin
        yield from (_decoded(line) for line in reversed(lines) if line)
    if rest:
        yield _decoded(rest)


def _decoded(line: bytes) -> str:
    return line[:_LONGEST].decode(errors="replace").rstrip("\r")


class Follower:
    """Reads what is appended to logs, also to logs that appear or are replaced."""

    def __init__(self, sources: list[Source]) -> None:
        # By path: the identity of the file, and the position of the next byte.
        self._known: dict[pathlib.Path, tuple[int, int]] = {}
        for source in sources:
            with suppress(OSError):
                status = source.path.lstat()
                self._known[source.path] = (status.st_ino, status.st_size)

    def new_lines(self, sources: list[Source]) -> list[Line]:
        """Return the complete lines that were appended since the last call, in the order of time."""
        lines: list[Line] = []
        for source in sources:
            with suppress(OSError):
                lines += self._new(source)
        return sorted(lines, key=lambda line: line.time)

    def _new(self, source: Source) -> Iterator[Line]:
        with open(_opened(source.path), "rb") as file:
            status = os.fstat(file.fileno())
            inode, position = self._known.get(source.path, (status.st_ino, 0))
            if inode != status.st_ino or position > status.st_size:
                position = 0
            file.seek(position)
            block = file.read(_MOST)
            text, newline, _ = block.rpartition(b"\n")
            if not newline and len(block) == _MOST:
                # PostgreSQL logs a statement of any length. Without its end the file would never be read further.
                text = block
            self._known[source.path] = (status.st_ino, position + len(text) + len(newline))
        time = ""
        for line in map(_decoded, text.split(b"\n") if text else ()):
            match = _TIME.match(line)
            time = match[1] if match else time
            yield Line(time, source.name, line)
