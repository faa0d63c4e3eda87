"""Intent: the Service of Kubernetes has the ports of all units."""

import dataclasses
import logging

from app.errors import ExposureFailed, ExposureForbidden
from app.outcome import Done
from app.ports import Exposure, Peers
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.problems import Level, Problem

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Expose:
    """Applies the Service with the ports that the units listen on, on the leader.

    The ledger records the ports of the Service, so that a hook calls Kubernetes only when the ports change.
    With `verify` the hook always calls Kubernetes, which repairs a Service that was deleted or edited. The
    ledger also records a failure, and every later hook tries again.
    """

    exposure: Exposure
    peers: Peers
    verify: bool

    def __call__(self, facts: Facts) -> Done:
        """Apply the Service, and record its ports or the failure in the ledger."""
        if not may_write_for_app(facts) or facts.plan is None or not facts.service_host:
            return Done(facts)
        ports = facts.plan.ports
        exposed = facts.ledger.exposed_ports == ports and not facts.ledger.has("service")
        if exposed and not self.verify:
            return Done(facts)
        ledger = facts.ledger.without("service")
        try:
            self.exposure.expose(ports)
            ledger = ledger.exposing(ports)
        except ExposureForbidden as error:
            problem = Problem(topic="service", level=Level.BLOCKED, text=str(error))
            ledger = ledger.with_problem(problem)
        except ExposureFailed as error:
            problem = Problem(topic="service", level=Level.WAITING, text=str(error))
            ledger = ledger.with_problem(problem)
        if ledger != facts.ledger:
            self.peers.record(ledger)
        return Done(facts.recording(ledger))
