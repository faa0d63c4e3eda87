"""The action set-tls-private-key."""

import dataclasses

import pydantic

from app.errors import CertificatesFailed
from app.ports import Certificates, FactsSource
from domain.certificates import wanted_names


@dataclasses.dataclass(frozen=True, slots=True)
class SetPrivateKey:
    """The action set-tls-private-key, for the unit on which it runs.

    The pair that the unit serves stays until the authority has issued a certificate for the other key.
    """

    source: FactsSource
    certificates: Certificates

    def __call__(self, key: pydantic.SecretStr | None) -> None:
        """Request a certificate for this key, or for a new key. Raises CertificatesFailed."""
        facts = self.source.read()
        if not facts.certificates.related:
            raise CertificatesFailed(
                "there is no authority to ask for a certificate: relate certificates first"
            )
        names = wanted_names(facts)
        if names is None:
            raise CertificatesFailed("the leader has not shared its configuration yet: try later")
        self.certificates.rotate(names, key)
