"""PostgreSQL's wire protocol, packet by packet: a hostile client does not send what libpq sends.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

VERSION_3 = 196608
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
CANCEL = 80877102
LONGEST = 2**31 - 2  #: the largest length that a packet may declare, by PgBouncer's own limit

ERROR, AUTHENTICATION, READY, KEY_DATA = b"E", b"R", b"Z", b"K"
AUTH_OK, AUTH_PASSWORD, AUTH_SASL, AUTH_SASL_CONTINUE, AUTH_SASL_FINAL = 0, 3, 10, 11, 12

Message = tuple[bytes, bytes]  #: type and body


class Closed(Exception):
    """The other side closed the connection."""


class Refused(Exception):
    """The other side answered with an error; the text is its severity, code and message."""


def startup(**parameters: str) -> bytes:
    """A StartupMessage of protocol 3.0."""
    words = [word for pair in parameters.items() for word in pair]
    body = struct.pack("!i", VERSION_3) + b"".join(w.encode() + b"\0" for w in words) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def message(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    """A message; `length` is what its header declares, where that is not the truth."""
    return kind + struct.pack("!i", len(body) + 4 if length is None else length) + body


def query(text: str) -> bytes:
    """A Query message."""
    return message(b"Q", text.encode() + b"\0")


def cancel(key: bytes) -> bytes:
    """A CancelRequest with the eight bytes of BackendKeyData."""
    return struct.pack("!ii", 16, CANCEL) + key


def sasl_initial(first: str) -> bytes:
    """The SASLInitialResponse that begins SCRAM."""
    body = b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first.encode()
    return message(b"p", body)


def error_in(body: bytes) -> str:
    """Severity, code and message of an ErrorResponse."""
    fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    return " ".join(fields.get(name, "") for name in (b"S", b"C", b"M")).strip()


class Scram:
    """The client's part of SCRAM-SHA-256 (RFC 5802)."""

    def __init__(self, password: str) -> None:
        self._password = password
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        self._first = f"n=,r={self.nonce}"

    @property
    def first(self) -> str:
        """The client-first-message."""
        return f"n,,{self._first}"

    def final(self, server_first: str) -> bytes:
        """The SASLResponse with the proof of the password."""
        told = attributes(server_first)
        salt, rounds = base64.b64decode(told["s"]), int(told["i"])
        salted = hashlib.pbkdf2_hmac("sha256", self._password.encode(), salt, rounds)
        key = hmac.digest(salted, b"Client Key", "sha256")
        without = f"c=biws,r={told['r']}"
        signed = ",".join((self._first, server_first, without)).encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        return message(b"p", f"{without},p={base64.b64encode(proof).decode()}".encode())


def attributes(text: str) -> dict[str, str]:
    """The attributes of a SCRAM message by their letters."""
    return {part[0]: part[2:] for part in text.split(",") if part[1:2] == "="}


class Wire:
    """A connection that sends what it is given, and waits no longer than `seconds` for an answer."""

    def __init__(self, address: tuple[str, int] | str, seconds: float = 5) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(seconds)
        self.socket.connect(address)
        self._read = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        _: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, *packets: bytes) -> None:
        """Raises Closed if the other side does not take them."""
        try:
            self.socket.sendall(b"".join(packets))
        except (BrokenPipeError, ConnectionResetError):
            raise Closed("while it was sent to") from None

    def receive(self) -> Message:
        """The next message. Raises Closed, or TimeoutError."""
        while len(self._read) < 5 or len(self._read) < 1 + self._length():
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Closed("without another message")
            self._read += data
        end = 1 + self._length()
        kind, body, self._read = self._read[:1], self._read[5:end], self._read[end:]
        return kind, body

    def authentication(self) -> tuple[int, bytes]:
        """The next request for authentication: its number and its data. Raises Refused."""
        kind, body = self.receive()
        if kind == ERROR:
            raise Refused(error_in(body))
        if kind != AUTHENTICATION:
            raise Refused(f"message {kind!r} where authentication was expected")
        return struct.unpack("!i", body[:4])[0], body[4:]

    def challenge(self, scram: Scram, **parameters: str) -> str:
        """Send a StartupMessage and begin SCRAM; returns the server-first-message. Raises Refused."""
        self.send(startup(**parameters))
        number, _ = self.authentication()
        if number != AUTH_SASL:
            raise Refused(f"authentication {number} in place of SCRAM")
        self.send(sasl_initial(scram.first))
        number, data = self.authentication()
        if number != AUTH_SASL_CONTINUE:
            raise Refused(f"authentication {number} in place of a challenge")
        return data.decode()

    def log_in(self, password: str, **parameters: str) -> bytes:
        """Log in by SCRAM; returns the key for cancels. Raises Refused."""
        scram = Scram(password)
        self.send(scram.final(self.challenge(scram, **parameters)))
        return self.ready()

    def ready(self) -> bytes:
        """Read up to ReadyForQuery; returns the key for cancels. Raises Refused."""
        key = b""
        while True:
            kind, body = self.receive()
            if kind == ERROR:
                raise Refused(error_in(body))
            if kind == KEY_DATA:
                key = body
            if kind == READY:
                return key

    def ask(self, text: str) -> list[list[str | None]]:
        """The rows of a statement. Raises Refused."""
        self.send(query(text))
        rows: list[list[str | None]] = []
        while True:
            kind, body = self.receive()
            if kind == ERROR:
                raise Refused(error_in(body))
            if kind == b"D":
                rows.append(_fields(body))
            if kind == READY:
                return rows

    def _length(self) -> int:
        return struct.unpack("!i", self._read[1:5])[0]


def _fields(body: bytes) -> list[str | None]:
    found: list[str | None] = []
    (count,), place = struct.unpack("!h", body[:2]), 2
    for _ in range(count):
        (size,) = struct.unpack("!i", body[place : place + 4])
        place += 4
        found.append(None if size < 0 else body[place : place + size].decode(errors="replace"))
        place += max(size, 0)
    return found


def answers(address: tuple[str, int] | str, seconds: float = 2) -> bool:
    """Whether a process answers an SSLRequest in time."""
    try:
        with Wire(address, seconds) as wire:
            wire.send(SSL_REQUEST)
            return wire.socket.recv(1) in (b"S", b"N", b"E")
    except (OSError, Closed):
        return False
