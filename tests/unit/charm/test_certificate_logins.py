"""Logins by certificate: what an application gives, and what each unit does with it."""

import contextlib
import dataclasses
import json

import pytest
from certified import Certified, pair_in
from on_juju import SHOP
from ops import ModelError, testing
from scenario.mocking import _MockModelBackend
from stopped_clock import Clock

from adapters.juju import facts
from authority import Authority, self_signed, signed_by
from domain.tls import UnitCertificates


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(facts, "time", clock)
    return clock


@pytest.fixture
def juju(tmp_path):
    with contextlib.closing(Certified(tmp_path / "unit")) as juju:
        juju.certificates = UnitCertificates(related=True, kept=pair_in(tmp_path))
        juju.deploy().backend()
        yield juju


def update(juju):
    for _ in range(3):
        juju.emit(juju.context.on.update_status())


def gives(juju, application, text, number=0):
    """Relate an application that gives a certificate in a secret; return the id of the relation."""
    secret = testing.Secret({"mtls-cert": text}, id=f"secret:mtls{number}", owner=None)
    juju.change(secrets={*juju.state.secrets, secret})
    request = {"resource": "shop", "request-id": f"aaaa{number}", "salt": "s"}
    requests = json.dumps([request | {"secret-mtls": secret.id}])
    relation = juju.client(application, {"version": "v1", "requests": requests})
    update(juju)
    return relation


def file(juju, name):
    return next(iter(juju.disk.rglob(name))).read_text()


def test_a_certificate_is_a_login_once_no_other_certificate_can_be_used(juju, clock, tmp_path):
    without = (file(juju, "hba.conf"), file(juju, "userlist.txt"), juju.ini())
    text = self_signed(tmp_path, "shop", "shop").certificate.read_text()
    shop = gives(juju, "shop-app", text)
    user = f"relation_id_{shop}_aaaa0"
    assert "by its certificate" not in juju.status
    assert file(juju, "hba.conf") == without[0]
    (trust,) = juju.disk.rglob("client-ca-*")
    assert trust.read_text().strip() == text.strip()
    clock.now += 119
    update(juju)
    assert user not in file(juju, "hba.conf")
    clock.now += 2
    update(juju)
    assert f'hostssl all "{user}" 0.0.0.0/0 cert map=client_' in file(juju, "hba.conf")
    (ident,) = juju.disk.rglob("client-logins-*")
    assert ident.read_text().endswith(f'"shop" "{user}"\n')
    password = juju.server.roles[user].password
    assert f'"{user}" "{password}"' in file(juju, "userlist.txt")
    bags = [
        bag
        for known in juju.state.relations
        for bag in (known.local_app_data, known.local_unit_data)
    ]
    assert not [bag for bag in bags if password in str(bag)]
    juju.ends(shop)
    update(juju)
    left = (file(juju, "hba.conf"), file(juju, "userlist.txt"), juju.ini())
    assert left == without
    assert not [secret for secret in juju.state.secrets if password in str(secret.latest_content)]


def _authority(folder):
    return Authority(folder / "root").root


def _signed(folder):
    return Authority(folder / "root").issue("shop").certificate


def _signed_by_a_client(folder):
    return signed_by(self_signed(folder, "a", "a"), folder, "b", "b").certificate


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_authority, "it may sign other certificates"),
        (lambda folder: self_signed(folder, "a", "a", ca=True).certificate, "may sign other"),
        (
            lambda folder: self_signed(folder, "a", "a", "keyUsage=keyCertSign").certificate,
            "may sign other",
        ),
        (_signed, "another authority has signed it"),
        (_signed_by_a_client, "it is not a single certificate"),
        (lambda folder: self_signed(folder, "a", "*.shop").certificate, "its common name is not"),
        (
            lambda folder: self_signed(folder, "a", 'x" "relation_id_1').certificate,
            "is not letters",
        ),
        (
            lambda folder: (
                self_signed(folder, "a", "a", "subjectAltName=DNS:*.example.com").certificate
            ),
            "a name with *",
        ),
        (
            lambda folder: (
                self_signed(folder, "a", "a", "extendedKeyUsage=serverAuth").certificate
            ),
            "it is not for clients",
        ),
    ],
)
def test_a_certificate_that_could_let_in_another_user_is_refused(
    juju, clock, tmp_path, make, reason
):
    shop = gives(juju, "shop-app", make(tmp_path).read_text())
    assert (
        f"blocked shop-app (relation {shop}) cannot log in by its certificate, because "
        in juju.status
    )
    assert reason in juju.status
    clock.now += 1000
    update(juju)
    assert " cert map=" not in file(juju, "hba.conf")
    juju.ends(shop)
    assert "by its certificate" not in juju.status


