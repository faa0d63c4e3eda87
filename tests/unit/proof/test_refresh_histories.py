"""Histories of refreshes: pods end, move and come back in any order, hooks are killed, and releases fail.

In the end a release that works reaches every unit, and no partition stays.
"""

import contextlib
import functools

from crash_core import run, twin
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from in_memory import related
from profiles import CHOSEN
from rolling import Refresh

from app.errors import ActionFailed
from domain.value import number_of

MOST_UNITS = 4


@functools.cache
def served(units):
    """Return units that serve a client, to copy."""
    platform = related(units=units, service_host="pool")
    platform.relate("shop-app", "shop")
    return platform


class RefreshHistory(RuleBasedStateMachine):
    """Units with an operator who refreshes them, Kubernetes, and faults."""

    @initialize(units=st.integers(2, 3), faults=st.booleans())
    def begin(self, units, faults):
        # Whether trust comes and goes, Kubernetes is silent, and pods end without their last hook.
        self.faults = faults
        self.platform = twin(served(units))
        self.refresh = Refresh(self.platform)
        self.pods = self.platform.kubernetes.pods
        # Whether every pod has ended with its last hook, and with trust.
        self.heard = True
        # Releases that fail.
        self.bad = set()

    def place(self, number):
        names = sorted(self.platform.units, key=number_of)
        return names[number % len(names)]

    def replaced(self, name, **killed):
        """Replace a pod, whose hooks fail if its new release does."""
        newest = number_of(name) >= self.pods.partition
        release = self.pods.newest if newest else self.pods.current
        self.refresh.failing = {name} if release in self.bad else set()
        self.refresh.replace(name, **killed)

    # ---- the operator -----------------------------------------------------------------------
    @rule(fails=st.booleans(), pods=st.integers(0, 3))
    def operator_refreshes(self, fails, pods):
        """Refresh, while Kubernetes replaces some pods."""
        self.refresh.begin()
        if fails:
            self.bad.add(self.pods.newest)
        for _ in range(pods):
            self.kubernetes_replaces_the_next_unit(None, None)

    @rule()
    def operator_asks(self):
        for action in (
            self.platform.leader.pre_upgrade_check,
            self.platform.leader.resume_upgrade,
        ):
            with contextlib.suppress(ActionFailed):
                assert action()

    @precondition(lambda self: self.faults)
    @rule()
    def trust_is_given_or_taken(self):
        self.platform.kubernetes.trusted = not self.platform.kubernetes.trusted
        self.heard = False

    @precondition(lambda self: len(self.platform.units) < MOST_UNITS)
    @rule()
    def a_unit_is_added(self):
        unit = self.platform.add_unit()
        self.pods.releases.pop(unit.name, None)
        self.pods.comes_back(unit.name, self.platform.units)
        release = self.pods.release(unit.name)
        for hook in ("peers_created", "start", "pebble_ready") if release not in self.bad else ():
            getattr(unit, hook)()

    @precondition(lambda self: len(self.platform.units) > 1)
    @rule()
    def the_highest_unit_is_removed(self):
        name = max(self.platform.units, key=number_of)
        self.platform.remove_unit(name, between=lambda unit: unit.stop())
        self.pods.releases.pop(name, None)

    # ---- Kubernetes -------------------------------------------------------------------------
    @rule(stop=st.none() | st.integers(0, 2), new=st.none() | st.integers(0, 6))
    def kubernetes_goes_on(self, stop, new):
        self.kubernetes_replaces_the_next_unit(stop, new)

    def kubernetes_replaces_the_next_unit(self, stop, new):
        if name := self.refresh.next():
            stop = stop if self.faults else None
            self.heard = self.heard and stop is None
            self.replaced(name, stop=stop, new=new)

    @rule(number=st.integers(0, MOST_UNITS), stop=st.none() | st.integers(0, 1))
    def a_pod_moves(self, number, stop):
        self.replaced(self.place(number), stop=stop if self.faults else None)

    @precondition(lambda self: self.faults)
    @rule(number=st.integers(0, MOST_UNITS))
    def a_pod_dies(self, number):
        """Without the hook stop."""
        name = self.place(number)
        self.heard = False
        self.replaced(name, stop=0)

    @precondition(lambda self: self.faults)
    @rule(fails=st.booleans())
    def kubernetes_is_silent_or_answers(self, fails):
        failing = self.platform.kubernetes.failing
        failing.add("adjust") if fails else failing.discard("adjust")
        self.heard = self.heard and not fails

    @rule(
        number=st.integers(0, MOST_UNITS),
        hook=st.sampled_from(["update_status", "peers_changed", "config_changed"]),
        last=st.none() | st.integers(0, 6),
    )
    def a_hook_runs(self, number, hook, last):
        name = self.place(number)
        if self.pods.release(name) not in self.bad:
            run(self.platform, name, lambda unit: getattr(unit, hook)(), last)

    # ---- what is always true ----------------------------------------------------------------
    @invariant()
    def no_partition_is_above_every_unit(self):
        highest = max(map(number_of, self.platform.units))
        assert self.pods.partition <= highest or not self.heard

    def teardown(self):
        if not hasattr(self, "platform"):
            return
        kubernetes = self.platform.kubernetes
        kubernetes.trusted = True
        kubernetes.failing.clear()
        if self.platform.model.leader in self.platform.units:
            self.platform.leader.leader_elected()
        if self.pods.newest in self.bad:
            self.refresh.begin()
        for _ in range(5 * MOST_UNITS):
            while name := self.refresh.next():
                self.replaced(name)
            for unit in self.platform.units.values():
                if self.pods.release(unit.name) not in self.bad:
                    unit.update_status()
            if self.refresh.next() is None and self.pods.partition == 0:
                break
            if not self.heard:
                # Trust was missing when a unit asked: the operator lets the next unit go.
                self.platform.leader.resume_upgrade(force=True)
        assert self.pods.partition == 0, self.pods
        assert {self.pods.release(name) for name in self.platform.units} == {self.pods.newest}


TestRefreshHistories = RefreshHistory.TestCase
TestRefreshHistories.settings = settings(CHOSEN, max_examples=CHOSEN.max_examples // 5)
