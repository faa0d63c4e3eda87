"""The relation `certificates`: what a unit requests, what it keeps, and when."""

import dataclasses
import json
import pathlib
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from signing import (
    DAY,
    HOSTS,
    SERVICE,
    Provider,
    Signer,
    fits,
    kept,
    leaf_of,
    now,
    receives,
    secret,
    serves_tls,
)
from tls_handshake import verify

from adapters.kubernetes import exposure


@pytest.fixture
def provider(related):
    return Provider(related)


def test_a_request_names_the_service_and_the_unit_and_no_pod_address(provider):
    assert provider.asked == (HOSTS, [])
    request = x509.load_pem_x509_csr(provider.request.encode())
    assert isinstance(request.public_key(), ec.EllipticCurvePublicKey)
    assert request.is_signature_valid
    (common,) = request.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert common.value == f"{SERVICE}.dev.svc.cluster.local"
    assert provider.juju.status == "waiting certificates: waiting for vault to issue a certificate"


def test_a_follower_requests_a_certificate_of_its_own(related):
    related.change(leader=False)
    assert Provider(related).asked == (HOSTS, [])


def test_a_change_of_tls_extra_sans_is_another_request(provider):
    before, juju = provider.request, provider.juju
    juju.options(**{"tls-extra-sans": "Pool.example.com *.pool.test 192.0.2.7, 2001:DB8::7"})
    assert provider.request != before
    hosts, addresses = provider.asked
    assert set(hosts) == {*HOSTS, "pool.example.com", "*.pool.test"}
    assert addresses == ["192.0.2.7", "2001:db8::7"]
    unchanged = provider.request
    juju.emit(juju.context.on.update_status())
    assert provider.request == unchanged


def test_a7_the_longest_names_that_kubernetes_accepts_fail_no_hook(make, monkeypatch):
    juju = make().deploy().backend()
    model = dataclasses.replace(juju.state.model, name="m" * 63)
    named, long = exposure.service_name, "a" * 60
    monkeypatch.setattr("adapters.kubernetes.exposure.service_name", lambda _: named(long))
    juju.change(model=model)
    provider = Provider(juju)
    request = x509.load_pem_x509_csr(provider.request.encode())
    (common,) = request.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    assert 0 < len(common.value) <= 64
    provider.issues()
    assert fits(juju)


@pytest.mark.parametrize("intermediate", [False, True])
def test_a1_a_client_verifies_the_pair_with_the_authorities_of_the_pair(related, intermediate):
    provider = Provider(related, Signer(intermediate=intermediate))
    provider.issues()
    assert kept(related)[1].count("BEGIN CERTIFICATE") == 1 + intermediate
    assert [verify(kept(related), host) for host in HOSTS] == [""] * len(HOSTS)
    assert "Hostname mismatch" in verify(kept(related), "other.example.com")
    # The root is enough, because the server sends the certificates between.
    assert verify(kept(related), HOSTS[0], provider.signer.root) == ""
    assert related.status == "active"


def test_the_order_of_a_chain_does_not_matter(related):
    provider = Provider(related, Signer(intermediate=True))
    entry = provider.signer.entry(provider.request)
    root, other = provider.signer.root, Signer("another").root
    provider.writes(certificates=[entry | {"ca": root, "chain": [other, *entry["chain"][::-1]]}])
    assert verify(kept(related), HOSTS[0], root) == ""
    assert other not in kept(related)[2]


def test_a_pod_with_an_empty_disk_finds_the_pair_in_the_secret(provider):
    provider.issues()
    before, juju = kept(provider.juju), provider.juju
    juju.renewed()
    pathlib.Path(juju.context.charm_root, ".unchanged").unlink(missing_ok=True)
    juju.emit(juju.context.on.start())
    juju.emit(juju.context.on.pebble_ready(juju.container))
    assert kept(juju) == before


def test_a2_a_silent_authority_takes_nothing_away(provider):
    provider.issues()
    before = kept(provider.juju)
    provider.writes_text()
    provider.writes(certificates=[], request_errors=[])
    provider.juju.options(**{"tls-extra-sans": "pool.example.com"})
    assert kept(provider.juju) == before
    assert verify(before, HOSTS[0]) == ""