@pytest.mark.parametrize(
    "text", ["x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"]
)
def test_a_text_that_is_no_certificate_is_named(juju, clock, text):
    gives(juju, "shop-app", text)
    assert "cannot log in by its certificate, because " in juju.status


def test_the_second_of_two_certificates_with_the_same_name_is_refused(juju, clock, tmp_path):
    texts = [self_signed(tmp_path, name, "shop").certificate.read_text() for name in ("a", "b")]
    gives(juju, "shop-app", texts[0])
    other = gives(juju, "other-app", texts[1], 1)
    assert juju.status == (
        f"blocked other-app (relation {other}) cannot log in by its certificate, because another"
        " client has a certificate with the same name. Its password works"
    )
    (trust,) = juju.disk.rglob("client-ca-*")
    assert trust.read_text().strip() == texts[0].strip()


def test_a_certificate_in_another_secret_is_read(juju, clock, tmp_path, monkeypatch):
    """Juju 3 refuses a label that another secret of the unit has."""
    labels, read = {}, _MockModelBackend.secret_get

    def secret_get(backend, **how):
        uri, label = how.get("id"), how.get("label")
        if uri and label and labels.setdefault(label, uri) != uri:
            raise ModelError(f"secret label {label} already exists")
        return read(backend, **how)

    monkeypatch.setattr(_MockModelBackend, "secret_get", secret_get)
    shop = gives(juju, "shop-app", self_signed(tmp_path, "shop", "shop").certificate.read_text())
    new = self_signed(tmp_path, "new", "shop").certificate.read_text()
    secret = testing.Secret({"mtls-cert": new}, id="secret:another", owner=None)
    juju.change(secrets={*juju.state.secrets, secret})
    request = {"resource": "shop", "request-id": "aaaa0", "salt": "s", "secret-mtls": secret.id}
    asks = {"version": "v1", "requests": json.dumps([request])}
    juju.with_relation(dataclasses.replace(juju.relation(shop), remote_app_data=asks))
    juju.changed(shop)
    update(juju)
    assert new.strip() in {path.read_text().strip() for path in juju.disk.rglob("client-ca-*")}
    assert "because" not in juju.status


@pytest.mark.parametrize("form", ["{}", "secret://00000000-0000-4000-8000-000000000000/{}"])
def test_a_secret_of_the_charm_that_a_client_gives_back_keeps_its_label(
    juju, clock, tmp_path, form
):
    asks = {**SHOP, "requested-secrets": '["username", "password"]'}
    shop = juju.client("shop-app", asks)
    uri = juju.told(shop)["secret-user"]
    labels = {secret.label for secret in juju.state.secrets}
    given = form.format(uri if form == "{}" else uri.removeprefix("secret:"))
    juju.client("other-app", {**SHOP, "database": "other", "secret-mtls": given})
    update(juju)
    assert "other-app (relation 12)" in juju.status
    assert "because its secret belongs to this application" in juju.status
    assert labels <= {secret.label for secret in juju.state.secrets}


def test_a_certificate_without_tls_or_that_is_not_readable_is_named(juju, clock, tmp_path):
    shop = juju.client("shop-app", {**SHOP, "secret-mtls": "secret:missing"})
    update(juju)
    assert "because its secret is not readable yet" in juju.status
    juju.ends(shop)
    juju.certificates = UnitCertificates()
    text = self_signed(tmp_path, "shop", "shop").certificate.read_text()
    juju.change(config={"client_tls_sslmode": "disable"})
    update(juju)
    gives(juju, "shop-app", text)
    assert "because units serve no TLS" in juju.status
