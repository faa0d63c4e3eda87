"""Run all intents, in the order of the application."""

from typing import Protocol

from app.outcome import AskAgain, Done
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.problems import Problem


class Intent(Protocol):
    """Something that has to be true after a hook."""

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Make it true where it is not, and return the facts after that."""
        ...


class Converge:
    """Runs the intents that all hooks share, so that any hook makes up for a hook that was lost."""

    def __init__(self, *intents: Intent) -> None:
        self._intents = intents

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Run every intent; return AskAgain with the reason of the first intent that has to wait."""
        before, reason = facts, ""
        problems: tuple[Problem, ...] = ()
        for intent in self._intents:
            outcome = intent(facts)
            facts, problems = outcome.facts, (*problems, *outcome.problems)
            if isinstance(outcome, AskAgain):
                reason = reason or outcome.reason
        if reason:
            return AskAgain(facts, reason, problems)
        may_change = problems or facts.has_problems or (may_write_for_app(facts) and facts.roaming)
        complete = not may_change
        return Done(facts, problems, facts == before and complete, complete)
