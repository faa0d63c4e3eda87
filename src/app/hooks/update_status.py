"""Use case: some time has passed."""

import logging

from app.converge import Converge
from app.outcome import Outcome
from app.ports import Databases, FactsSource, Peers
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.pools import endpoints_text
from domain.status import Level, Problem

logger = logging.getLogger(__name__)


class UpdateStatus:
    """The update-status hook.

    - The leader asks whether PostgreSQL answers, and tells the others.
    - Then the leader's address and the clients' connection information are brought up to date, with
      all else that a lost event may have left undone.
    """

    def __init__(
        self, world: FactsSource, databases: Databases, peers: Peers, converge: Converge
    ) -> None:
        self._world = world
        self._databases = databases
        self._peers = peers
        self._converge = converge

    def __call__(self) -> Outcome:
        """What is known is up to date."""
        return self._converge(self._asked(self._world.read()))

    def _asked(self, facts: Facts) -> Facts:
        backend = facts.backend.credentials
        if not may_write_for_app(facts) or not facts.backend_ready or backend is None:
            return facts
        if self._databases.answers(backend):
            return facts
        text = f"PostgreSQL does not answer at {endpoints_text(backend.endpoints)}"
        problem = Problem(topic="database", level=Level.BLOCKED, text=text)
        ledger = facts.ledger.with_problem(problem)
        self._peers.record(ledger)
        return facts.model_copy(update={"ledger": ledger})
