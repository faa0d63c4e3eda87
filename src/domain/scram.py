"""Compute the SCRAM-SHA-256 verifiers from which no password can be read (RFC 5802, RFC 7677)."""

import base64
import functools
import hashlib
import hmac

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


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
