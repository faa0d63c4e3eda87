"""The hooks leader-elected and pebble-check-recovered (of the check of PostgreSQL)."""

import dataclasses

from app.converge import Converge
from app.outcome import Outcome
from app.ports import FactsSource


@dataclasses.dataclass(frozen=True, slots=True)
class Verify:
    """Asks also about the work that the records of this application say is done.

    - leader-elected: the leader writes its address to the peer databag and the connection information to
      the databags of clients, and does what the leader before it left undone. It asks PostgreSQL and Kubernetes.
    - pebble-check-recovered of the check of PostgreSQL: PostgreSQL answers again. It may be another server
      under the name of the previous server; then every connection to the previous server is closed. Only
      PostgreSQL is asked.
    """

    source: FactsSource
    verify: Converge

    def __call__(self) -> Outcome:
        """Read the facts, and converge with `verify`."""
        return self.verify(self.source.read())
