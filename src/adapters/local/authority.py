"""The certificate authority of this machine, which issues a certificate to each unit.

It answers the requests of the units as an authority that is related on Juju does. What a unit keeps and
serves is decided by the application. Only a state with an authority imports the library cryptography.
"""

from __future__ import annotations

import datetime
import ipaddress
import secrets
from typing import TYPE_CHECKING

import pydantic

from adapters.local.model import StoredModel
from domain.tls import Certificate, CertificateNames, ServedPair, UnitCertificates

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

# The name of the authority in a status.
NAME = "the authority of this machine"

AUTHORITY_LIFE = datetime.timedelta(days=3650)
CERTIFICATE_LIFE = datetime.timedelta(days=90)

# A certificate is renewed when this time of its life is left.
RENEWAL = datetime.timedelta(days=30)

# Machines whose clock is a little behind accept a new certificate, too.
_EARLIER = datetime.timedelta(hours=1)


class AuthorityRecord(StoredModel):
    """The key of the authority and its own certificate, which is a root."""

    key: pydantic.SecretStr
    certificate: Certificate
    # Whether the authority answers no request at present.
    silent: bool = False


def new_authority(now: datetime.datetime, *, silent: bool = False) -> AuthorityRecord:
    """Return an authority with another key and another name than every other authority."""
    from cryptography import x509

    key = _new_key()
    name = _name(f"pooler {secrets.token_hex(8)}")
    public = key.public_key()
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(name, name, public, now, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
    )
    return AuthorityRecord(key=_key_text(key), certificate=_signed(builder, key), silent=silent)


def successor(authority: AuthorityRecord, now: datetime.datetime) -> AuthorityRecord:
    """Return the authority, or a new authority in its place if it would end before its next certificate."""
    if end_of(authority.certificate) - now > CERTIFICATE_LIFE:
        return authority
    return new_authority(now, silent=authority.silent)


def answered(
    unit: UnitCertificates,
    authority: AuthorityRecord | None,
    hosts: tuple[str, ...],
    now: datetime.datetime,
) -> UnitCertificates:
    """Return what a unit knows of its certificates after it has asked the authority; None is no authority.

    `hosts` are the names and the addresses of the unit. A certificate is due if it ends soon, or if another
    authority has issued it.
    """
    if authority is None:
        return UnitCertificates(kept=unit.kept)
    end = end_of(unit.kept.chain[0]) if unit.kept else None
    roots, issued, unanswered = (authority.certificate,), unit.issued, unit.unanswered
    if issued and issued.authorities != roots:
        issued, unanswered = None, True
    if unanswered and unit.requested and not authority.silent:
        issued, unanswered = issue(authority, unit.requested, now), False
    old = unit.kept is not None and unit.kept.authorities != roots
    ends_soon = end is not None and end - now < RENEWAL
    return UnitCertificates(
        related=True,
        authority=NAME,
        hosts=hosts,
        kept=unit.kept,
        ends=end,
        expired=end is not None and end <= now,
        issued=issued,
        issued_ends=unit.issued_ends,
        issued_notes=unit.issued_notes,
        requested=unit.requested,
        due=unit.due or ((old or ends_soon) and issued is None and not unanswered),
        unanswered=unanswered,
        addresses_refused=unit.addresses_refused,
        problems=unit.problems,
    )


def issue(
    authority: AuthorityRecord, names: CertificateNames, now: datetime.datetime
) -> ServedPair:
    """Return a new key, and a certificate of the authority for it with these names."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509 import oid

    root = x509.load_pem_x509_certificate(authority.certificate.encode())
    signer = serialization.load_pem_private_key(
        authority.key.get_secret_value().encode(), password=None
    )
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TypeError("the key of the authority is not of its kind")
    key = _new_key()
    alternatives: list[x509.GeneralName] = [x509.DNSName(host) for host in names.hosts]
    alternatives += [x509.IPAddress(ipaddress.ip_address(text)) for text in names.addresses]
    end = min(now + CERTIFICATE_LIFE, root.not_valid_after_utc)
    builder = (
        _builder(_name(names.common), root.subject, key.public_key(), now, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(
            x509.ExtendedKeyUsage([oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    return ServedPair(
        key=_key_text(key),
        chain=(_signed(builder, signer),),
        authorities=(authority.certificate,),
    )


def end_of(certificate: str) -> datetime.datetime:
    """Return when a certificate ends."""
    from cryptography import x509

    return x509.load_pem_x509_certificate(certificate.encode()).not_valid_after_utc


def _new_key() -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _name(common: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509 import oid

    return x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, common)])


def _builder(
    name: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    now: datetime.datetime,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    from cryptography import x509

    builder = x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=name,
        public_key=public,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - _EARLIER,
        not_valid_after=end,
    )
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives import hashes, serialization

    certificate = builder.sign(key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM).decode().strip()


def _key_text(key: ec.EllipticCurvePrivateKey) -> pydantic.SecretStr:
    from cryptography.hazmat.primitives import serialization

    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pydantic.SecretStr(text.decode().strip())
