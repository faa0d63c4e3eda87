"""The published library of tls-certificates, as the provider of a certificate."""

import dataclasses
import datetime

import ops
import pytest
from charmlibs.interfaces import tls_certificates as library
from ops import testing
from signing import HOSTS, Provider, fits, kept
from tls_handshake import verify

ENDPOINT = "certificates"


class Vault(ops.CharmBase):
    """An authority that answers each request; `refusal` is the code of its error."""

    refusal = 0
    capabilities = None
    key = library.generate_private_key()
    root = library.generate_ca(key, datetime.timedelta(days=9), "root")

    def __init__(self, framework):
        super().__init__(framework)
        self.certificates = library.TLSCertificatesProvidesV4(self, ENDPOINT, self.capabilities)
        framework.observe(self.on[ENDPOINT].relation_changed, self._on_changed)

    def _on_changed(self, _):
        for asked in self.certificates.get_outstanding_certificate_requests():
            request = asked.certificate_signing_request
            if self.refusal:
                error = library.CertificateError(code=self.refusal, name="NO", message="no")
                self.certificates.set_relation_error(
                    library.ProviderCertificateError(asked.relation_id, request, error)
                )
                continue
            life = datetime.timedelta(days=5)
            certificate = library.generate_certificate(request, self.root, self.key, life)
            self.certificates.set_relation_certificate(
                library.ProviderCertificate(
                    asked.relation_id, certificate, request, self.root, [self.root]
                )
            )


class Authority:
    """The application of `Vault`, related to a unit of the charm."""

    def __init__(self, juju):
        self._there = Provider(juju)
        meta = {"name": "vault", "provides": {ENDPOINT: {"interface": "tls-certificates"}}}
        self._context = testing.Context(Vault, meta=meta)
        self._bag = {}

    @property
    def asked(self):
        return self._there.asked

    def answers(self):
        """Let the library read the databag of the unit, and the unit the answer of the library."""
        juju, number = self._there.juju, self._there.number
        relation = testing.Relation(
            ENDPOINT,
            id=number,
            remote_app_name="pgbouncer-k8s",
            local_app_data=self._bag,
            remote_units_data={0: juju.relation(number).local_unit_data},
        )
        state = testing.State(leader=True, relations={relation})
        event = self._context.on.relation_changed(relation, remote_unit=0)
        self._bag = dict(self._context.run(event, state).get_relation(number).local_app_data)
        juju.with_relation(
            dataclasses.replace(juju.relation(number), remote_app_data=dict(self._bag))
        )
        juju.changed(number)


@pytest.fixture
def authority(related):
    return Authority(related)


def test_todays_library_answers_the_request(related, authority):
    authority.answers()
    assert fits(related)
    assert verify(kept(related), HOSTS[0]) == ""
    before = kept(related)
    authority.answers()
    assert kept(related) == before


def test_todays_library_answers_a_request_after_the_key_was_changed(related, authority):
    authority.answers()
    before = kept(related)
    related.emit(related.context.on.action("set-tls-private-key"))
    authority.answers()
    assert kept(related)[0] != before[0]
    assert fits(related)


def test_an_error_of_todays_library_is_understood(related, authority, monkeypatch):
    related.options(**{"tls-extra-sans": "192.0.2.7"})
    monkeypatch.setattr(Vault, "refusal", library.CertificateRequestErrorCode.IP_NOT_ALLOWED)
    authority.answers()
    assert authority.asked == (HOSTS, [])
    monkeypatch.setattr(Vault, "refusal", 0)
    authority.answers()
    assert fits(related)


def test_capabilities_of_todays_library_are_understood(related, authority, monkeypatch):
    related.options(**{"tls-extra-sans": "192.0.2.7"})
    offers = library.ProviderCapabilities(supports_ip_sans=False)
    monkeypatch.setattr(Vault, "capabilities", offers)
    authority.answers()
    assert authority.asked == (HOSTS, [])
