"""The server's part of a login by SCRAM-SHA-256 (RFC 5802, RFC 7677), as PostgreSQL speaks it."""

import base64
import hashlib
import hmac
import struct

SALT = b"salt of 16 bytes"

# Authentication requests of the protocol.
_SASL, _SASL_CONTINUE, _SASL_FINAL = 10, 11, 12


def message(kind, body=b""):
    return kind + struct.pack("!i", 4 + len(body)) + body


def asks(number, rest=b""):
    """A request for authentication."""
    return message(b"R", struct.pack("!i", number) + rest)


class Refused(Exception):
    """The client does not know the password, or went away."""


def prove(connection, password, iterations=16):
    """The client and this server know that both know the password; what the client said before."""
    connection.sendall(asks(_SASL, b"SCRAM-SHA-256\0\0"))
    first = _said(connection)
    bare = first[first.index(b"n=") :]
    nonce = bare.rpartition(b"r=")[2] + b"of-the-server"
    salt = base64.b64encode(SALT)
    server_first = b"r=%s,s=%s,i=%d" % (nonce, salt, iterations)
    connection.sendall(asks(_SASL_CONTINUE, server_first))
    final = _said(connection)
    without_proof, _, proof = final.partition(b",p=")
    told = b",".join((bare, server_first, without_proof))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), SALT, iterations)
    key = _hmac(salted, b"Client Key")
    signature = _hmac(hashlib.sha256(key).digest(), told)
    if bytes(a ^ b for a, b in zip(key, signature, strict=True)) != base64.b64decode(proof):
        raise Refused
    proved = base64.b64encode(_hmac(_hmac(salted, b"Server Key"), told))
    connection.sendall(asks(_SASL_FINAL, b"v=" + proved) + asks(0))


def _hmac(key, text):
    return hmac.digest(key, text, "sha256")


def _said(connection):
    data = connection.recv(8192)
    if not data:
        raise Refused
    return data[5:]
