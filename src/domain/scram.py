"""How is a password kept so that nobody can read it back? As a SCRAM-SHA-256 verifier (RFC 5802, RFC 7677)."""

import base64
import functools
import hashlib
import hmac

ITERATIONS = 4096  # PostgreSQL's own default.


@functools.lru_cache(maxsize=16)  # a process that runs many hooks asks for the same few
def verifier(username: str, password: str) -> str:
    """What PostgreSQL stores for this password, e.g. `SCRAM-SHA-256$4096:<salt>$<stored>:<server>`.

    The salt comes from the name and the password, so that the same two always give the same
    text and can be compared; with a random password it is as good as a random salt. Only ASCII
    passwords are taken: others would have to be normalised (SASLprep) before they are hashed.
    """
    secret = password.encode("ascii")
    salt = hmac.digest(secret, b"salt of " + username.encode(), "sha256")[:16]
    salted = hashlib.pbkdf2_hmac("sha256", secret, salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${ITERATIONS}:{_text(salt)}${_text(stored)}:{_text(server)}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
