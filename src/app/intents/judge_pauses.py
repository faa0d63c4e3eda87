"""Intent: a pause that is not complete in time is taken back on every unit."""

import dataclasses
import logging

from app.outcome import AskAgain, Done
from app.ports import Peers
from domain import operation_sentences, orders
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.problems import PAUSE

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class JudgePauses:
    """Ends pauses, on the leader, whose time is over while a client keeps a server connection.

    The ledger keeps which client that was, until there is another pause.
    """

    peers: Peers

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Share the plan without these pauses; ask again while a pause may still be taken back."""
        plan = facts.plan
        if plan is None or not plan.paused or not may_write_for_app(facts):
            return Done(facts)
        judged, expired = orders.after_pauses(facts, plan)
        for pause in expired:
            waiting = orders.waited_for(facts, pause)
            what = orders.named((pause.database,))
            problem = operation_sentences.PAUSE_TAKEN_BACK.problem(
                PAUSE,
                database=what,
                seconds=pause.until - pause.since,
                reason=orders.held_by(orders.first_holder(facts), facts.now, waiting),
            )
            logger.warning("%s", problem.text)
            ledger = facts.ledger.with_problem(problem)
            self.peers.record(ledger)
            facts = facts.recording(ledger)
        if judged != plan:
            self.peers.share(judged)
            facts = facts.sharing(judged)
        ends = [pause.until for pause in judged.paused if pause.until]
        if ends:
            # In tens of seconds, so that the reminder begins again with short delays.
            left = max(0, int(min(ends) - facts.now)) // 10 * 10
            return AskAgain(facts, f"waiting until the pause is complete, for {left} s or more")
        return Done(facts)
