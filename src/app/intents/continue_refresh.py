"""Intent: a unit that serves the plan does not hold back the refresh of the next unit."""

import dataclasses
import logging

from app.errors import RolloutFailed, RolloutForbidden
from app.outcome import AskAgain, Done
from app.ports import Pooler, Rollout
from domain import refresh
from domain.facts import Facts
from domain.leadership import may_write_for_app

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class ContinueRefresh:
    """Lower the partition of the StatefulSet that the unit before it in the same pod has set.

    - Each unit asks Kubernetes a single time after its container has started: when it serves the plan in force.
    - The leader also looks, where `looks` says so, for a partition that no unit lowers: a unit was removed, or
      could not ask Kubernetes.
    - Without trust Kubernetes answers nothing, and no unit has set a partition.
    """

    rollout: Rollout
    pooler: Pooler
    looks: bool = False

    def __call__(self, facts: Facts) -> Done | AskAgain:
        """Lower the partition if this unit holds it, and keep that in the record of what was applied."""
        serves = refresh.may_let_next_go(facts)
        looks = self.looks and may_write_for_app(facts)
        if not serves and not looks:
            return Done(facts)

        def decide(update: refresh.RollingUpdate) -> int | None:
            partition = refresh.let_next_go(update) if serves else None
            if partition is None and looks:
                return refresh.without_left(update, refresh.highest_that_stays(facts))
            return partition

        try:
            before = self.rollout.adjust(decide)
        except RolloutForbidden:
            logger.debug("Kubernetes does not show the refresh of the pods without trust")
        except RolloutFailed as error:
            logger.warning("The refresh of the next unit waits: %s", error)
            return AskAgain(
                facts,
                "waiting for Kubernetes to continue a refresh",
                (refresh.waits(facts, error),),
            )
        else:
            if (partition := decide(before)) is not None:
                logger.info("Units from number %d on may be refreshed", partition)
        record = facts.container.applied
        if serves and record:
            self.pooler.remember(record.letting_next_go())
            facts = facts.with_container(facts.container.remembering(record.letting_next_go()))
        return Done(facts)
