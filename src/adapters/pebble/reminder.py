"""Run the unit again after a delay without an event of Juju, by a Pebble check that fails."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import ops

from adapters.pebble.names import ASK_AGAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

# The key of the notice that is recorded if Pebble cannot start a single check.
AGAIN = "pgbouncer-k8s.charm/ask-again"

# Seconds until the next attempt. The last delay is repeated.
DELAYS = (1, 2, 4, 8, 16, 30)
# Seconds without progress, after which only update-status runs the unit again.
GIVE_UP = 300.0

# The environment of the check keeps the state of the reminder between hooks.
_TOPIC, _SINCE, _ATTEMPT = "TOPIC", "SINCE", "ATTEMPT"


class PebbleReminder:
    """Runs this unit again after a delay, with a pebble-check-failed event.

    Juju sends a unit events about changes in Juju. When PostgreSQL begins to let a client in, Juju sends
    no event. A Pebble notice would arrive at once. A check runs for the first time after its period: a
    check that always fails is a timer that survives the hook and needs only a shell in the container.
    There is a single check, which each reminder replaces. It has `startup: disabled`, because Pebble
    starts every other check whenever a layer changes.
    """

    def __init__(self, container: ops.Container) -> None:
        self._container = container

    def remind(self, topic: str) -> bool:
        """Run this unit again after a delay, or at once; return False if Pebble does neither.

        `topic` names what is missing. While `topic` does not change, each delay is longer than the
        delay before; with another `topic` the delays begin again.
        """
        now = time.time()
        try:
            before = self._before()
            since, attempt = _since(before, topic, now), 0.0
            if since < now:
                if self._runs():
                    return True  # An event of another kind came first.
                attempt = _number(before, _ATTEMPT) + 1
            if now - since < GIVE_UP:
                self._set(topic, since, int(max(0, min(attempt, len(DELAYS) - 1))))
        except ops.pebble.APIError:
            return self._at_once(topic, now)
        except (ops.pebble.Error, OSError):
            return False
        return True

    def _at_once(self, topic: str, now: float) -> bool:
        """Record a notice, for a Pebble that cannot start single checks; return False if that fails, too."""
        try:
            known = next(iter(self._container.get_notices(keys=[AGAIN])), None)
            since = _since(known.last_data if known else {}, topic, now)
            if now - since < GIVE_UP:
                self._container.pebble.notify(
                    ops.pebble.NoticeType.CUSTOM,
                    AGAIN,
                    data={_TOPIC: topic, _SINCE: str(since)},
                )
        except (ops.pebble.Error, OSError):
            return False
        return True

    def stop(self) -> None:
        """Stop the check, until the next reminder sets it again."""
        try:
            self._container.pebble.stop_checks([ASK_AGAIN])
        except (ops.pebble.Error, OSError):
            return

    def _before(self) -> Mapping[str, str]:
        check = self._container.get_plan().checks.get(ASK_AGAIN)
        return (check.exec or {}).get("environment", {}) if check else {}

    def _runs(self) -> bool:
        up = ops.pebble.CheckStatus.UP
        checks = self._container.pebble.get_checks(names=[ASK_AGAIN])
        return any(check.status is up for check in checks)

    def _set(self, topic: str, since: float, attempt: int) -> None:
        delay = DELAYS[attempt]
        known = {_TOPIC: topic, _SINCE: since, _ATTEMPT: attempt}
        check: ops.pebble.CheckDict = {
            "override": "replace",
            "startup": "disabled",
            "period": f"{delay}s",
            "timeout": f"{delay}s",
            "threshold": 1,
            "exec": {
                "command": 'sh -c "exit 1"',
                "environment": {name: str(value) for name, value in known.items()},
            },
        }
        layer = ops.pebble.Layer({"checks": {ASK_AGAIN: check}})
        self._container.add_layer(ASK_AGAIN, layer, combine=True)
        self._container.pebble.start_checks([ASK_AGAIN])


def _since(before: Mapping[str, str], topic: str, now: float) -> float:
    """Return when the unit began to wait for `topic`; now, if the reminder before had another topic."""
    since = _number(before, _SINCE)
    # A time in the future (the clock was set back), or of long ago, does not count.
    return since if before.get(_TOPIC) == topic and 0 <= now - since < 2 * GIVE_UP else now


def _number(known: Mapping[str, str], name: str) -> float:
    """Return a number that a reminder wrote; 0.0 if the text is not a finite number."""
    try:
        found = float(known.get(name, "0"))
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0
