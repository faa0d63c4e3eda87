"""Does something speak PostgreSQL's protocol there? Asked without a driver, in a few milliseconds."""

import contextlib
import selectors
import socket
import struct
import time
from collections.abc import Iterable, Mapping

# https://www.postgresql.org/docs/current/protocol-message-formats.html, SSLRequest: it may come
# first, is answered with one byte, and leaves no trace in the server's log.
_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_ANSWERS = (b"S", b"N", b"E")


def answers(servers: Iterable[tuple[str, int]], seconds: float = 1.0) -> bool:
    """Whether one of these (host, port) answers; takes `seconds` at most for all of them."""
    end = time.monotonic() + seconds
    return any(_answers(server, end - time.monotonic()) for server in servers)


def _answers(server: tuple[str, int], seconds: float) -> bool:
    if seconds <= 0:
        return False
    try:
        with socket.create_connection(server, timeout=seconds) as connection:
            connection.sendall(_SSL_REQUEST)
            return connection.recv(1) in _ANSWERS
    except (
        OSError,
        ValueError,
        OverflowError,
    ):  # The last two are of names and ports that cannot be.
        return False


def silent(sockets: Mapping[int, str], seconds: float = 1.0) -> frozenset[int]:
    """Return the keys of the Unix sockets on which no process answers within `seconds`."""
    end, left = time.monotonic() + seconds, dict(sockets)
    with contextlib.ExitStack() as opened:
        asked = opened.enter_context(selectors.DefaultSelector())
        for key, path in sockets.items():
            client = opened.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(OSError):  # No process listens, or its queue is full.
                client.connect(path)
                client.sendall(_SSL_REQUEST)
                asked.register(client, selectors.EVENT_READ, (key, client))
        while asked.get_map() and (seconds := end - time.monotonic()) > 0:
            for ready, _ in asked.select(seconds):
                key, client = ready.data
                asked.unregister(client)
                with contextlib.suppress(OSError):
                    if client.recv(1) in _ANSWERS:
                        del left[key]
    return frozenset(left)
