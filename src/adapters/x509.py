"""Private keys, requests and certificates, by the library cryptography. Few hooks import this module.

Everything that is read here was written by another party. Every function raises ValueError with a
reason for what it cannot read; no reason contains a key.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import uuid
from collections.abc import Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pydantic
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from domain.certificates import IssuedCertificate
from domain.tls import CertificateNames, ServedPair, certificates_in

if TYPE_CHECKING:
    from collections.abc import Generator

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_MARK = re.compile(r"\s*(-----(?:BEGIN|END) [A-Z ]+-----)\s*", re.ASCII)
_CURVES = (ec.SECP256R1, ec.SECP384R1)
_RSA_BITS = range(2048, 8193)
_LONGEST_KEY = 16_384
# Authorities between a certificate and its root, with the root.
_LONGEST_CHAIN = 10
_ANY_SERVER = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


def new_key() -> pydantic.SecretStr:
    """Return a new private key in PEM, on the curve P-256."""
    return _in_pem(ec.generate_private_key(ec.SECP256R1()))


def checked_key(text: pydantic.SecretStr) -> pydantic.SecretStr:
    """Return a private key in PEM that an operator gave, without its password.

    The text may be in base64 as a whole, or have blanks in place of its line ends. Raises ValueError for a
    key that is encrypted, or of another kind than PgBouncer and clients accept.
    """
    pem = text.get_secret_value().strip()
    if not pem.startswith("-----BEGIN"):
        try:
            pem = base64.b64decode("".join(pem.split()), validate=True).decode()
        except ValueError:
            raise ValueError("the private key is not in PEM") from None
    return _in_pem(_key(pydantic.SecretStr(_MARK.sub(r"\n\1\n", pem))))


def new_request(key: pydantic.SecretStr, names: CertificateNames) -> str:
    """Return a request in PEM for a certificate with these names. No two requests are equal.

    An authority that has an answer to an equal request need not issue another certificate.
    """
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, names.common),
            x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, str(uuid.uuid4())),
        ]
    )
    builder = x509.CertificateSigningRequestBuilder(subject)
    alternatives = [
        *map(x509.DNSName, names.hosts),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in names.addresses),
    ]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    request = builder.sign(_key(key), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode().strip()


def read_issued(
    certificate: str, others: Iterable[str], key: pydantic.SecretStr
) -> IssuedCertificate:
    """Return a certificate that was issued for a key, with its chain as far as `others` have it.

    `others` are texts in PEM, in any order; those that are no authority of the certificate are left out.
    """
    with readable():
        leaf = _single(certificate)
        known = [x509.load_pem_x509_certificate(text.encode()) for text in others]
        path = _authorities(leaf, [other for other in known if _is_authority(other)])
        # A client has the root, or cannot verify the certificate at all.
        rooted = bool(path) and has_signed(path[-1], path[-1])
        between = path[:-1] if rooted else path
        pair = ServedPair(
            key=key,
            chain=tuple(map(text_of, (leaf, *between))),
            authorities=tuple(map(text_of, path)),
        )
        return IssuedCertificate(
            pair=pair,
            names=_names(leaf),
            begins=leaf.not_valid_before_utc,
            ends=leaf.not_valid_after_utc,
            fits_key=_public(leaf.public_key()) == _public(_key(key).public_key()),
            is_authority=_is_authority(leaf),
            for_servers=_is_for_servers(leaf),
            signed=bool(path),
            rooted=rooted,
        )


@contextmanager
def readable() -> Generator[None]:
    """Turn the errors of cryptography into a ValueError."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        OverflowError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        x509.UnsupportedGeneralNameType,
    ):
        raise ValueError("it is not a certificate that can be read") from None


def _key(text: pydantic.SecretStr) -> PrivateKey:
    pem = text.get_secret_value().strip()
    if len(pem) > _LONGEST_KEY:
        raise ValueError("the private key is longer than any real key")
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except TypeError:
        raise ValueError("the private key is encrypted: remove its passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("the private key is not in PEM") from None
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, _CURVES):
        return key
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size in _RSA_BITS:
        return key
    raise ValueError(
        "the private key is of another kind than ECDSA on P-256 or P-384, or RSA of"
        f" {_RSA_BITS.start} to {_RSA_BITS.stop - 1} bits"
    )


def _in_pem(key: PrivateKey) -> pydantic.SecretStr:
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pydantic.SecretStr(text.decode().strip())


def _single(text: str) -> x509.Certificate:
    found = certificates_in(text)
    if not found:
        raise ValueError("there is no certificate")
    return x509.load_pem_x509_certificate(found[0].encode())


def _authorities(
    leaf: x509.Certificate, known: list[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """Return the authorities above a certificate, each the issuer of the certificate before it.

    A root may also be given as a certificate that another root has signed. Where both are given, the path ends
    with the root.
    """
    path: list[x509.Certificate] = []
    current = leaf
    roots_first = sorted(known, key=lambda other: not has_signed(other, other))
    while len(path) < _LONGEST_CHAIN and not (path and has_signed(current, current)):
        issuer = next(
            (other for other in roots_first if other not in path and has_signed(current, other)),
            None,
        )
        if issuer is None:
            break
        path.append(issuer)
        current = issuer
    return tuple(path)


def has_signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Return whether a certificate has the name and the signature of an issuer."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return False
    return extension.value.ca


def _is_for_servers(certificate: x509.Certificate) -> bool:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        return True
    return not _ANY_SERVER.isdisjoint(extension.value)


def _names(certificate: x509.Certificate) -> CertificateNames:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return CertificateNames(common="")
    hosts = extension.value.get_values_for_type(x509.DNSName)
    addresses = extension.value.get_values_for_type(x509.IPAddress)
    return CertificateNames(
        common="", hosts=tuple(hosts), addresses=tuple(str(address) for address in addresses)
    )


def _public(key: CertificatePublicKeyTypes) -> bytes:
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def text_of(certificate: x509.Certificate) -> str:
    """Return a certificate in PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode().strip()
