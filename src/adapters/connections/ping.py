"""Find out, without a driver and in a few milliseconds, whether a server of PostgreSQL's protocol answers."""

import contextlib
import selectors
import socket
import struct
import time
from collections.abc import Iterable, Mapping

# An SSLRequest may be the first message of a connection. The server answers with a single byte, and logs nothing.
# https://www.postgresql.org/docs/current/protocol-message-formats.html
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_ANSWERS = (b"S", b"N", b"E")


def answers(servers: Iterable[tuple[str, int]], seconds: float = 1.0) -> bool:
    """Return whether any of these pairs of host and port answers; takes `seconds` at most for all of them."""
    end = time.monotonic() + seconds
    return any(_answers(server, end - time.monotonic()) for server in servers)


def _answers(server: tuple[str, int], seconds: float) -> bool:
    if seconds <= 0:
        return False
    try:
        with socket.create_connection(server, timeout=seconds) as connection:
            connection.sendall(SSL_REQUEST)
            return connection.recv(1) in _ANSWERS
    except (
        OSError,
        ValueError,
        OverflowError,
    ):  # A name or port that is not valid raises the last two.
        return False


def silent(sockets: Mapping[int, str], seconds: float = 1.0) -> frozenset[int]:
    """Return the keys of the Unix sockets on which no process answers within `seconds`."""
    end, left = time.monotonic() + seconds, dict(sockets)
    with contextlib.ExitStack() as opened:
        waiting = opened.enter_context(selectors.DefaultSelector())
        for key, path in sockets.items():
            client = opened.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            # No process listens, or its queue is full.
            with contextlib.suppress(OSError):
                client.connect(path)
                client.sendall(SSL_REQUEST)
                waiting.register(client, selectors.EVENT_READ, (key, client))
        while waiting.get_map() and (seconds := end - time.monotonic()) > 0:
            for ready, _ in waiting.select(seconds):
                key, client = ready.data
                waiting.unregister(client)
                with contextlib.suppress(OSError):
                    if client.recv(1) in _ANSWERS:
                        del left[key]
    return frozenset(left)
