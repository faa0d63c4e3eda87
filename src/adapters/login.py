"""A login that ends at its deadline, whatever the server sends, and that tells the server no password."""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    C = TypeVar("C", bound=psycopg.Connection[Any])

# SCRAM is the only method by which a server proves that it knows the password, and which does not
# tell the password to a server that only pretends to. libpq refuses a server that asks for it in
# plain text or as an MD5 hash, or that asks for nothing.
# (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-REQUIRE-AUTH)
_PROOF = "scram-sha-256"

# What libpq says of a server that asks for another method, and the rest of our sentence.
_UNPROVED = (
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


# Logins that were not waited for to their end.
_left_behind: list[threading.Thread] = []


def log_in(connect: Callable[..., C], seconds: float, **parameters: object) -> C:
    """The connection. Raises psycopg.Error; psycopg.errors.ConnectionTimeout after so many seconds.

    A server chooses how many times the client hashes its password. libpq obeys without a limit, in
    C, where no timeout of libpq, psycopg or Python is looked at: 20 million times are 37 s of a
    processor. So the login runs in a thread that is left behind at the deadline. psycopg releases
    the interpreter's lock meanwhile, and a daemon thread does not keep the process from ending.
    The number itself is not limited: a relay that reads it before libpq does could not do so in
    an encrypted connection.
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
        # Either this thread or the other sees a connection that comes too late.
        abandoned.set()
        _left_behind.append(thread)
        _discard(answers)
        if isinstance(error, queue.Empty):
            text = f"the login did not end within {seconds:.1f} s"
            raise psycopg.errors.ConnectionTimeout(text) from None
        raise
    if isinstance(answer, BaseException):
        raise answer
    return answer


def leave(code: int) -> None:
    """End the process with this code at once if a login that was left behind still hashes; else return.

    At the ordinary end of a process OpenSSL frees what the login's thread uses, and the process then
    ends by a segmentation fault: Juju would take its hook for failed.
    """
    if any(thread.is_alive() for thread in _left_behind):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def unproved(error: Exception) -> str:
    """What a server asks for in place of SCRAM, as the end of a sentence; '' for another error."""
    said = str(error)
    return next((sentence for words, sentence in _UNPROVED if words in said), "")


def _discard(answers: queue.SimpleQueue[C | BaseException]) -> None:
    try:
        late = answers.get_nowait()
    except queue.Empty:
        return
    if not isinstance(late, BaseException):
        late.close()
