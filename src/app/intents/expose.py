"""Intent: the Service of Kubernetes leads clients to the ports of all units."""

import dataclasses
from typing import Literal

from app.errors import ExposureFailed, ExposureForbidden
from app.outcome import AskAgain, Done
from app.ports import Exposure, Peers
from domain import exposure as decide
from domain.facts import Facts
from domain.problems import SERVICE, Level, Problem
from domain.service import Service

# What a hook asks Kubernetes although the ledger says that all is well: nothing; whether the Service that leads
# clients from outside is as it has to be, by a single request; or everything that can change without an event.
Checks = Literal["nothing", "service", "everything"]


@dataclasses.dataclass(frozen=True, slots=True)
class Expose:
    """Applies the Service and finds the endpoints that clients are told, on the leader.

    The ledger records what Kubernetes said, so that a hook calls Kubernetes only when something changes, and
    as `checks` says. That repairs a Service that was deleted or edited. The ledger also records a failure,
    and every later hook tries again.
    """

    exposure: Exposure
    peers: Peers
    checks: Checks = "nothing"

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Make Kubernetes as it has to be, and record in the ledger what it is, or the failure."""
        verify = self.checks == "everything"
        service = decide.wanted_service(facts, verify=verify)
        if service is None:
            return Done(facts)
        before, reason = facts.ledger, ""
        try:
            facts = self._expose(facts, service)
            facts = self._locate(facts)
            facts = self._protect(facts)
            facts = self._release(facts)
            reason = decide.missing(facts.recording(decide.concluded(facts)))
        except ExposureForbidden as error:
            facts = _failing(facts, Level.BLOCKED, error)
        except ExposureFailed as error:
            facts = _failing(facts, Level.WAITING, error)
        ledger = decide.concluded(facts)
        if ledger != before:
            self.peers.record(ledger)
        facts = facts.recording(ledger)
        return AskAgain(facts, reason) if reason else Done(facts)

    def _expose(self, facts: Facts, service: Service) -> Facts:
        """Apply the Service, if it may differ."""
        # Clients inside of the cluster depend on the Service alone, which thorough hooks repair.
        looks = self.checks == "everything" or (
            self.checks == "service" and decide.is_outside(facts)
        )
        if not looks and decide.is_applied(facts.ledger, service):
            return facts
        state = self.exposure.expose(service)
        return facts.recording(decide.with_state(facts, service, state))

    def _locate(self, facts: Facts) -> Facts:
        """Find the nodes of the units, if clients are told nodes and a unit may have moved."""
        exposed = decide.known(facts.ledger)
        if not decide.wants_nodes(facts):
            return facts.recording(decide.without_nodes(facts.ledger)) if exposed.nodes else facts
        if self.checks == "everything" or exposed.located != decide.located_units(facts):
            return facts.recording(decide.with_nodes(facts, self.exposure.nodes()))
        return facts

    def _protect(self, facts: Facts) -> Facts:
        """Limit evictions, where that may be done and is not known to be done."""
        trusted = decide.known(facts.ledger).trusted
        if trusted is not None and self.checks != "everything":
            return facts
        try:
            self.exposure.protect()
        except ExposureForbidden:
            return facts.recording(decide.trusting(facts.ledger, trusted=False))
        except ExposureFailed as error:
            unknown = facts.recording(decide.trusting(facts.ledger, trusted=None))
            return _failing(unknown, Level.WAITING, error)
        return facts.recording(decide.trusting(facts.ledger, trusted=True))

    def _release(self, facts: Facts) -> Facts:
        """Give Juju's own Service back once clients use the Service of this application."""
        exposed = decide.known(facts.ledger)
        if not exposed.borrows or exposed.host or not decide.everyone_is_told(facts):
            return facts
        self.exposure.release()
        return facts.recording(decide.releasing(facts.ledger))


def _failing(facts: Facts, level: Level, error: Exception) -> Facts:
    problem = Problem(topic=SERVICE, level=level, text=str(error))
    return facts.recording(facts.ledger.with_problem(problem))
