"""The stop hook, which ends with the pod."""

import dataclasses
import logging

from app.errors import RolloutFailed, RolloutForbidden
from app.ports import Departures, Rollout
from domain.refresh import RollingUpdate, hold

logger = logging.getLogger(__name__)

# Seconds to wait for Kubernetes: without its answer a release that fails may reach another unit, and no later
# hook of this unit asks. Kubernetes gives the pod 30 seconds to end.
SECONDS = 6.0


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """The stop hook: the pod of this unit ends.

    - If a refresh replaces the pod, the units with lower numbers keep their release until the new unit serves.
    - If the pod ends before its turn, it comes back with its release.
    - A unit that is being removed holds nothing back.
    - The hook never fails: without an answer of Kubernetes the refresh goes on as Kubernetes decides.
    """

    rollout: Rollout
    departures: Departures

    def __call__(self) -> None:
        """Hold back the next unit, if a refresh replaces this unit."""
        try:
            partition = self._decide(self.rollout.adjust(self._decide, SECONDS))
        except (RolloutForbidden, RolloutFailed) as error:
            logger.info("Kubernetes alone decides when the next unit is refreshed: %s", error)
            return
        if partition is not None:
            logger.info(
                "Units below number %d wait until unit %d serves its new release",
                partition,
                partition,
            )

    def _decide(self, update: RollingUpdate) -> int | None:
        """Return the partition to set; None if it stays."""
        partition = hold(update)
        return None if partition is None or self.departures.leaves() else partition
