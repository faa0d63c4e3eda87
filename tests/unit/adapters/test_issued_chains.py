"""Which authorities above a certificate are found, in whatever order and form they are given."""

import datetime
import itertools

import pydantic
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from adapters.x509 import read_issued

NOW = datetime.datetime(2026, 11, 27, 8, tzinfo=datetime.UTC)
KEYS = {
    name: ec.generate_private_key(ec.SECP256R1())
    for name in ("leaf", "between", "root", "older root")
}


def named(name):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def signed(name, issuer):
    """Return the certificate of a key in PEM, which the key of an issuer has signed."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(KEYS[name].public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(name != "leaf", None), critical=True)
    )
    certificate = builder.sign(KEYS[issuer], hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode().strip()


LEAF, BETWEEN, ROOT = signed("leaf", "between"), signed("between", "root"), signed("root", "root")
CROSS, OLDER = signed("root", "older root"), signed("older root", "older root")


def found(*others):
    key = KEYS["leaf"].private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return read_issued(LEAF, others, pydantic.SecretStr(key.decode()))


@pytest.mark.parametrize("others", list(itertools.permutations((BETWEEN, ROOT, CROSS))))
def test_a_root_is_found_beside_its_certificate_of_another_root(others):
    issued = found(*others)
    assert issued.rooted
    assert issued.pair.authorities == (BETWEEN, ROOT)
    assert issued.pair.chain == (LEAF, BETWEEN)


def test_a_certificate_of_another_root_leads_to_that_root():
    issued = found(CROSS, BETWEEN, OLDER)
    assert issued.rooted
    assert issued.pair.authorities == (BETWEEN, CROSS, OLDER)


def test_without_a_root_the_chain_is_not_rooted():
    assert not found(BETWEEN, CROSS).rooted
    assert not found(BETWEEN).rooted
    assert not found(ROOT).signed
