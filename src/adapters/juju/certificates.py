"""The certificates of this unit for clients, by the relation `certificates` of Juju."""

from __future__ import annotations

from app.errors import CertificatesFailed
from domain.tls import CertificateNames, ServedPair

_NO_RELATION = "there is no relation `certificates`"


class JujuCertificates:
    """The port `Certificates`, for an application without a relation `certificates`."""

    def request(self, names: CertificateNames) -> None:
        """Raise CertificatesFailed: there is no authority."""
        raise CertificatesFailed(f"{_NO_RELATION} to ask for {names.common}")

    def keep(self, pair: ServedPair) -> None:
        """Raise CertificatesFailed: there is no authority."""
        raise CertificatesFailed(f"{_NO_RELATION} that issued {pair.digest}")

    def discard(self) -> None:
        """Do nothing: no pair is kept."""
