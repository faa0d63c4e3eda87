"""Intent: observers such as Prometheus, Grafana and Loki know what they need of this application."""

import dataclasses
import logging

from app.errors import PoolerFailed
from app.outcome import Done
from app.ports import Peers, Telemetry
from domain import sentences
from domain.facts import Facts
from domain.leadership import may_write_for_app
from domain.observers import identity, told

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class TellObservers:
    """Tells observers of this unit and, on the leader, of the application; sends log lines to Loki.

    - The leader tells the observers again if something has changed since an earlier hook, or with `verify`.
    - Each unit tells Prometheus its address, and sends the log lines of its container to each Loki unit.
    - A unit that is being removed changes nothing: its relations end while other units keep them.
    """

    telemetry: Telemetry
    peers: Peers
    verify: bool

    def __call__(self, facts: Facts) -> Done:
        """Write what is missing. Observers are no condition of anything, so a failure is only a sentence."""
        if facts.leaving:
            return Done(facts)
        if facts.telemetry.metrics and facts.address:
            self.telemetry.announce(facts.address)
        return self._forwarding(self._telling(facts))

    def _telling(self, facts: Facts) -> Facts:
        """Tell the observers of the application, and return the facts after that.

        The ledger records what they were told, so that other hooks need not read the databags.
        """
        if not may_write_for_app(facts) or not facts.telemetry.relations or facts.plan is None:
            return facts
        what = told(facts, facts.plan)
        known = identity(facts, what)
        changed = known != facts.ledger.told_observers
        if self.verify or changed:
            self.telemetry.tell(what)
        if changed:
            facts = facts.recording(facts.ledger.telling_observers(known))
            self.peers.record(facts.ledger)
        return facts

    def _forwarding(self, facts: Facts) -> Done:
        """Send log lines where they have to go, and return the outcome."""
        seen = facts.telemetry
        if seen.loki == seen.forwarded or not facts.container.reachable:
            return Done(facts)
        try:
            self.telemetry.forward(seen.loki)
        except PoolerFailed as error:
            logger.warning("The targets of log lines stay as they are: %s", error)
            return Done(facts, (sentences.LOGS_NOT_SENT.problem("logging", reason=error),))
        return Done(facts.forwarding(seen.loki))