def test_a2_a_certificate_near_its_end_is_renewed_by_update_status(provider):
    provider.issues(days=(-89, 1))
    juju, before = provider.juju, kept(provider.juju)
    assert juju.status == "active"
    before_that = provider.request
    juju.emit(juju.context.on.update_status())
    requested = provider.request
    assert requested != before_that
    assert f"{leaf_of(juju).not_valid_after_utc:%Y-%m-%d %H:%M} UTC" in juju.status
    assert juju.status.startswith("active certificates: waiting for vault to issue another")
    juju.emit(juju.context.on.update_status())
    assert provider.request == requested
    assert kept(juju) == before
    provider.issues()
    assert kept(juju) != before
    assert fits(juju)
    assert juju.status == "active"


def test_a2_a_hook_notices_the_time_of_renewal_without_any_news(provider, monkeypatch):
    juju = provider.juju
    provider.issues(days=(0, 10))
    juju.emit(juju.context.on.update_status())
    record = pathlib.Path(juju.context.charm_root, ".unchanged")
    until = json.loads(record.read_text())["until"]
    assert abs(until - (now() + 9 * DAY).timestamp()) < 60
    before = provider.request

    def at(moment):
        monkeypatch.setattr("adapters.juju.skip_unchanged.time.time", lambda: moment)
        looked = record.stat().st_mtime_ns
        juju.emit(juju.context.on.update_status())
        return not record.exists() or record.stat().st_mtime_ns != looked

    assert not at(until - 1)
    assert at(until)
    assert provider.request == before  # The clock of this test is that of the record alone.


def test_an_expired_certificate_is_served_and_named(provider):
    provider.issues(days=(-90, 0.00002))
    juju = provider.juju
    time.sleep(max(0, (leaf_of(juju).not_valid_after_utc - now()).total_seconds()))
    pathlib.Path(juju.context.charm_root, ".unchanged").unlink(missing_ok=True)
    juju.emit(juju.context.on.update_status())
    assert kept(juju)
    assert juju.status.startswith("blocked certificates: the certificate expired on ")
    provider.issues()
    assert juju.status == "active"


def test_a2_a_pair_of_another_authority_waits_until_clients_know_it(provider):
    juju, old, new = provider.juju, provider.signer, Signer("new")
    provider.issues()
    before = kept(juju)
    serves_tls(juju, old.root)
    provider.signer = new
    provider.issues()
    assert kept(juju) == before
    assert juju.status == "waiting certificates: waiting until clients know the new authority"
    serves_tls(juju, old.root, new.root)
    juju.emit(juju.context.on.update_status())
    assert verify(kept(juju), HOSTS[0], new.root) == ""


def test_a_certificate_that_was_revoked_is_requested_again(provider):
    provider.issues()
    before, requested = kept(provider.juju), provider.request
    provider.writes(certificates=[provider.signer.entry(requested) | {"revoked": True}])
    assert kept(provider.juju) == before
    assert provider.request != requested
    provider.issues()
    assert kept(provider.juju) != before


@pytest.mark.parametrize(
    ("reason", "how"),
    [
        (
            "it is for another key",
            {"public": ec.generate_private_key(ec.SECP256R1()).public_key()},
        ),
        ("it expired on ", {"days": (-9, -1)}),
        ("it is not valid before ", {"days": (1, 90)}),
        (
            "it is the certificate of an authority",
            {"extra": [x509.BasicConstraints(ca=True, path_length=None)]},
        ),
        (
            "it is not for a server",
            {"extra": [x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH])]},
        ),
        (f"it lacks {', '.join(HOSTS)}, and the certificate before is still valid", {"names": []}),
    ],
)
def test_a_certificate_that_clients_would_refuse_replaces_none(provider, reason, how):
    provider.issues()
    before = kept(provider.juju)
    if how.get("names") == []:
        how = {"names": ["other.example.com"]}
    provider.issues(**how)
    assert kept(provider.juju) == before
    assert provider.juju.status.startswith(
        f"blocked certificates: what vault issued is not used: {reason}"
    )


