"""What an operator asks: pause, resume, disable, enable, restart, reconnect and disconnect clients."""

import dataclasses
from collections.abc import Callable

from app.converge import Converge
from app.errors import ActionFailed
from app.leader_only import check_may_write
from app.outcome import Outcome
from app.ports import FactsSource, Peers
from domain import orders
from domain.capabilities import KILLS_CLIENTS
from domain.facts import Facts
from domain.operations import ALL, KillOrder
from domain.plan import Plan
from domain.problems import PAUSE


@dataclasses.dataclass(frozen=True, slots=True)
class Operate:
    """Puts what an operator asks into the plan, and converges.

    - Only the leader takes an order. Other units follow the plan by their hooks.
    - An order that is carried out already changes nothing.
    - Every method may raise ActionFailed.
    """

    source: FactsSource
    peers: Peers
    converge: Converge

    def pause(self, database: str = ALL, timeout: int = 0) -> Outcome:
        """Let no transaction begin on a database, or on all.

        With `timeout` the pause is taken back if open transactions have not ended after so many seconds.
        """

        def change(facts: Facts, plan: Plan) -> Plan:
            return orders.pausing(plan, database, facts.now, timeout)

        return self._order("pause", database, change)

    def resume(self, database: str = ALL) -> Outcome:
        """End the pause of a database, or every pause, with new server connections."""
        return self._order("resume", database, lambda _, plan: orders.resuming(plan, database))

    def disable(self, database: str) -> Outcome:
        """Let no client log in to a database. Clients that are connected stay."""
        return self._order("disable", database, lambda _, plan: orders.disabling(plan, database))

    def enable(self, database: str) -> Outcome:
        """Let clients log in to a database again."""
        return self._order("enable", database, lambda _, plan: orders.enabling(plan, database))

    def restart(self) -> Outcome:
        """Restart every process: the units in turn, and the processes of each unit in turn."""
        return self._order("restart", ALL, lambda facts, plan: orders.restarting(plan, facts))

    def reconnect(self) -> Outcome:
        """Replace every server connection when its transaction ends; in session mode its session ends then."""
        return self._order("reconnect", ALL, lambda facts, plan: orders.reconnecting(plan, facts))

    def kill(self, order: KillOrder) -> Outcome:
        """Disconnect the clients that match an order, in every process of every unit."""

        def change(facts: Facts, plan: Plan) -> Plan:
            version = facts.container.version
            if version and version < KILLS_CLIENTS:
                needed = f"{KILLS_CLIENTS.major}.{KILLS_CLIENTS.minor}"
                raise orders.OrderRefused(
                    f"PgBouncer {version} cannot disconnect a client: refresh to an image with {needed} or later"
                )
            return orders.killing(plan, order, facts)

        return self._order("kill-clients", ALL, change)

    def _order(self, action: str, database: str, change: Callable[[Facts, Plan], Plan]) -> Outcome:
        facts = self.source.read()
        check_may_write(facts, action, database)
        if facts.plan is None:
            raise ActionFailed("there is no configuration yet: wait until the unit is active")
        try:
            wanted = change(facts, facts.plan)
        except orders.OrderRefused as error:
            raise ActionFailed(str(error)) from None
        if action in ("pause", "resume") and facts.ledger.has(PAUSE):
            ledger = facts.ledger.without(PAUSE)
            self.peers.record(ledger)
            facts = facts.recording(ledger)
        if wanted != facts.plan:
            self.peers.share(wanted)
            facts = facts.sharing(wanted)
        return self.converge(facts)
