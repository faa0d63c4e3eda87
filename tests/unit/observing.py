"""Steps of a history in which observers come, answer and go, and what observers know at the end."""

from hypothesis import strategies as st
from hypothesis.stateful import rule
from in_memory import OBSERVERS, loki

from domain.observers import told


class Observing:
    """The rules of `proof/test_histories.py` about Prometheus, Grafana, Loki and Sloth."""

    @rule(endpoint=st.sampled_from(OBSERVERS))
    def observer_comes_or_goes(self, endpoint):
        observers = self.platform.observers
        known = [number for number, name in observers.relations.items() if name == endpoint]
        if known:
            observers.unrelate(known[0])
        else:
            observers.relate(endpoint)

    @rule(count=st.integers(0, 2))
    def loki_units_change(self, count):
        self.platform.observers.loki = loki(count)

    @rule(place=st.integers(0, 3))
    def log_lines_are_refused_or_taken_again(self, place):
        names = list(self.platform.units)
        telemetry = self.platform.units[names[place % len(names)]].telemetry
        telemetry.refuses = "" if telemetry.refuses else "the container refuses"

    @rule(refused=st.booleans())
    def an_observer_answers(self, refused):
        self.platform.observers.answers = ("prometheus: refuses a rule",) if refused else ()

    def check_observers(self, facts):
        """Every observer was told what the leader knows, and log lines go to every Loki unit."""
        observers, plan = self.platform.observers, self.model.plan
        if observers.relations:
            assert observers.told == dict.fromkeys(observers.relations, told(facts, plan))
        expected = observers.loki if observers.has("logging") else ()
        for name, unit in self.platform.units.items():
            assert unit.telemetry.forwarded == expected
            if observers.has("metrics-endpoint"):
                assert observers.addresses[name] == self.model.units[name].address
