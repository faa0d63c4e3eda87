"""Units that serve TLS with certificates of the authority of this machine."""

from __future__ import annotations

import datetime
import json
import pathlib
import stat
import subprocess
import threading
import time

import psycopg
import pytest
from crash_cli import until
from platform_under_test import COMMAND, Pooler

from adapters.local.authority import end_of, issue
from adapters.local.run_as import pooler_owner
from pooler.store import Store

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def pooler(program):
    pooler = Pooler(PGBOUNCER=str(program))
    pooler.up("--tls", "pool_mode=transaction")
    yield pooler
    pooler.close()


@pytest.fixture
def fresh():
    pooler = Pooler()
    yield pooler
    pooler.close()


def served(pooler: Pooler) -> list[str]:
    """Return the certificate of each unit in the state."""
    units = Store(pooler.home).load().model.units.values()
    return [unit.certificates.kept.chain[0] if unit.certificates.kept else "" for unit in units]


class Logins(threading.Thread):
    """Logs in to every unit again and again by verify-full, and uses a session of each unit."""

    def __init__(self, pooler: Pooler) -> None:
        super().__init__(daemon=True)
        self._uris = pooler.credentials("demo")["uris"]
        self._end = threading.Event()
        self.count, self.failures = 0, []

    def run(self) -> None:
        sessions = [psycopg.connect(uri, autocommit=True) for uri in self._uris]
        while not self._end.is_set():
            for uri, session in zip(self._uris, sessions, strict=True):
                try:
                    with psycopg.connect(uri, connect_timeout=10) as connection:
                        connection.execute("select 1")
                    session.execute("select 1")
                except psycopg.Error as error:
                    self.failures.append(str(error))
                self.count += 1
            time.sleep(0.02)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self.join()


def test_credentials_verify_every_unit_and_another_authority_does_not(pooler, tmp_path):
    told = pooler.credentials("demo")
    assert told["sslmode"] == "verify-full"
    assert len(told["uris"]) == 2
    for uri in [*told["uris"], told["libpq-uri"]]:
        with psycopg.connect(uri) as connection:
            assert connection.pgconn.ssl_in_use
    other = tmp_path / "other.pem"
    own = issue_by_another()
    other.write_text(own)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(told["uri"], sslrootcert=str(other))
    shown = pooler("exec", "demo", "--", "sh", "-c", "echo $PGSSLMODE $PGSSLROOTCERT")
    assert shown.split() == ["verify-full", str(pooler.home / "client-ca.pem")]


def issue_by_another() -> str:
    from adapters.local.authority import new_authority

    return new_authority(datetime.datetime.now(datetime.UTC)).certificate


def test_only_pgbouncer_can_read_the_key_of_a_unit(pooler):
    state = (pooler.home / "state.json").stat()
    assert stat.S_IMODE(state.st_mode) == 0o600
    keys = [path for path in pooler.home.rglob("*.pem") if "PRIVATE" in path.read_text()]
    assert len(keys) == 2
    owner = pooler_owner()
    for key in keys:
        status = key.stat()
        assert stat.S_IMODE(status.st_mode) == (0o640 if owner else 0o600)
        assert status.st_gid == (owner.group if owner else status.st_gid)
    authority = Store(pooler.home).load().authority.key.get_secret_value()
    assert all(authority not in key.read_text() for key in keys)
    assert stat.S_IMODE((pooler.home / "client-ca.pem").stat().st_mode) == 0o644


def test_no_login_fails_while_keys_certificates_and_authorities_change(pooler):
    with Logins(pooler) as logins:
        before = served(pooler)
        pooler("authority", "renew")
        renewed = served(pooler)
        assert not set(before) & set(renewed)
        pooler("authority", "rotate")
        rotated = served(pooler)
        assert not set(renewed) & set(rotated)
        pooler.run("authority", "stop")
        for action in ("rotate", "renew"):
            # The status says that the authority does not answer.
            assert "to issue another certificate" in pooler.run("authority", action).stdout
        assert served(pooler) == rotated
        pooler("authority", "start")
        assert not set(rotated) & set(served(pooler))
    assert logins.count > 10
    assert logins.failures == []
    # The authority before is not told any more when no unit has its certificate.
    assert (pooler.home / "client-ca.pem").read_text().count("BEGIN CERTIFICATE") == 1
    assert "ends on" in pooler("authority")


