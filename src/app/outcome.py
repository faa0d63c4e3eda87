"""How did a use case end, and what is true now?"""

from typing import NamedTuple

from domain.facts import Facts
from domain.value import digest


class Done(NamedTuple):
    """All that could be done was done."""

    facts: Facts
    settled: bool = (
        False  #: and there was nothing to do; until the facts change, it will be so again
    )


class Deferred(NamedTuple):
    """Something was missing. To be run again at any later time, which is always safe."""

    facts: Facts
    reason: str
    soon: bool = False  #: nobody will tell us when it is there: ask again in a moment

    @property
    def topic(self) -> str:
        """Return a digest of what is missing, which changes with any progress."""
        known = self.facts.container.applied
        progress = (
            known.model_dump(mode="json") if known else None,
            [client.told is not None for client in self.facts.clients],
            [grant.username for grant in self.facts.ledger.grants],
        )
        return digest([self.reason, progress])


Outcome = Done | Deferred
