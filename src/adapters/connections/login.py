"""Log in to PostgreSQL with a deadline, and without sending the password to the server."""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from adapters.connections.memory_files import path_of
from domain.tls import bundle
from domain.verification import VERIFYING

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from domain.backend import BackendLogin

    C = TypeVar("C", bound=psycopg.Connection[Any])

# With SCRAM alone a server proves that it knows the password, and a server that does not know the
# password does not learn it. libpq refuses a server that asks for the password in plain text or as an
# MD5 hash, or that asks for no password.
# (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-REQUIRE-AUTH)
_PROOF = "scram-sha-256"

# A part of libpq's message about a server that asks for another method, and the end of a sentence about it.
_WEAK_METHODS = (
    (
        "server requested a cleartext password",
        "asks for the password in plain text: check that the address leads to PostgreSQL, and that"
        " pg_hba.conf there asks this user for scram-sha-256",
    ),
    (
        "server requested a hashed password",
        "asks for an MD5 hash of the password: set password_encryption to scram-sha-256 there, set"
        " the user's password again, and let pg_hba.conf ask this user for scram-sha-256",
    ),
    (
        "server did not complete authentication",
        "asks for no password, and so does not prove that it knows it: check that the address leads"
        " to PostgreSQL, and that pg_hba.conf there asks this user for scram-sha-256, not for trust",
    ),
)


# Threads of logins that had not ended at their deadline.
_abandoned: list[threading.Thread] = []


def log_in(connect: Callable[..., C], seconds: float, **parameters: object) -> C:
    """Return the connection of a login that ends within `seconds`.

    The server chooses the number of SCRAM iterations, and libpq accepts any number. libpq hashes in C
    code that checks no timeout of libpq, psycopg or Python: 20 million iterations take 37 s. So the
    login runs in a thread of its own, and at the deadline the thread is abandoned. psycopg releases
    the interpreter's lock meanwhile, and a daemon thread does not keep the process from ending. The
    number of iterations itself is not limited: that would take a relay that reads the server's message
    before libpq does, which is not possible in an encrypted connection.

    Raises psycopg.Error; psycopg.errors.ConnectionTimeout at the deadline.
    """
    import psycopg

    answers: queue.SimpleQueue[C | BaseException] = queue.SimpleQueue()
    abandoned = threading.Event()

    def run() -> None:
        try:
            answers.put(connect(require_auth=_PROOF, **parameters))
        except BaseException as error:
            answers.put(error)
        if abandoned.is_set():
            _discard(answers)

    thread = threading.Thread(target=run, daemon=True, name="login")
    thread.start()
    try:
        answer = answers.get(timeout=max(0.0, seconds))
    except BaseException as error:
        # This thread or the login's thread closes a connection that comes too late.
        abandoned.set()
        _abandoned.append(thread)
        _discard(answers)
        if isinstance(error, queue.Empty):
            text = f"the login did not end within {seconds:.1f} s"
            raise psycopg.errors.ConnectionTimeout(text) from None
        raise
    if isinstance(answer, BaseException):
        raise answer
    return answer


def tls_parameters(backend: BackendLogin) -> dict[str, str]:
    """Return the parameters by which a login encrypts its connection, and verifies the server."""
    mode = backend.mode or "prefer"
    verified = mode in VERIFYING
    return {
        "sslmode": mode,
        "sslrootcert": (backend.authority_file or path_of(bundle(backend.authorities)))
        if verified
        else "",
        # libpq would send the certificate of a client that it finds in the home of the user.
        "sslcertmode": "disable",
        # An encryption by Kerberos would take the place of a verified certificate.
        "gssencmode": "disable" if verified else "prefer",
    }


def end_process(code: int) -> None:
    """End the process with this code if the thread of an abandoned login still runs; else return.

    At the ordinary end of a process OpenSSL frees memory that the login's thread uses. The process then
    ends by a segmentation fault, and Juju counts the hook as failed.
    """
    if any(thread.is_alive() for thread in _abandoned):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def weak_method(error: Exception) -> str:
    """Return what a server asks for in place of SCRAM, as the end of a sentence; '' for another error."""
    text = str(error)
    return next((sentence for words, sentence in _WEAK_METHODS if words in text), "")


def _discard(answers: queue.SimpleQueue[C | BaseException]) -> None:
    try:
        late = answers.get_nowait()
    except queue.Empty:
        return
    if not isinstance(late, BaseException):
        late.close()
