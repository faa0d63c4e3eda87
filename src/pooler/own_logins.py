"""Remember the logins that `pooler` itself makes as an application, so that `pooler logs` leaves them out.

PgBouncer logs the address and port of each client, and no name of a program. The file has a line for each
login: its time in seconds, and the port on the side of `pooler`.
"""

from __future__ import annotations

import fcntl
import os
import pathlib
import re
import socket
import time
from contextlib import suppress
from typing import NamedTuple, Self

FILE = "logins"

# The most bytes of the file. `status --watch` of 20 units needs this for about an hour.
MOST = 1 << 20

# How far the time of a line in a log may be from the time of its login, in seconds.
_NEAR = 5.0

# The beginning and the ordinary end of a session of an application.
_SESSION = re.compile(
    r"^(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\S* .{0,60}? LOG C-0x[0-9a-f]+: "
    r".{1,200}/relation_id_\d+(?:__2)?@\S+:(?P<port>\d{1,5}) (?:login attempt: |closing because: client )"
)


def remember(home: pathlib.Path, descriptor: int) -> None:
    """Write down a login whose connection has this descriptor. A home that cannot be written stays as it is."""
    with suppress(OSError):
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            port = connection.getsockname()[1]
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        with open(os.open(home / FILE, flags, 0o600), "rb+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_size >= MOST:
                file.seek(MOST // 2)
                kept = file.read().partition(b"\n")[2]
                file.truncate(0)
                file.write(kept)
            file.write(b"%d %d\n" % (time.time(), port))


class OwnLogins(NamedTuple):
    """The times of logins, in seconds, by their ports."""

    times: dict[int, list[float]]

    @classmethod
    def of(cls, home: pathlib.Path) -> Self:
        """Return the logins that were written down in a home."""
        found = dict[int, list[float]]()
        with (
            suppress(OSError),
            open(os.open(home / FILE, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file,
        ):
            for begun, port in re.findall(
                rb"^(\d{1,12}) (\d{1,5})$", file.read(2 * MOST), re.MULTILINE
            ):
                found.setdefault(int(port), []).append(float(begun))
        return cls(found)

    def has(self, line: str) -> bool:
        """Return whether a line of a log is about one of these logins."""
        match = _SESSION.match(line)
        if not match or int(match["port"]) not in self.times:
            return False
        try:
            # Logs have the local time, as the times of `--since`.
            logged = time.mktime(time.strptime(match["time"], "%Y-%m-%d %H:%M:%S"))
        except (ValueError, OverflowError):
            return False
        return any(abs(logged - begun) <= _NEAR for begun in self.times[int(match["port"])])
