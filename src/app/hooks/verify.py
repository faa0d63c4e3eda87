"""The leader-elected hook, and the return of PostgreSQL: all that these hooks do is to verify everything."""

import dataclasses

from app.converge import Converge
from app.outcome import Outcome
from app.ports import FactsSource


@dataclasses.dataclass(frozen=True, slots=True)
class Verify:
    """A hook that verifies everything, also what the records of this application say is done.

    - leader-elected: the leader writes its address to the peer databag and the connection information to
      the databags of clients, and does what the leader before it left undone.
    - pebble-check-recovered of the check of PostgreSQL: PostgreSQL answers again. It may be another server
      with the name of the server before; then no connection stays open to the server before.
    """

    source: FactsSource
    verify: Converge

    def __call__(self) -> Outcome:
        """Verify everything."""
        return self.verify(self.source.read())
