"""Limit the time that a hook waits for servers and processes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# Juju runs the hooks of a unit in sequence: a hook that waits delays every other event of the unit.
HOOK_SECONDS = 2.0


class WaitingBudget:
    """The seconds that a hook may still wait, for all adapters together.

    Only waiting is counted, not work: a hook that makes twenty databases takes its time, and may
    still wait for as long as any other hook.

        budget = WaitingBudget()
        with budget.spent(at_most=1.0) as seconds:
            connection, _, _ = select.select([socket], [], [], seconds)
        while not ready() and budget.pause(0.2):
            ...
    """

    def __init__(
        self,
        seconds: float = HOOK_SECONDS,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._left = seconds
        self._clock = clock
        self._sleep = sleep

    def left(self) -> float:
        """Return the seconds that are left; 0.0 if all are used."""
        return max(0.0, self._left)

    @contextmanager
    def spent(self, at_most: float, work: float = 0.0) -> Generator[float]:
        """Yield the seconds that the block may wait, and subtract the time that it took.

        The first `work` seconds are not subtracted if the block ends without an error: the block takes
        them also where it waits for nothing. If the block takes longer than allowed, `left` is 0.0
        afterwards. Nested blocks are not supported: their time would be subtracted twice.
        """
        began, free = self._clock(), 0.0
        try:
            yield min(at_most, self.left())
            free = work
        finally:
            self._left -= max(0.0, self._clock() - began - free)

    def subtract(self, seconds: float) -> None:
        """Subtract a wait that an error reports afterwards, for example a lock timeout."""
        self._left -= seconds

    def pause(self, seconds: float) -> bool:
        """Sleep for `seconds`, and return True; return False at once if less than that is left."""
        if self.left() < seconds:
            return False
        with self.spent(seconds):
            self._sleep(seconds)
        return True
