"""Read the certificate by which a client logs in, and refuse a certificate that could let in another user."""

from __future__ import annotations

import contextlib
import datetime
import ssl

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from adapters.x509 import has_signed, readable, text_of
from domain.certificate_logins import ClientCertificate, name_refused
from domain.tls import LONGEST_CERTIFICATE, certificates_in

_HOW = "give a self-signed certificate with CA:FALSE"
_ANY_CLIENT = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}


def read_certificate(text: str) -> ClientCertificate:
    """Return the certificate in a PEM text of a client, or why it is not used."""
    try:
        with readable():
            return _read(text)
    except ValueError as error:
        return ClientCertificate(problem=f"because {error}")


def _read(text: str) -> ClientCertificate:
    found = certificates_in(text) if len(text) <= LONGEST_CERTIFICATE else ()
    if len(found) != 1:
        return ClientCertificate(problem=f"because it is not a single certificate: {_HOW}")
    certificate = x509.load_pem_x509_certificate(found[0].encode())
    if reason := _refused(certificate):
        return ClientCertificate(problem=f"because {reason}")
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(common) != 1:
        return ClientCertificate(problem="because it has not a single common name")
    name = str(common[0].value)
    names = tuple(dict.fromkeys(known.lower() for known in (name, *_alternatives(certificate))))
    if problem := name_refused(name, names):
        return ClientCertificate(problem=problem)
    pem = text_of(certificate)
    # A text that OpenSSL cannot read would end TLS for every client.
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError):
        return ClientCertificate(problem="because OpenSSL cannot read it")
    return ClientCertificate(
        text=pem, name=name, names=names, ends=certificate.not_valid_after_utc
    )


def _refused(certificate: x509.Certificate) -> str:
    """Return why a certificate could sign another, or would not be accepted; '' if it is used."""
    extensions = certificate.extensions
    try:
        authority = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        # OpenSSL takes some certificates that do not say it for authorities.
        authority = True
    with contextlib.suppress(x509.ExtensionNotFound):
        authority |= extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    if authority or certificate.version is not x509.Version.v3:
        return f"it may sign other certificates: {_HOW}"
    if not has_signed(certificate, certificate):
        return f"another authority has signed it: {_HOW}"
    with contextlib.suppress(x509.ExtensionNotFound):
        if _ANY_CLIENT.isdisjoint(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value):
            return "it is not for clients: give a certificate with clientAuth"
    if certificate.not_valid_after_utc <= datetime.datetime.now(datetime.UTC):
        return f"it expired on {certificate.not_valid_after_utc:%Y-%m-%d}: give another"
    return ""


def _alternatives(certificate: x509.Certificate) -> list[str]:
    """Return the alternative names that PgBouncer compares: host names and addresses."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    names = extension.value
    return [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]
