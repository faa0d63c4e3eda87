"""Intent: every endpoint of PostgreSQL is verified by the authorities that PostgreSQL tells now."""

import dataclasses
import logging

from app.outcome import AskAgain, Done
from app.ports import Databases, Peers
from domain import sentences, verification
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.ledger import Ledger

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class VerifyServers:
    """Asks every endpoint of PostgreSQL for its certificate, on the leader, and records the result.

    - The ledger records that all endpoints are verified. Until then the plan keeps the authorities before,
      and every hook asks again; with `verify` the hook asks always.
    - An endpoint that is not verified is a problem: PgBouncer refuses it, and clients would see only a timeout.
    - An endpoint that does not answer matters only while PostgreSQL changes its authority.
    """

    databases: Databases
    peers: Peers
    verify: bool

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Record whether all endpoints are verified, and return AskAgain if that may change without an event."""
        if not may_write_for_app(facts) or facts.ledger.has("database"):
            return Done(facts)
        login, known = verification.login_to_prove(facts), facts.backend.credentials
        if login is None or known is None or facts.ledger.provisioned_for != known.user:
            return Done(self._record(facts, facts.ledger.proving("")) if known else facts)
        proof = verification.proof_of(known)
        if facts.ledger.verified == proof and not self.verify:
            return Done(facts)
        found = self.databases.refusals(login)
        refused = {endpoint: reason for endpoint, reason in found.items() if reason}
        silent = [endpoint for endpoint, reason in found.items() if not reason]
        if not refused and not (silent and verification.rotates(facts)):
            return Done(self._record(facts, facts.ledger.proving(proof)))
        ledger = facts.ledger.proving("")
        if refused:
            endpoint, reason = next(iter(refused.items()))
            problem = sentences.SERVER_NOT_VERIFIED.problem(
                "verification", endpoint=endpoint, reason=reason
            )
            logger.warning("%s", problem.text)
            ledger = ledger.with_problem(problem)
        names = ", ".join(map(str, found))
        return AskAgain(self._record(facts, ledger), f"waiting until {names} is verified")

    def _record(self, facts: Facts, ledger: Ledger) -> Facts:
        if ledger == facts.ledger:
            return facts
        self.peers.record(ledger)
        return facts.recording(ledger)
