"""How did a use case end, and what is true now?"""

from typing import NamedTuple

from domain.facts import Facts


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


Outcome = Done | Deferred
