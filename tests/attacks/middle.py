"""Attacks by a server in the place of PgBouncer or of PostgreSQL, where certificates are verified."""

from __future__ import annotations

import contextlib
import datetime
import pathlib
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

import older_postgresql
import psycopg
from attack import NotHeld, attack, hold
from imposter import Imposter
from platform_under_test import Pooler
from postgresql import ADMIN, PASSWORD, PostgreSQL
from stage import Stage
from verified_platform import ManInTheMiddle

from adapters.local.authority import issue
from authority import Authority, Issued
from domain.tls import CertificateNames
from pooler.binaries import default_cache
from pooler.store import Store

# Verbs of the command that log in to PostgreSQL.
LOGINS = (("up",), ("relate", "shop"))
VERB_SECONDS = 60


class Verified(NamedTuple):
    """A platform that clients verify, and its PostgreSQL, which the platform verifies."""

    pooler: Pooler
    server: PostgreSQL
    # Of PostgreSQL.
    authority: Authority
    # An authority that neither side knows.
    other: Authority

    @property
    def told(self) -> dict[str, str]:
        """Return how a client is told to connect."""
        return self.pooler.credentials("demo")

    def refuses(self, said: str) -> None:
        """Raise NotHeld if a client, or a verb that logs in to PostgreSQL, finds nothing wrong."""
        told = self.told
        with contextlib.suppress(psycopg.Error):
            with psycopg.connect(told["uri"], connect_timeout=5) as client:
                client.execute("select 'a secret'")
            raise NotHeld(f"a client gets an answer {said}")
        for words in LOGINS:
            done = self.pooler.run(*words, timeout=VERB_SECONDS)
            hold(done.returncode, f"`pooler {' '.join(words)}` succeeds {said}")


@contextlib.contextmanager
def _verified(stage: Stage) -> Iterator[Verified]:
    with contextlib.ExitStack() as stack:
        directory = tempfile.TemporaryDirectory(prefix="middle-", dir="/tmp")
        place = pathlib.Path(stack.enter_context(directory))
        authority = Authority(place / "right", "right")
        other = Authority(place / "other", "other")
        tls = authority.issue("postgresql", "127.0.0.1")
        # The newest PostgreSQL that these tests use is built without TLS.
        programs = older_postgresql.older(default_cache(), stage.say)
        server = stack.enter_context(PostgreSQL(programs=programs, tls=tls))
        pooler = Pooler(PGBOUNCER=str(stage.program), PGPASSWORD=PASSWORD)
        stack.callback(pooler.close)
        root = authority.root
        uri = f"postgresql://{ADMIN}@{server.endpoint}?sslmode=verify-full&sslrootcert={root}"
        # The exit code is that of the status, which may name a vulnerability of PgBouncer.
        words = ("--tls", "--units", "1", f"listen_port={pooler.port}", "--backend", uri)
        done = pooler.run("up", *words, timeout=VERB_SECONDS)
        pooler.run("relate", "demo", timeout=VERB_SECONDS)
        found = Verified(pooler, server, authority, other)
        try:
            psycopg.connect(found.told["uri"], connect_timeout=5).close()
        except (psycopg.Error, AssertionError) as error:
            raise RuntimeError(
                f"no platform to attack: {error}: {done.stdout}{done.stderr}"
            ) from None
        yield found


def _own(platform: Verified, place: pathlib.Path, *addresses: str) -> Issued:
    """Return a certificate that the clients' authority has issued for these addresses."""
    state = Store(platform.pooler.home).load()
    assert state.authority
    names = CertificateNames(common="middle", hosts=(), addresses=addresses)
    pair = issue(state.authority, names, datetime.datetime.now(datetime.UTC))
    found = Issued(place / "middle.crt", place / "middle.key")
    found.certificate.write_text(pair.chain[0] + "\n")
    found.key.write_text(pair.key.get_secret_value() + "\n")
    return found


@attack("39", "a man in the middle between a client and PgBouncer", "critical")
def between_client_and_pool(stage: Stage) -> str:
    """A server answers in the place of a unit, with a wrong authority or a wrong name in its certificate.

    The client is libpq with what `pooler credentials` prints.
    """
    with _verified(stage) as platform, tempfile.TemporaryDirectory() as name:
        told = platform.told
        host, _, _ = told["endpoints"].partition(":")
        own = _own(platform, pathlib.Path(name), "127.0.0.9", host)
        with ManInTheMiddle(own) as middle:
            # The middle records what a client sends that does not refuse it, or the attack shows nothing.
            _call(told["uri"], middle)
            hold(
                middle.received,
                "a client sends nothing to a server with its authority and its name",
            )
        said: list[str] = []
        for what, issued in (
            ("another authority", platform.other.issue("middle", host)),
            ("a wrong name", _own(platform, pathlib.Path(name), "127.0.0.9")),
        ):
            with ManInTheMiddle(issued) as middle:
                said.append(f"{what}: {_call(told['uri'], middle)}")
                hold(middle.handshakes, f"no client has met the server with {what}")
                hold(not middle.received, f"a client sends data to a server with {what}")
        return "; ".join(said)


def _call(uri: str, middle: ManInTheMiddle) -> str:
    """Log in, as a client whose connections to the unit end at the middle. Return why that fails."""
    address, _, port = middle.endpoint.partition(":")
    try:
        psycopg.connect(uri, hostaddr=address, port=port, connect_timeout=5).close()
    except psycopg.Error as error:
        return str(error).rpartition("failed: ")[2].strip()
    return "it logs in"


@attack("39b", "a man in the middle between PgBouncer and PostgreSQL", "critical")
def between_pool_and_server(stage: Stage) -> str:
    """A server takes PostgreSQL's port, with a wrong authority or a wrong name in its certificate.

    PgBouncer, and the logins of the charm's code, must send no login, no password and no query.
    """
    with _verified(stage) as platform:
        port = platform.server.port
        platform.server.stop()
        met: list[str] = []
        for what, issued in (
            ("another authority", platform.other.issue("middle", "127.0.0.1")),
            ("a wrong name", platform.authority.issue("middle", "127.0.0.9", "db.example")),
        ):
            with ManInTheMiddle(issued, port=port) as middle:
                platform.refuses(f"from a server with {what}")
                hold(middle.handshakes > 1, f"nothing has met the server with {what}")
                hold(not middle.received, f"a server with {what} gets {middle.received[:40]!r}")
                met.append(f"{what}: refused {middle.handshakes} times")
        return "; ".join(met)


@attack("32b", "a server asks PgBouncer for a password in plain text", "critical")
def plain_password_of_pgbouncer(stage: Stage) -> str:
    """A server without TLS takes the port of a PostgreSQL that is verified, and asks for passwords.

    Where PostgreSQL is not verified, PgBouncer tells such a server the password of the auth user.
    """
    with _verified(stage) as platform:
        port = platform.server.port
        platform.server.stop()
        with Imposter("password", port) as imposter:
            platform.refuses("from a server without TLS")
            hold(not imposter.passwords, "PgBouncer or the command tells a password")
            hold(not imposter.asked.is_set(), "a login goes on without TLS")
            hold(imposter.logins, "nothing has met the server")
            return f"{imposter.logins} logins ended when the server refused TLS"
