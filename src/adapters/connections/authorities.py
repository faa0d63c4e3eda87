"""Tell certificates of authorities from other certificates, and find the roots among them.

The standard library reads certificates, by OpenSSL. This module is imported only where a server offers TLS.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from domain.tls import Certificate

# The subject or the issuer of a certificate, as the standard library returns it.
_Subject = object


class Authorities(NamedTuple):
    """The certificates that verify a server."""

    certificates: tuple[Certificate, ...]
    # They include a root. OpenSSL verifies no certificate without its root.
    rooted: bool


class _Authority(NamedTuple):
    certificate: Certificate
    subject: _Subject
    issuer: _Subject


def authorities(told: Iterable[Certificate], given: Iterable[Certificate] = ()) -> Authorities:
    """Return the authorities among the certificates that a server told, with those above them.

    The certificate of the server itself, which may be among those that it told, is left out. Of the
    certificates that the operator gave, only those count that lead from an authority of the server to its
    root: other authorities do not verify this server. Raises ValueError for what is no certificate.
    """
    found = {own.certificate: own for own in _read(told)}
    above = list(_read(given)) if found else []
    new = list(found.values())
    while new:
        issuers = [below.issuer for below in new]
        new = [own for own in above if own.subject in issuers and own.certificate not in found]
        found |= {own.certificate: own for own in new}
    rooted = any(own.subject == own.issuer for own in found.values())
    return Authorities(tuple(found), rooted)


def _read(certificates: Iterable[Certificate]) -> Iterable[_Authority]:
    for certificate in certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cadata=certificate)
            # The certificate is not listed if it is no authority.
            for found in context.get_ca_certs():
                yield _Authority(certificate, found.get("subject"), found.get("issuer"))
        except (ssl.SSLError, ValueError) as error:
            raise ValueError("a certificate in it cannot be read") from error
