"""The action set-tls-private-key."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from ops import testing
from signing import (
    Provider,
    fits,
    kept,
    key_of,
    secret,
)


@pytest.fixture
def provider(related):
    return Provider(related)


def rotate(juju, **params):
    return juju.emit(juju.context.on.action("set-tls-private-key", params=params))


def in_pem(key, encryption=None):
    how = encryption or NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, how).decode()


EC_KEY = ec.generate_private_key(ec.SECP384R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


def test_a3_a_new_key_waits_for_its_certificate(provider):
    provider.issues()
    before, requested, juju = kept(provider.juju), provider.request, provider.juju
    rotate(juju)
    assert provider.request != requested
    assert kept(juju) == before
    juju.emit(juju.context.on.update_status())
    assert kept(juju) == before
    provider.issues()
    assert kept(juju)[0] != before[0]
    assert fits(juju)


@pytest.mark.parametrize(
    "given",
    [
        in_pem(EC_KEY),
        in_pem(RSA_KEY),
        in_pem(EC_KEY).replace("\n", " "),
        base64.b64encode(in_pem(RSA_KEY).encode()).decode(),
    ],
    ids=["ecdsa", "rsa", "in a line", "base64"],
)
def test_a_key_of_the_operator_is_used_now_and_for_renewals(provider, given):
    provider.issues()
    rotate(provider.juju, **{"private-key": given})
    provider.issues(days=(-89, 1))
    provider.issues()
    public = key_of(provider.juju)
    assert public in (EC_KEY.public_key(), RSA_KEY.public_key())
    assert fits(provider.juju)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("hunter2", "the private key is not in PEM"),
        (in_pem(EC_KEY)[:80], "the private key is not in PEM"),
        ("x" * 20_000, "the private key is not in PEM"),
        (in_pem(EC_KEY) + "A" * 20_000, "the private key is longer than any real key"),
        (in_pem(EC_KEY, BestAvailableEncryption(b"x")), "the private key is encrypted: remove"),
        (in_pem(ec.generate_private_key(ec.SECP521R1())), "the private key is of another kind"),
        (in_pem(rsa.generate_private_key(65537, 1024)), "the private key is of another kind"),
    ],
    ids=lambda text: text[:30],
)
def test_a_key_that_cannot_be_used_is_refused_and_not_shown(provider, given, reason):
    provider.issues()
    before, requested = kept(provider.juju), provider.request
    with pytest.raises(testing.ActionFailed) as failed:
        rotate(provider.juju, **{"private-key": given})
    assert failed.value.message.startswith(reason)
    assert given[:20] not in failed.value.message
    logged = "".join(line.message for line in provider.juju.context.juju_log)
    assert given[40:60] not in logged or given == "hunter2"
    assert "hunter2" not in logged
    assert (kept(provider.juju), provider.request) == (before, requested)


def test_a_key_without_an_authority_is_refused(related):
    with pytest.raises(testing.ActionFailed, match="relate certificates first"):
        rotate(related)
    assert secret(related) == {}


def test_a_key_before_the_first_plan_is_refused(make):
    juju = make(leader=False)
    Provider(juju)
    with pytest.raises(testing.ActionFailed, match="the leader has not shared"):
        rotate(juju)
