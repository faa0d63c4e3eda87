"""Compute the SCRAM-SHA-256 verifiers from which no password can be read (RFC 5802, RFC 7677)."""

import base64
import functools
import hashlib
import hmac
import re

_VERIFIER = re.compile(
    r"SCRAM-SHA-256\$(?P<rounds>[1-9][0-9]{0,5}):(?P<salt>[A-Za-z0-9+/]+={0,2})\$[^:]+:(?P<server>\S+)"
)

# The default of PostgreSQL.
ITERATIONS = 4096


# `pooler` and tests run many hooks in a process, for the same few users.
@functools.lru_cache(maxsize=16)
def verifier(username: str, password: str) -> str:
    """Return the verifier that PostgreSQL stores, e.g. `SCRAM-SHA-256$4096:<salt>$<stored>:<server>`.

    The salt comes from the name and the password, so that verifiers of a name and a password are equal
    and can be compared; for a random password this salt is as good as a random salt. Raises
    UnicodeEncodeError for a password that is not ASCII: it would have to be normalised (SASLprep) first.
    """
    secret = password.encode("ascii")
    salt = hmac.digest(secret, b"salt of " + username.encode(), "sha256")[:16]
    salted = hashlib.pbkdf2_hmac("sha256", secret, salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${ITERATIONS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def fits(stored: str, username: str, password: str) -> bool:
    """Return whether `stored`, an MD5 hash or a SCRAM verifier as PostgreSQL keeps it, is that of a password."""
    if stored.startswith("md5"):
        # PostgreSQL decides the form of its hashes (usedforsecurity: no new hash is stored).
        digest = hashlib.md5((password + username).encode(), usedforsecurity=False).hexdigest()
        return hmac.compare_digest(stored, f"md5{digest}")
    found = _VERIFIER.fullmatch(stored)
    if found is None or not password.isascii():
        return False
    salt, rounds = base64.b64decode(found["salt"]), int(found["rounds"])
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    server = hmac.digest(salted, b"Server Key", "sha256")
    return hmac.compare_digest(_text(server), found["server"])


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
