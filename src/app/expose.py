"""Intent: one name leads clients to all units."""

import logging

from app.errors import ExposureFailed, ExposureForbidden
from app.outcome import Done, Outcome
from app.ports import Exposure, Peers
from domain.facts import Facts
from domain.leadership import decides
from domain.status import Level, Problem

logger = logging.getLogger(__name__)


class Expose:
    """The leader keeps the Service at the port that the units listen on.

    The ledger remembers the port, so that the platform is asked only when it changed, or to be
    thorough: then a Service that somebody deleted or edited is put right. It remembers a failure
    likewise, and every later hook tries again.
    """

    def __init__(self, exposure: Exposure, peers: Peers) -> None:
        self._exposure = exposure
        self._peers = peers

    def __call__(self, facts: Facts, *, thorough: bool) -> Outcome:
        """The platform leads to our port, or the ledger says why not."""
        if not decides(facts) or facts.plan is None or not facts.service_host:
            return Done(facts)
        port = facts.plan.settings.listen_port
        done = facts.ledger.exposed_port == port and not facts.ledger.has("service")
        if done and not thorough:
            return Done(facts)
        ledger = facts.ledger.without("service")
        try:
            self._exposure.expose(port)
            ledger = ledger.model_copy(update={"exposed_port": port})
        except ExposureForbidden as error:
            problem = Problem(topic="service", level=Level.BLOCKED, text=str(error))
            ledger = ledger.with_problem(problem)
        except ExposureFailed as error:
            problem = Problem(topic="service", level=Level.WAITING, text=str(error))
            ledger = ledger.with_problem(problem)
        if ledger != facts.ledger:
            self._peers.record(ledger)
        return Done(facts.model_copy(update={"ledger": ledger}))
