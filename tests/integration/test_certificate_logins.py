"""A-8: a client logs in by its certificate, with real PgBouncer and PostgreSQL, on the units of `pooler`."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator

import psycopg
import pytest
from platform_under_test import Pooler, value
from test_client_tls import LOGINS, UNITS, Certified

from adapters.client_certificate import read_certificate
from authority import Issued, self_signed, signed_by
from domain.capabilities import Version
from pooler.binaries import version_of
from pooler.store import Store

pytestmark = pytest.mark.long


class Logins(Certified):
    """Two units that serve TLS, and two clients: `demo` and `other`."""

    def begin(self) -> None:
        self.pooler("relate", "other")
        self.root = self.authority("root")
        self.give(self.root, self.root)

    def record(self, application: str):
        clients = Store(self.pooler.home).load().model.clients.values()
        return next(known for known in clients if known.application == application)

    def gives(self, application: str, issued: Issued | None, *, waits: bool = True) -> None:
        """Let a client give a certificate, or none, and run hooks until it can log in by it."""
        store = Store(self.pooler.home)
        state = store.load()
        for known in state.model.clients.values():
            if known.application == application:
                known.certificate = issued and read_certificate(issued.certificate.read_text())
        store.save(state)
        for _ in range(3):
            self.pooler.run("up")  # It fails if a certificate is refused.
        if waits:
            self.time_passes()
            for _ in range(3):
                self.pooler.run("up")  # It fails if a certificate is refused.

    def time_passes(self) -> None:
        """Let the units believe that they have trusted every certificate for an hour."""
        for path in self.pooler.home.glob("units/*/applied.json"):
            record = json.loads(path.read_text())
            for login in record["trusted"]:
                login["since"] -= 3600
            path.write_text(json.dumps(record))

    def logs_in(
        self, issued: Issued | None, *, user: str = "demo", unit: int = 0, **how: object
    ) -> str:
        """Why a login is refused; '' if every process admits it and its queries run."""
        told = self.pooler.credentials(user)
        login = {"user": told["username"], "dbname": told["database"], "sslmode": "require"}
        login |= {"sslcert": str(issued.certificate), "sslkey": str(issued.key)} if issued else {}
        bundle = self.directory / "tls-ca.pem"
        bundle.write_text(self.told()[1])
        try:
            for _ in range(LOGINS):
                with psycopg.connect(
                    host=UNITS[unit], port=self.pooler.port, connect_timeout=5, **(login | how)
                ) as client:
                    assert value(client, "select 42") == 42
        except psycopg.OperationalError as error:
            return str(error)
        return ""

    def password(self, user: str = "demo") -> str:
        return self.pooler.credentials(user)["password"]


@pytest.fixture
def units(program: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[Logins]:
    if version_of(program) < Version(1, 24):
        pytest.fail("the login by certificate needs PgBouncer 1.24")
    pooler = Pooler(PGBOUNCER=str(program))
    try:
        pooler.up()
        logins = Logins(pooler, tmp_path)
        logins.begin()
        yield logins
    finally:
        pooler.close()


def test_a8_a_client_logs_in_by_its_certificate_without_a_password(units, tmp_path):
    alice = self_signed(tmp_path, "alice", "alice")
    assert "password" in units.logs_in(alice) or "alert" in units.logs_in(alice)
    units.gives("demo", alice, waits=False)
    # A connection that sent another certificate may still log in.
    assert units.logs_in(alice)
    assert not units.logs_in(None, password=units.password())
    units.time_passes()
    for _ in range(3):
        units.pooler("up")
    for unit in range(len(UNITS)):
        assert not units.logs_in(alice, unit=unit)
        assert not units.logs_in(
            alice, unit=unit, sslmode="verify-full", sslrootcert=str(units.root.root)
        )
        # Another user needs its password, also with this certificate.
        assert units.logs_in(alice, user="other", unit=unit)
        assert not units.logs_in(None, user="other", unit=unit, password=units.password("other"))
        # Without TLS, and without the certificate, there is no login without a password.
        assert units.logs_in(None, unit=unit, sslmode="disable")
        assert units.logs_in(None, unit=unit)
    units.gives("demo", None)
    assert units.logs_in(alice)
    assert not units.logs_in(None, password=units.password())


def test_a8_a_certificate_with_the_same_name_of_another_key_is_refused(units, tmp_path):
    alice = self_signed(tmp_path, "alice", "alice")
    bob = self_signed(tmp_path, "bob", "bob", "subjectAltName=DNS:bob.example.com")
    units.gives("demo", alice, waits=False)
    units.gives("other", bob)
    assert not units.logs_in(alice)
    assert not units.logs_in(bob, user="other")
    forged = {
        "by the served authority": units.root.issue("alice"),
        "by itself": self_signed(tmp_path, "forged", "alice"),
        "by the certificate of another client": signed_by(bob, tmp_path, "by-bob", "alice"),
        "by the certificate of the client": signed_by(alice, tmp_path, "by-alice", "alice"),
    }
    for unit in range(len(UNITS)):
        for how, issued in forged.items():
            assert units.logs_in(issued, unit=unit), how
        assert units.logs_in(bob, unit=unit)
        assert units.logs_in(alice, user="other", unit=unit)


def test_a8_two_clients_cannot_have_certificates_with_a_name_in_common(units, tmp_path):
    alice = self_signed(tmp_path, "alice", "alice")
    mallory = self_signed(tmp_path, "mallory", "mallory", "subjectAltName=DNS:ALICE")
    units.gives("other", alice)
    assert not units.logs_in(alice, user="other")
    units.gives("demo", mallory)
    assert (
        "because another client has a certificate with the same name"
        in units.pooler.run("status").stdout
    )
    assert units.logs_in(mallory)
    assert units.logs_in(mallory, user="other")
    assert not units.logs_in(alice, user="other")


def test_a8_the_certificate_of_an_application_that_has_left_is_refused(units, tmp_path):
    alice = self_signed(tmp_path, "alice", "alice")
    told = units.pooler.credentials("other")
    units.gives("other", alice)
    assert not units.logs_in(alice, user="other")
    units.pooler("unrelate", "other")
    units.pooler("up")
    login = {"host": UNITS[0], "port": units.pooler.port, "sslmode": "require"}
    login |= {"sslcert": str(alice.certificate), "sslkey": str(alice.key)}
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(user=told["username"], dbname=told["database"], connect_timeout=5, **login)
    assert not list(units.pooler.home.glob("units/*/tls/client-logins*"))
    assert all(
        told["password"] not in path.read_text()
        for path in units.pooler.home.glob("units/*/userlist.txt")
    )
