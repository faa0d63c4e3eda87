"""What client applications read of TLS, in both versions of the interface."""

import contextlib
import json

import pydantic
import pytest
from certified import Certified, pair_in
from on_juju import V0

from authority import Authority
from domain.tls import UnitCertificates


@pytest.fixture
def pair(tmp_path):
    return pair_in(tmp_path)


@pytest.fixture
def juju(tmp_path, pair):
    with contextlib.closing(Certified(tmp_path / "unit")) as juju:
        juju.certificates = UnitCertificates(related=True, kept=pair)
        juju.deploy().backend()
        yield juju


def update(juju):
    for _ in range(3):
        juju.emit(juju.context.on.update_status())


V1 = {
    "version": "v1",
    "requests": json.dumps([{"resource": "shop", "request-id": "aaaa", "salt": "s1"}]),
}
# Each kind of application, and how it reads that units serve TLS and that they serve none.
KINDS = {
    "secrets": ({"database": "shop", **V0}, "True", "False"),
    "plain": ({"database": "shop"}, "True", "False"),
    "v1": (V1, "true", "false"),
}


def read(juju, number):
    """Return what an application reads: the flag, and the authorities."""
    found = juju.told(number)
    if "requests" in found:
        (answer,) = json.loads(found["requests"])
        found = juju.secret(answer["secret-tls"])
    return found["tls"], found.get("tls-ca", "")


@pytest.mark.parametrize("kind", KINDS)
def test_an_application_reads_the_authorities_while_units_serve_tls(juju, pair, kind):
    asks, yes, no = KINDS[kind]
    shop = juju.client("shop-app", asks)
    update(juju)
    assert read(juju, shop) == (yes, pair.authorities[0] + "\n")
    juju.change(config={"client_tls_sslmode": "disable"})
    update(juju)
    assert read(juju, shop) == (no, "")
    assert "client_tls" not in juju.ini()


def test_a_key_is_in_no_databag_and_no_file_but_its_own(juju, pair):
    juju.client("shop-app", {"database": "shop"})
    update(juju)
    key = pair.key.get_secret_value().splitlines()[1]
    bags = [
        text
        for relation in juju.state.relations
        for bag in (relation.local_app_data, relation.local_unit_data)
        for text in bag.values()
    ]
    assert not [text for text in bags if key in text]
    files = [path for path in juju.disk.rglob("*") if path.is_file() and key in path.read_text()]
    assert [path.name.partition("-")[2].partition("-")[0] for path in files] == ["key"]
    assert key not in juju.record.read_text()


def test_what_was_told_is_not_told_again(juju):
    shop = juju.client("shop-app", {"database": "shop", **V0})
    update(juju)
    before = {secret.label: secret.latest_content for secret in juju.state.secrets}
    bag = dict(juju.relation(shop).local_app_data)
    update(juju)
    assert {secret.label: secret.latest_content for secret in juju.state.secrets} == before
    assert juju.relation(shop).local_app_data == bag
    assert json.loads(juju.shared["ledger"])["told_tls"]


def test_a_pair_that_does_not_fit_is_named_and_not_served(juju, pair, tmp_path):
    update(juju)
    before = juju.ini()
    other = Authority(tmp_path / "other").issue("other")
    wrong = pair.model_copy(update={"key": pydantic.SecretStr(other.key.read_text())})
    juju.certificates = UnitCertificates(related=True, kept=wrong)
    juju.emit(juju.context.on.start())
    assert "the certificate for clients cannot be served" in juju.status
    assert juju.ini() == before


def test_without_a_certificate_the_status_names_the_option_and_the_relation(juju):
    juju.certificates = UnitCertificates()
    juju.options(client_tls_sslmode="require")
    update(juju)
    assert juju.status.startswith("blocked option client_tls_sslmode is require")
