"""How a hook or an intent ended.

Done        nothing is left to do
Deferred    Juju delivers the event again, with its next event
AskAgain    the platform runs the unit again after a short delay
"""

from collections.abc import Mapping
from typing import NamedTuple

from domain.facts import Facts
from domain.problems import Problem
from domain.value import digest


class Done(NamedTuple):
    """Everything that could be done was done."""

    facts: Facts
    # What failed on this unit in this hook.
    problems: tuple[Problem, ...] = ()
    # There was nothing to do, and as long as the facts stay the same, there will be nothing to do.
    unchanged: bool = False
    # Nothing is left to do and nothing is wrong: as long as the facts stay as they are now, no hook does anything.
    complete: bool = False


class Deferred(NamedTuple):
    """Something is missing that an event will bring. The hook runs again with that event."""

    facts: Facts
    reason: str
    problems: tuple[Problem, ...] = ()
    # As long as the facts stay as they are now, the hook only defers the event again, and no hook does anything.
    complete: bool = False


class AskAgain(NamedTuple):
    """Something is missing, and no event of Juju will tell the unit when it is there."""

    facts: Facts
    reason: str
    problems: tuple[Problem, ...] = ()

    @property
    def topic(self) -> str:
        """Return a digest of what is missing, which changes with any progress."""
        applied = self.facts.container.applied
        progress = (
            applied.model_dump(mode="json") if applied else None,
            [client.published is not None for client in self.facts.clients],
            [grant.username for grant in self.facts.ledger.grants],
        )
        return digest([self.reason, progress])


Outcome = Done | Deferred | AskAgain


class Answer(NamedTuple):
    """What an operator is answered who asked for something, and how the hook ended that did it."""

    # The values are texts, numbers, or mappings of such values.
    results: Mapping[str, object]
    # None if no hook ran.
    outcome: Outcome | None = None
    # Why what was asked could not be done, for the operator; '' if it was done.
    failure: str = ""
