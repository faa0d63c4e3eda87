"""TLS for clients with real PgBouncer and PostgreSQL, on the units of `pooler`.

The names of the tests have the numbers of the checks, A-1 to A-6.
"""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import time
from collections.abc import Iterator

import psycopg
import pydantic
import pytest
from platform_under_test import Pooler, value

from authority import Authority
from domain.capabilities import Version
from domain.tls import ServedPair, UnitCertificates, certificates_in
from pooler.binaries import version_of
from pooler.store import Store

UNITS = ("127.0.0.2", "127.0.0.3")
# More logins than processes, so that each process of a unit is met.
LOGINS = 12


class Certified:
    """Two units, and the pairs that they keep."""

    def __init__(self, pooler: Pooler, directory: pathlib.Path) -> None:
        self.pooler, self.directory = pooler, directory
        self._turn = 0

    def authority(self, name: str, *, intermediate: bool = False) -> Authority:
        return Authority(self.directory / name, name, intermediate=intermediate)

    def give(self, *authorities: Authority, **how: object) -> None:
        """Give each unit a pair of its authority, and run the hooks of all units."""
        self.keep(*authorities, **how)
        self.pooler("up")

    def keep(self, *authorities: Authority | None, key: pathlib.Path | None = None) -> None:
        """Let each unit keep a pair of its authority, with another key if it is given."""
        self._turn += 1
        store = Store(self.pooler.home)
        state = store.load()
        units = zip(state.model.units.items(), authorities, strict=False)
        for (name, record), authority in units:
            if authority is None:
                continue
            issued = authority.issue(f"{name.replace('/', '-')}-{self._turn}", *UNITS)
            root = authority.root.read_text()
            pair = ServedPair(
                key=pydantic.SecretStr((key or issued.key).read_text()),
                chain=certificates_in(issued.certificate.read_text()),
                authorities=certificates_in(authority.chain + root),
            )
            record.certificates = UnitCertificates(related=True, kept=pair)
        store.save(state)

    def told(self) -> tuple[bool, str]:
        """What the application `demo` reads of TLS."""
        offer = next(iter(Store(self.pooler.home).load().model.clients.values())).told
        return (offer.tls, offer.tls_ca) if offer else (False, "")

    def verified(self, unit: int, **how: object):
        """A login that verifies the unit by the authorities that the application reads."""
        bundle = self.directory / "tls-ca.pem"
        bundle.write_text(self.told()[1])
        login = {"sslmode": "verify-full", "sslrootcert": str(bundle)}
        return self.pooler.client("demo", unit, **(login | how))

    def all_verify(self) -> bool:
        """Whether clients verify every process of every unit by what they are told."""
        for unit in range(len(UNITS)):
            for _ in range(LOGINS):
                with self.verified(unit) as client:
                    assert value(client, "select 42") == 42
        return True

    def serials(self, unit: int) -> set[bytes]:
        """The certificates that clients get from a unit."""
        import ssl

        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        found = set()
        for _ in range(LOGINS):
            with socket.create_connection((UNITS[unit], self.pooler.port), timeout=5) as plain:
                plain.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
                assert plain.recv(1) == b"S"
                with context.wrap_socket(plain) as encrypted:
                    found.add(encrypted.getpeercert(binary_form=True))
        return found


@pytest.fixture
def units(program: pathlib.Path, tmp_path: pathlib.Path) -> Iterator[Certified]:
    pooler = Pooler(PGBOUNCER=str(program))
    try:
        pooler.up()
        yield Certified(pooler, tmp_path)
    finally:
        pooler.close()


def refused(units: Certified, unit: int = 0, **how: object) -> str:
    """Why a login is refused; '' if it is not."""
    try:
        with units.pooler.client("demo", unit, **how):
            return ""
    except psycopg.OperationalError as error:
        return str(error)


@pytest.mark.parametrize("intermediate", [False, True])
def test_a1_clients_verify_every_unit_by_the_authorities_they_are_told(units, intermediate):
    units.give(*[units.authority("root", intermediate=intermediate)] * 2)
    assert units.told()[0]
    assert units.all_verify()


@pytest.mark.long
def test_a2_a_renewal_and_a_new_authority_cut_no_session(units):
    first, second = units.authority("first"), units.authority("second")
    units.give(first, first)
    with units.verified(0) as session:
        before = units.serials(0)
        units.give(first, first)
        assert not before & units.serials(0)
        units.give(second, None)
        assert units.all_verify()
        units.give(None, second)
        assert units.all_verify()
        assert units.told()[1].count("BEGIN") == 1
        assert value(session, "select 42") == 42


