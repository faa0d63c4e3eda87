"""What follows once a hook's own conditions hold? The same for every hook."""

from typing import Protocol

from app.outcome import Deferred, Done, Outcome
from domain.facts import Facts
from domain.leadership import may_write_for_app


class Intent(Protocol):
    """Something that is to be true; acts only where it is not."""

    def __call__(self, facts: Facts, *, verify: bool) -> Outcome:
        """Make it true, and return what is true now."""
        ...


class Converge:
    """Brings everything to what the facts call for, in the order in which it has to be true.

    Whichever hook Juju delivers, and whichever it does not, the end is the same. Each intent does
    nothing where nothing is to be done, so that a quiet hook costs one look.
    """

    def __init__(self, *intents: Intent) -> None:
        self._intents = intents

    def __call__(self, facts: Facts, *, verify: bool = False) -> Outcome:
        """All intents hold as far as they can; the first that has to wait gives the reason.

        `thorough` asks PostgreSQL and the platform also where our own records say that all is well.
        """
        seen, waiting = facts, None
        for intent in self._intents:
            outcome = intent(facts, verify=verify)
            facts = outcome.facts
            if isinstance(outcome, Deferred):
                waiting = waiting or outcome
        if waiting:
            return waiting._replace(facts=facts)
        quiet = not facts.has_problems and not (may_write_for_app(facts) and facts.roaming)
        return Done(facts, settled=facts == seen and quiet)
