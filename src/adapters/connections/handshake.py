"""Verify servers of PostgreSQL's protocol by a TLS handshake, without a login and without a driver."""

from __future__ import annotations

import ipaddress
import queue
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

from adapters.connections.messages import one_line
from adapters.connections.ping import SSL_REQUEST

if TYPE_CHECKING:
    from collections.abc import Iterable

    Server = tuple[str, int]

NO_TLS = "it offers no TLS"

# Behind a name, such as that of a Service, there may be several servers, each with a certificate of its own.
_ATTEMPTS = 6


def refusals(
    servers: Iterable[Server], authorities: str, seconds: float, *, names: bool
) -> dict[Server, str]:
    """Return the servers that are not verified, each with the reason; '' if a server does not answer.

    `authorities` has certificates in PEM. With `names` a certificate has to hold the host, too. All
    servers are asked at a time, so that a silent server does not use up the `seconds` of another.
    """
    context = _context(authorities, names=names)
    asked = [server for server in dict.fromkeys(servers) for _ in range(_attempts(server[0]))]
    answers: queue.SimpleQueue[tuple[Server, str]] = queue.SimpleQueue()

    def ask(server: Server) -> None:
        answers.put((server, _refusal(context, server, seconds)))

    for server in asked:
        # A daemon thread does not keep the process from ending while a name is resolved.
        threading.Thread(target=ask, args=(server,), daemon=True).start()
    end, left = time.monotonic() + seconds, list(asked)
    found: dict[Server, str] = {}
    while left:
        try:
            server, reason = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        left.remove(server)
        if reason != _VERIFIED:
            found[server] = reason or found.get(server, "")
    return dict.fromkeys(left, "") | found


_VERIFIED = "verified"


def _attempts(host: str) -> int:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _ATTEMPTS
    return 1


def _context(authorities: str, *, names: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # PgBouncer needs the root, too.
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = names
    context.load_verify_locations(cadata=authorities)
    return context


def _refusal(context: ssl.SSLContext, server: Server, seconds: float) -> str:
    """Return why a server is not verified; '' if it does not answer, and _VERIFIED if it is verified."""
    try:
        with socket.create_connection(server, timeout=seconds) as plain:
            plain.sendall(SSL_REQUEST)
            answer = plain.recv(1)
            if answer != b"S":
                return NO_TLS if answer else ""
            with context.wrap_socket(plain, server_hostname=server[0]):
                return _VERIFIED
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is refused: {one_line(error.verify_message).rstrip('.')}"
    except ssl.SSLError as error:
        return f"the TLS handshake fails: {one_line(error.reason or str(error))}"
    except (
        OSError,
        ValueError,
        OverflowError,
    ):  # A name or port that is not valid raises the last two.
        return ""
