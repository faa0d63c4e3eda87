"""Histories of an application whose Service changes: its kind, trust, nodes and load balancers."""

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from profiles import LONG_HISTORIES
from proof.test_histories import History
from removals import MOST_UNITS

from app.errors import ExposureFailed


class ExposedHistory(History):
    """A history with Kubernetes. What a client was told leads to units after every step."""

    @initialize(units=st.integers(1, 3), clients=st.integers(0, 2), begun=st.booleans())
    def begin(self, units, clients, begun):
        super().begin(units=units, cpus=1, service=True, begun=begun, clients=clients)
        # How often units had looked at the Service when the load balancer last got or lost addresses.
        self.looks = -1

    def the_sum_of_limits_is_within_the_limit(self):
        """Leave the limits to the histories of proof/test_histories.py."""

    @rule(
        kind=st.sampled_from(["false", "nodeport", "loadbalancer"]),
        policy=st.sampled_from(["cluster", "local"]),
    )
    def exposure_changes(self, kind, policy):
        changed = {"expose-external": kind, "external-traffic-policy": policy}
        self.model.options = self.model.options | changed

    @rule(trusted=st.booleans())
    def trust_is_given_or_taken(self, trusted):
        self.platform.kubernetes.trusted = trusted

    @rule(addresses=st.integers(0, 2))
    def load_balancer_gets_addresses(self, addresses):
        self.give(("203.0.113.1", "2001:db8::1")[:addresses])

    def give(self, ingress):
        """Give the load balancer these addresses, of which Kubernetes sends no event."""
        kubernetes = self.platform.kubernetes
        if ingress != kubernetes.ingress:
            kubernetes.ingress = ingress
            self.looks = kubernetes.requests.count("expose")

    def check_complete(self, name):
        """Check it unless update-status is the first hook to see what the load balancer has now."""
        if self.looks != self.platform.kubernetes.requests.count("expose"):
            super().check_complete(name)

    @rule(place=st.integers(0, MOST_UNITS), ready=st.booleans())
    def kubernetes_finds_a_unit_ready_or_not(self, place, ready):
        name = self.staying()[place % len(self.staying())]
        unready = self.platform.kubernetes.unready
        unready.discard(name) if ready else unready.add(name)

    @rule(fails=st.booleans())
    def kubernetes_fails_or_answers(self, fails):
        self.platform.kubernetes.error = ExposureFailed("500") if fails else None

    def come_to_rest(self):
        kubernetes = self.platform.kubernetes
        kubernetes.error = None
        self.give(kubernetes.ingress or ("203.0.113.9",))
        kubernetes.unready.clear()
        super().come_to_rest()


TestExposedHistories = ExposedHistory.TestCase
TestExposedHistories.settings = LONG_HISTORIES