@pytest.mark.long
def test_a3_a_unit_starts_again_with_the_pair_that_it_keeps(units):
    root = units.authority("root")
    units.give(root, root)
    for pid in units.pooler.pids():
        os.kill(pid, signal.SIGKILL)
    units.pooler("up")
    assert units.all_verify()


@pytest.mark.long
def test_a3_a_key_that_does_not_fit_is_never_served(units):
    root, other = units.authority("root"), units.authority("other")
    units.give(root, root)
    before = units.serials(0)
    units.keep(root, key=other.issue("other").key)
    done = units.pooler.run("up")
    assert "cannot be served" in done.stdout + done.stderr
    assert units.serials(0) == before
    assert units.all_verify()


def test_a4_required_tls_admits_no_plain_login_before_a_certificate(units):
    done = units.pooler.run("config", "client_tls_sslmode=require")
    assert "no client can log in over the network" in done.stdout
    for unit in range(len(UNITS)):
        assert all("no authentication method" in refused(units, unit) for _ in range(LOGINS))
    root = units.authority("root")
    units.give(root, root)
    assert units.all_verify()
    assert "SSL required" in refused(units, sslmode="disable")
    # Both use the consoles, by their Unix sockets.
    units.pooler("pause")
    units.pooler("resume")


@pytest.mark.long
def test_a4_plain_sessions_from_before_end_within_a_minute(units, program):
    root = units.authority("root")
    units.give(root, root)
    with (
        units.pooler.client("demo", sslmode="disable") as idle,
        units.pooler.client("demo", sslmode="disable") as busy,
        units.verified(0) as encrypted,
        units.verified(0) as encrypted_and_busy,
    ):
        idle.execute("select 1")
        busy.autocommit = encrypted_and_busy.autocommit = False
        busy.execute("select 1")
        encrypted_and_busy.execute("select 1")
        begun = time.monotonic()
        units.pooler("config", "client_tls_sslmode=require")
        while time.monotonic() < begun + 60 and (_works(idle) or _works(busy)):
            units.pooler("up")
        ended = not _works(idle) and not _works(busy)
        # Earlier releases cannot end the session of a client.
        assert ended is (version_of(program) >= Version(1, 24))
        assert _works(encrypted)
        assert _works(encrypted_and_busy)


def _works(client: psycopg.Connection) -> bool:
    try:
        return client.execute("select 42").fetchone() == (42,)
    except psycopg.OperationalError:
        return False


@pytest.mark.long
def test_a4_a_query_is_cancelled_through_any_unit_while_tls_is_required(units):
    root = units.authority("root")
    units.give(root, root)
    units.pooler("config", "client_tls_sslmode=require")
    with units.verified(0) as client:
        for _ in range(LOGINS):
            client.pgconn.send_query(b"select pg_sleep(10)")
            time.sleep(0.1)
            client.cancel()
            result = client.pgconn.get_result()
            assert result is not None
            assert b"canceling statement" in (result.error_message or b"")
            client.pgconn.get_result()


@pytest.mark.long
@pytest.mark.parametrize("mode", ["prefer", "require"])
def test_a5_a_client_with_a_stray_certificate_is_told_why_it_is_refused(units, mode):
    """PgBouncer verifies each certificate that a client sends, although no rule asks for a certificate."""
    root, stray = units.authority("root"), units.authority("stray")
    units.give(root, root)
    units.pooler("config", f"client_tls_sslmode={mode}")
    foreign, own = stray.issue("postgres"), root.issue("postgres")
    for issued in (foreign, own):
        issued.key.chmod(0o600)
    sent = {"sslcert": str(foreign.certificate), "sslkey": str(foreign.key)}
    assert "unknown ca" in refused(units, sslmode="require", **sent)
    sent = {"sslcert": str(own.certificate), "sslkey": str(own.key)}
    assert not refused(units, sslmode="require", **sent)


@pytest.mark.long
def test_a6_tls_is_told_once_all_units_serve_it_and_untold_before_any_stops(units):
    root = units.authority("root")
    units.give(root, None)
    assert units.told() == (False, "")
    units.give(None, root)
    assert units.all_verify()
    units.pooler("config", "client_tls_sslmode=disable")
    assert units.told() == (False, "")
    units.pooler("up")
    assert not refused(units, sslmode="disable")
    assert "server does not support SSL" in refused(units, sslmode="require")
