"""Steps of a history in which an operator runs actions, time passes, and processes start again."""

import contextlib

from crash_core import run
from hypothesis import strategies as st
from hypothesis.stateful import rule
from removals import MOST_UNITS

from app.errors import ActionFailed
from domain.operations import KillOrder

# What an operator asks the leader for.
ORDERS = {
    "pause": lambda unit: unit.pause(),
    "pause for a time": lambda unit: unit.pause(timeout=60),
    "pause shop": lambda unit: unit.pause("shop", 60),
    "resume": lambda unit: unit.resume(),
    "resume shop": lambda unit: unit.resume("shop"),
    "disable shop": lambda unit: unit.disable("shop"),
    "enable shop": lambda unit: unit.enable("shop"),
    "restart": lambda unit: unit.restart(),
    "reconnect": lambda unit: unit.reconnect(),
    "kill": lambda unit: unit.kill(KillOrder(database="shop")),
    "show": lambda unit: unit.show(),
    "report": lambda unit: unit.report(),
}


class Ordering:
    """The rules of `proof/test_histories.py` about an operator."""

    @rule(order=st.sampled_from(sorted(ORDERS)), last=st.none() | st.integers(0, 15))
    def operator_gives_an_order(self, order, last):
        name = self.model.leader
        if name in self.failed:
            return

        def give(unit):
            with contextlib.suppress(ActionFailed):
                ORDERS[order](unit)

        run(self.platform, name, give, last)
        self.after(name)

    @rule(seconds=st.sampled_from([1, 30, 300]))
    def time_passes(self, seconds):
        for unit in self.platform.units.values():
            unit.pooler.now += seconds

    @rule(place=st.integers(0, MOST_UNITS), number=st.integers(0, 3))
    def process_starts_again(self, place, number):
        names = list(self.platform.units)
        pooler = self.platform.units[names[place % len(names)]].pooler
        if running := sorted(pooler.running):
            pooler.starts_again(running[number % len(running)])
