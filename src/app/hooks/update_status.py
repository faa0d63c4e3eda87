"""The update-status hook."""

import dataclasses

from app.converge import Converge
from app.outcome import Outcome
from app.ports import Databases, FactsSource, Peers
from domain import sentences
from domain.endpoints import Endpoint, endpoints_text
from domain.facts import Facts
from domain.leadership import may_write_for_app


@dataclasses.dataclass(frozen=True, slots=True)
class UpdateStatus:
    """The update-status hook.

    - The leader asks whether PostgreSQL answers, and records in the ledger if it does not.
    - Then the address of the leader, the connection information of clients, and all that a lost event
      may have left undone are updated.
    """

    source: FactsSource
    databases: Databases
    peers: Peers
    converge: Converge

    def __call__(self) -> Outcome:
        """Ask whether PostgreSQL answers, and converge."""
        return self.converge(self._probe_backend(self.source.read()))

    def _probe_backend(self, facts: Facts) -> Facts:
        """Return the facts, with a problem in the ledger if PostgreSQL does not answer."""
        backend = facts.backend.credentials
        if not probed_servers(facts) or backend is None or self.databases.answers(backend):
            return facts
        problem = sentences.POSTGRESQL_SILENT.problem(
            "database",
            endpoints=endpoints_text(backend.endpoints),
            cure="check that PostgreSQL runs, and the network",
        )
        ledger = facts.ledger.with_problem(problem)
        self.peers.record(ledger)
        return facts.recording(ledger)


def probed_servers(facts: Facts) -> tuple[Endpoint, ...]:
    """Return where this unit has to ask whether PostgreSQL answers; nowhere if it does not lead."""
    backend = facts.backend.credentials
    probes = may_write_for_app(facts) and facts.backend_ready
    return backend.endpoints if probes and backend else ()
