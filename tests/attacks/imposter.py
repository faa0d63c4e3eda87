"""A server that is not PostgreSQL: it asks for what a password can be learnt or a processor kept by."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct
import threading
from typing import Literal

from packets import (
    AUTH_PASSWORD,
    AUTH_SASL,
    AUTH_SASL_CONTINUE,
    AUTHENTICATION,
    SSL_REQUEST,
    attributes,
    message,
)

from listening import Listening

GSS_REQUEST = struct.pack("!ii", 8, 80877104)
ITERATIONS = 100_000_000  #: minutes of a processor

Wish = Literal["password", "iterations"]


class Imposter(Listening):
    """Listens on 127.0.0.1. It asks for a password in plain text, or for very many SCRAM iterations."""

    def __init__(self, wish: Wish, port: int = 0) -> None:
        self._wish: Wish = wish
        self.logins = 0  #: requests for TLS, which it refuses
        self.passwords: list[str] = []  #: what was told in plain text
        self.asked = threading.Event()  #: a login has come as far as our request
        super().__init__(self._answer, port=port)

    def _answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, struct.error, KeyError):
            client.settimeout(60)
            while (first := _packet(client)) in (SSL_REQUEST, GSS_REQUEST):
                self.logins += 1
                client.sendall(b"N")
            if not first:
                return
            if self._wish == "password":
                client.sendall(_request(AUTH_PASSWORD))
                self.asked.set()
                if told := _packet(client, typed=True):
                    self.passwords.append(told[5:].rstrip(b"\0").decode())
                return
            client.sendall(_request(AUTH_SASL, b"SCRAM-SHA-256\0\0"))
            initial = _packet(client, typed=True)[5:].decode(errors="replace")
            nonce = attributes(initial.partition(",,")[2])["r"]
            salt = base64.b64encode(os.urandom(16)).decode()
            first_message = f"r={nonce}imposter,s={salt},i={ITERATIONS}"
            client.sendall(_request(AUTH_SASL_CONTINUE, first_message.encode()))
            self.asked.set()
            _packet(client, typed=True)


def _request(number: int, data: bytes = b"") -> bytes:
    return message(AUTHENTICATION, struct.pack("!i", number) + data)


def _packet(client: socket.socket, *, typed: bool = False) -> bytes:
    """The next packet with its header; empty at the end of the connection."""
    size = 5 if typed else 4
    header = client.recv(size, socket.MSG_WAITALL)
    if len(header) < size:
        return b""
    (length,) = struct.unpack("!i", header[-4:])
    return header + client.recv(length - 4, socket.MSG_WAITALL)