def test_a_new_unit_serves_clients_only_with_its_certificate(pooler):
    pooler.run("authority", "stop")
    pooler.run("scale", "3")
    assert len(pooler.credentials("demo")["uris"]) == 2
    pooler("authority", "start")
    told = pooler.credentials("demo")
    assert len(told["uris"]) == 3
    for uri in told["uris"]:
        psycopg.connect(uri).close()
    pooler("scale", "2")


def test_the_last_days_of_a_certificate_are_not_reached(fresh):
    fresh.up("--tls", "--units", "1")
    for command in (("restart",), ("up",)):
        old = _age(fresh)
        fresh(*command)
        (new,) = served(fresh)
        assert new != old
        psycopg.connect(fresh.credentials("demo")["uri"]).close()


def _age(pooler: Pooler) -> str:
    """Give the unit a certificate that ends in ten days, and return it."""
    store = Store(pooler.home)
    state = store.load()
    (unit,) = state.model.units.values()
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=80)
    pair = issue(state.authority, unit.certificates.requested, then)
    assert (end_of(pair.chain[0]) - datetime.datetime.now(datetime.UTC)).days in (9, 10)
    unit.certificates = unit.certificates.model_copy(update={"kept": pair})
    store.save(state)
    return pair.chain[0]


def test_the_process_that_watches_renews_certificates(fresh):
    fresh.up("--tls", "--units", "1")
    old = _age(fresh)
    with subprocess.Popen([*COMMAND, "watch"], env=fresh.environment) as watch:
        until(lambda: served(fresh) != [old])
        watch.terminate()
    psycopg.connect(fresh.credentials("demo")["uri"]).close()


def test_clients_can_be_required_to_use_tls_from_the_first_up_on(fresh):
    done = fresh.run("up", "client_tls_sslmode=require")
    assert (done.returncode, "add --tls" in done.stderr) == (2, True)
    assert not (fresh.home / "state.json").exists()
    fresh.up("--tls", "client_tls_sslmode=require")
    told = fresh.credentials("demo")
    psycopg.connect(told["uri"]).close()
    with pytest.raises(psycopg.OperationalError, match="SSL required"):
        psycopg.connect(told["uri"], sslmode="disable")
    done = fresh.run("up", "--no-tls")
    assert (done.returncode, "client_tls_sslmode" in done.stderr) == (2, True)
    fresh("up", "--no-tls", "client_tls_sslmode=prefer")
    told = fresh.credentials("demo")
    assert "sslmode" not in told
    psycopg.connect(told["uri"], sslmode="disable").close()
    assert not [p for p in fresh.home.glob("units/*/tls/*") if "PRIVATE" in p.read_text()]


def test_the_certificates_hold_the_address_of_listen(fresh):
    fresh.up("--tls", "--units", "2", "--listen", "127.0.0.1")
    told = fresh.credentials("demo")
    assert told["endpoints"] == f"127.0.0.1:{fresh.port}"
    for _ in range(8):
        psycopg.connect(told["uri"]).close()
    psycopg.connect(told["uri"], host="localhost", hostaddr="127.0.0.1").close()


def test_without_an_authority_the_verb_names_the_command_that_makes_it(fresh):
    fresh.up("--units", "1")
    for action in ("show", "renew", "rotate", "stop", "start"):
        done = fresh.run("authority", action)
        assert (done.returncode, "run `pooler up --tls`" in done.stderr) == (1, True)
    assert json.loads((fresh.home / "state.json").read_text())["authority"] is None
    assert not pathlib.Path(fresh.home / "client-ca.pem").exists()
