"""Run all intents, in the order of the application."""

from typing import Protocol

from app.outcome import AskAgain, Done
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.problems import Problem
from domain.rotating import goes_on

# The leader shares a plan, its processes close connections, and the plan gives these to other units: two runs that
# change something, and a run that changes nothing.
_MOST_RUNS = 3


class Intent(Protocol):
    """Something that has to be true after a hook."""

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Make it true where it is not, and return the facts after that."""
        ...


class Converge:
    """Runs the intents that all hooks share, so that any hook makes up for a hook that was lost.

    A later intent can change what an earlier intent depends on: the leader shares out the connections that
    its own processes have given up, and then its own processes may have more. So if the intents changed
    anything, they run again, until they change nothing, which the record of the hook then says. `again` are
    the intents for that: they verify nothing.
    """

    def __init__(self, *intents: Intent, again: "Converge | None" = None) -> None:
        self._intents = intents
        self._again = again or self

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Run every intent; return AskAgain with the reason of the first intent that has to wait."""
        problems: dict[Problem, None] = {}
        before, changed = facts, False
        for intents in (self._intents, *[self._again._intents] * (_MOST_RUNS - 1)):
            before, reason = facts, ""
            for intent in intents:
                outcome = intent(facts)
                facts = outcome.facts
                problems |= dict.fromkeys(outcome.problems)
                if isinstance(outcome, AskAgain):
                    reason = reason or outcome.reason
            if reason:
                return AskAgain(facts, reason, tuple(problems))
            if facts == before:
                break
            changed = True
        writes = may_write_for_app(facts)
        # No value of the platform shows that a process was started again, and has to be paused.
        may_change = (
            problems
            or facts.has_problems
            or facts.operated
            or (writes and (facts.roaming or goes_on(facts)))
        )
        complete = facts == before and not may_change
        return Done(facts, tuple(problems), unchanged=complete and not changed, complete=complete)
