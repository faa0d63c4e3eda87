"""Ports for the servers of tests, of which many processes start servers at the same time."""

from __future__ import annotations

import random
import socket

# Below the range from which the kernel takes the ports of outgoing connections.
FIRST, LAST = 12_000, 32_000

# A port is reserved while its UDP socket is open, that is as long as this process runs: another process
# that asks for ports cannot open this socket, and TCP has port numbers of its own.
_RESERVED: list[socket.socket] = []


def free_port() -> int:
    """Return a port of 127.0.0.1 that no server uses, and that no other test is given."""
    while True:
        port = random.randrange(FIRST, LAST)
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", port))
            # PgBouncer of another address sets SO_REUSEPORT: only a port without any listener is free.
            with socket.create_server(("0.0.0.0", port)):
                pass
        except OSError:
            reservation.close()
            continue
        _RESERVED.append(reservation)
        return port
