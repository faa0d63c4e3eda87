"""Intent: one name leads clients to all units."""

import logging

from app.errors import ExposureFailed, ExposureForbidden
from app.outcome import Done, Outcome
from app.ports import Exposure, Peers
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.status import Level, Problem

logger = logging.getLogger(__name__)


class Expose:
    """The leader keeps the Service at the ports that the units listen on.

    The ledger remembers them, so that the platform is asked only when they changed, or to be
    thorough: then a Service that somebody deleted or edited is put right. It remembers a failure
    likewise, and every later hook tries again.
    """

    def __init__(self, exposure: Exposure, peers: Peers) -> None:
        self._exposure = exposure
        self._peers = peers

    def __call__(self, facts: Facts, *, verify: bool) -> Outcome:
        """The platform leads to our ports, or the ledger says why not."""
        if not may_write_for_app(facts) or facts.plan is None or not facts.service_host:
            return Done(facts)
        ports = facts.plan.ports
        done = facts.ledger.exposed_ports == ports and not facts.ledger.has("service")
        if done and not verify:
            return Done(facts)
        ledger = facts.ledger.without("service")
        try:
            self._exposure.expose(ports)
            ledger = ledger.model_copy(update={"exposed_ports": ports})
        except ExposureForbidden as error:
            problem = Problem(topic="service", level=Level.BLOCKED, text=str(error))
            ledger = ledger.with_problem(problem)
        except ExposureFailed as error:
            problem = Problem(topic="service", level=Level.WAITING, text=str(error))
            ledger = ledger.with_problem(problem)
        if ledger != facts.ledger:
            self._peers.record(ledger)
        return Done(facts.model_copy(update={"ledger": ledger}))