def test_a_certificate_that_no_given_authority_signed_is_not_kept(provider):
    entry = provider.signer.entry(provider.request) | {"ca": Signer().root, "chain": []}
    provider.writes(certificates=[entry])
    assert kept(provider.juju) is None
    assert provider.juju.status == (
        "blocked certificates: what vault issued is not used: none of the authorities that were"
        " given has signed it"
    )


def test_a_first_certificate_without_all_names_is_served_with_a_note(provider):
    provider.issues(names=[f"*.{HOSTS[0].partition('.')[2]}", HOSTS[1], HOSTS[2]])
    assert fits(provider.juju)
    assert provider.juju.status == (
        f"active certificates: the certificate lacks {HOSTS[3]}, so clients cannot verify units"
        " by these names"
    )


def test_a_root_that_is_missing_is_named_and_taken_from_receive_ca_certs(related):
    provider = Provider(related, Signer(intermediate=True))
    entry = provider.signer.entry(provider.request)
    provider.writes(certificates=[entry | {"chain": entry["chain"][:2]}])
    assert related.status.startswith("active certificates: vault gave no root, so clients cannot")
    assert "unable to get issuer" in verify(kept(related), HOSTS[0])
    receives(related, {"certificates": json.dumps([provider.signer.root]), "version": "1"})
    assert related.status == "active"
    assert verify(kept(related), HOSTS[0]) == ""


def test_a_certificate_without_a_root_replaces_none_that_clients_can_verify(related):
    provider, other = Provider(related, Signer(intermediate=True)), Signer(intermediate=True)
    provider.issues()
    before = kept(related)
    entry = other.entry(provider.request)
    provider.writes(certificates=[entry | {"chain": entry["chain"][:2]}])
    assert kept(related) == before
    assert related.status.startswith(
        "blocked certificates: what vault issued is not used: it comes without a root"
    )
    receives(related, {"certificates": json.dumps([other.root]), "version": "1"})
    assert related.status == "active"
    assert verify(kept(related), HOSTS[0], other.root) == ""


def test_a_root_that_is_no_longer_given_still_verifies_what_it_signed(related):
    provider = Provider(related, Signer(intermediate=True))
    provider.issues()
    before = kept(related)
    entry = provider.signer.entry(provider.request)
    provider.writes(certificates=[entry | {"chain": entry["chain"][:2]}])
    assert kept(related) != before
    assert verify(kept(related), HOSTS[0], provider.signer.root) == ""
    assert related.status == "active"


def test_the_pair_goes_with_the_relation_when_clients_were_told_of_no_tls(provider):
    provider.issues()
    provider.goes()
    # The hook that tells clients keeps the pair.
    for _ in range(3):
        provider.juju.emit(provider.juju.context.on.update_status())
    assert secret(provider.juju) == {}
    assert "certificate" not in provider.juju.relation("pgb-peers").local_unit_data


def test_the_pair_stays_after_the_relation_while_clients_count_on_tls(provider):
    juju = provider.juju
    provider.issues()
    before = kept(juju)
    serves_tls(juju, provider.signer.root)
    provider.goes()
    assert kept(juju) == before
    plan = json.loads(juju.relation("pgb-peers").local_app_data["plan"]) | {"tls": False}
    juju.leader_writes("pgb-peers", plan=json.dumps(plan))
    juju.emit(juju.context.on.update_status())
    assert secret(juju) == {}


def test_another_authority_replaces_the_first_without_a_gap(provider):
    juju = provider.juju
    provider.issues()
    before = kept(juju)
    serves_tls(juju, provider.signer.root)
    provider.goes()
    other = Provider(juju, Signer("other"), number=6)
    assert kept(juju) == before
    serves_tls(juju, provider.signer.root, other.signer.root)
    other.issues()
    assert verify(kept(juju), HOSTS[0], other.signer.root) == ""
