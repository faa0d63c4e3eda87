"""The certificate authority of this machine, and what the units ask it."""

import datetime
import ipaddress
import json

import pytest
from cryptography import x509

from adapters.local.authority import (
    CERTIFICATE_LIFE,
    RENEWAL,
    answered,
    end_of,
    issue,
    new_authority,
    successor,
)
from adapters.x509 import read_issued
from domain.tls import CertificateNames, UnitCertificates
from pooler.certification import Certification
from pooler.store import State, Store

NOW = datetime.datetime(2026, 11, 27, 8, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
NAMES = CertificateNames(
    common="127.0.0.2", hosts=("localhost",), addresses=("127.0.0.2", "2001:db8::1")
)
HOSTS = ("127.0.0.2", "localhost")


@pytest.fixture(scope="module")
def authority():
    return new_authority(NOW)


def asked(**fields):
    return UnitCertificates(requested=NAMES, unanswered=True, **fields)


def test_a_certificate_has_the_names_and_is_verified_by_the_authority_alone(authority):
    pair = issue(authority, NAMES, NOW)
    found = read_issued(pair.chain[0], [authority.certificate], pair.key)
    assert (found.fits_key, found.signed, found.rooted, found.for_servers) == (True,) * 4
    assert not found.is_authority
    assert (found.names.hosts, found.names.addresses) == (NAMES.hosts, NAMES.addresses)
    assert (found.pair.chain, found.pair.authorities) == (pair.chain, (authority.certificate,))
    assert found.ends == NOW + CERTIFICATE_LIFE
    assert found.begins < NOW
    assert not read_issued(pair.chain[0], [new_authority(NOW).certificate], pair.key).signed


def test_the_authority_may_sign_certificates_and_no_other_authority(authority):
    root = x509.load_pem_x509_certificate(authority.certificate.encode())
    basic = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, 0)
    assert root.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    assert root.subject == root.issuer


def test_no_two_keys_are_equal(authority):
    keys = {issue(authority, NAMES, NOW).key.get_secret_value() for _ in range(3)}
    assert len(keys) == 3
    assert "PRIVATE" not in repr(authority) + repr(issue(authority, NAMES, NOW))


def test_a_request_is_answered_once(authority):
    first = answered(asked(), authority, HOSTS, NOW)
    assert first.related
    assert first.hosts == HOSTS
    assert first.issued
    assert answered(first, authority, HOSTS, NOW) == first
    assert answered(UnitCertificates(), authority, HOSTS, NOW).issued is None


def test_a_silent_authority_answers_when_it_speaks_again(authority):
    silent = authority.model_copy(update={"silent": True})
    waiting = answered(asked(), silent, HOSTS, NOW)
    assert (waiting.issued, waiting.unanswered) == (None, True)
    assert answered(waiting, authority, HOSTS, NOW).issued


def test_a_certificate_is_due_before_it_ends_and_is_kept_meanwhile(authority):
    pair = issue(authority, NAMES, NOW)
    unit = UnitCertificates(requested=NAMES, kept=pair)
    end = NOW + CERTIFICATE_LIFE
    for now, due, expired in (
        (NOW, False, False),
        (end - RENEWAL - DAY, False, False),
        (end - RENEWAL + DAY, True, False),
        (end + DAY, True, True),
    ):
        found = answered(unit, authority, HOSTS, now)
        assert (found.due, found.expired, found.kept, found.ends) == (due, expired, pair, end)


def test_another_authority_makes_every_certificate_due(authority):
    other = new_authority(NOW)
    kept = UnitCertificates(requested=NAMES, kept=issue(authority, NAMES, NOW))
    assert answered(kept, other, HOSTS, NOW).due
    # What the authority before had issued, and the unit does not serve yet, is issued again.
    before = answered(asked(), authority, HOSTS, NOW)
    after = answered(before, other, HOSTS, NOW)
    assert after.issued.authorities == (other.certificate,)


def test_without_an_authority_a_unit_keeps_what_it_serves(authority):
    pair = issue(authority, NAMES, NOW)
    found = answered(asked(kept=pair, issued=pair, due=True), None, HOSTS, NOW)
    assert found == UnitCertificates(kept=pair)


def test_an_authority_is_replaced_before_it_ends(authority):
    end = end_of(authority.certificate)
    assert successor(authority, end - CERTIFICATE_LIFE - DAY) == authority
    silent = authority.model_copy(update={"silent": True})
    after = successor(silent, end - CERTIFICATE_LIFE + DAY)
    assert after.certificate != authority.certificate
    assert after.silent
    assert end_of(issue(authority, NAMES, end - DAY).chain[0]) == end


# ---- the state ------------------------------------------------------------------------------
def state_with(listen="", **fields):
    state = State(listen=listen, authority=new_authority(datetime.datetime.now(datetime.UTC)))
    state.model.add_unit("127.0.0.2")
    state.model.service_host = fields.get("service_host", "")
    return state


def test_a_state_with_an_authority_is_read_as_it_was_saved(tmp_path):
    state, store = state_with(), Store(tmp_path)
    Certification(store, state).ask("pgbouncer/0")
    unit = state.model.units["pgbouncer/0"]
    unit.certificates = unit.certificates.requesting(NAMES)
    Certification(store, state).ask("pgbouncer/0")
    unit.certificates = unit.certificates.keeping(unit.certificates.issued)
    Certification(store, state).ask("pgbouncer/0")
    assert unit.certificates.ends
    store.save(state)
    assert json.loads((tmp_path / "state.json").read_text())["authority"]["silent"] is False
    assert store.load().model_dump() == state.model_dump()


@pytest.mark.parametrize(
    ("listen", "reached", "names"),
    [
        ("", "", {"127.0.0.2", "localhost"}),
        ("127.0.0.1", "127.0.0.1", {"127.0.0.2", "127.0.0.1", "localhost"}),
        ("0.0.0.0", "192.0.2.7", {"127.0.0.2", "127.0.0.1", "192.0.2.7", "localhost", "box"}),
        ("192.0.2.7", "192.0.2.7", {"127.0.0.2", "192.0.2.7", "localhost", "box"}),
    ],
)
def test_a_certificate_names_each_address_at_which_clients_reach_the_unit(
    tmp_path, monkeypatch, listen, reached, names
):
    monkeypatch.setattr("socket.gethostname", lambda: "box")
    state = state_with(listen, service_host=reached)
    Certification(Store(tmp_path), state).ask("pgbouncer/0")
    found = state.model.units["pgbouncer/0"].certificates.hosts
    assert set(found) == names
    assert ipaddress.ip_address(found[0])


def test_a_state_without_an_authority_asks_nothing(tmp_path):
    state = State()
    state.model.add_unit("127.0.0.2")
    before, certification = state.model_dump(), Certification(Store(tmp_path), state)
    certification.ask("pgbouncer/0")
    certification.publish()
    assert not certification.waits
    assert state.model_dump() == before
    assert not list(tmp_path.iterdir())
