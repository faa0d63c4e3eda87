"""Does something speak PostgreSQL's protocol there? Asked without a driver, in a few milliseconds."""

import socket
import struct
import time
from collections.abc import Iterable

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
