"""Intent: the unit has a certificate of its authority that clients can verify."""

import dataclasses
import logging

from app.errors import CertificatesFailed
from app.outcome import AskAgain, Done
from app.ports import Certificates
from domain import certificates
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.problems import Level, Problem

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class ObtainCertificate:
    """Keeps what the authority of this unit issued, and requests what is missing.

    - A pair stays until its successor is kept, whatever the authority says or does not say.
    - A pair of another authority is kept when clients were told of that authority.
    - When the relation with the authority has ended, the pair is removed once clients were told that
      units serve no TLS.
    """

    port: Certificates

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Keep, request or remove; return AskAgain if the leader has to wait for its own announcement."""
        if facts.leaving:
            return Done(facts)
        try:
            if may_write_for_app(facts):
                self.port.receive()
            facts = self._kept(facts)
            facts = self._requested(facts)
        except CertificatesFailed as error:
            logger.warning("%s", error)
            return Done(facts, (_failure(error),))
        if facts.certificates.issued and may_write_for_app(facts):
            # Juju sends no event to the unit that wrote what clients are told.
            return AskAgain(facts, "waiting until clients know the new authority")
        return Done(facts)

    def _kept(self, facts: Facts) -> Facts:
        """Keep the pair that was issued, or remove the pair that is kept; return the facts after that."""
        known = facts.certificates
        if known.issued and certificates.may_keep(facts):
            logger.info("Clients get a new certificate, %.12s", known.issued.digest)
            self.port.keep(known.issued)
            return facts.with_certificates(known.keeping(known.issued))
        if certificates.may_discard(facts):
            self.port.discard()
            return facts.with_certificates(known.keeping(None))
        return facts

    def _requested(self, facts: Facts) -> Facts:
        """Request a certificate if there is a reason; return the facts after that."""
        names = certificates.wanted_names(facts)
        if names is None or not certificates.must_request(facts):
            return facts
        self.port.request(names)
        return facts.with_certificates(facts.certificates.requesting(names))


def _failure(error: CertificatesFailed) -> Problem:
    return Problem(topic="certificates", level=Level.WAITING, text=str(error))
