"""Histories of refreshes: pods end, move and come back in any order, hooks are killed, and releases fail.

- A release that fails stays on a single unit of those that served before.
- Only a unit that serves, the leader and the operator lower a partition.
- In the end a release that works reaches every unit, and no partition stays.
"""

import contextlib

from crash_core import twin
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from profiles import LONG_HISTORIES
from rolling import HOOKS, Refresh, served

from app.errors import ActionFailed
from app.outcome import AskAgain
from domain.refresh import serves_plan
from domain.value import number_of

MOST_UNITS = 4
# The last hook of a new pod after which it has done everything that no other unit waits for.
ALL_HOOKS = len(HOOKS)
# How many hooks a new pod runs before something else happens.
HOOKS_RUN = st.sampled_from([ALL_HOOKS, ALL_HOOKS, 0, 1, 2])
# How a release fails, if it does.
FAILURES = st.sampled_from(["", "", "hooks fail", "PgBouncer refuses its configuration"])


class RefreshHistory(RuleBasedStateMachine):
    """Units with an operator who refreshes them, Kubernetes, and faults."""

    @initialize(
        units=st.sampled_from([2, 3, 3, 4]),
        faults=st.booleans(),
        fails=FAILURES,
        pods=st.integers(0, MOST_UNITS),
        again=st.booleans(),
    )
    def begin(self, units, faults, fails, pods, again):
        # Whether trust comes and goes, Kubernetes is silent, and pods end without their last hook.
        self.faults = faults
        self.platform = twin(served(units))
        self.refresh = Refresh(self.platform)
        self.pods = self.platform.kubernetes.pods
        # Whether each last hook of a pod has run with an answer of Kubernetes, and whether there was trust always.
        self.heard = self.trusted = True
        # How releases fail.
        self.bad = {}
        # The hooks that each unit has to run, and the units that have served since their pods began.
        self.due = {}
        self.served = set(self.platform.units)
        # The units that have served, each with the release that its pod had.
        self.worked = set()
        # Units that were added, or whose pods had ended before a refresh began, and that no refresh has replaced
        # since: no stop hook could hold back the next unit.
        self.unheld = set()
        # A rollout was undone when no pod had its release, or Kubernetes was silent while a unit was removed, and
        # no partition has been lowered since.
        self.stays = False
        self.operator_refreshes(fails="" if again else fails, back=False)
        for _ in range(pods):
            self.kubernetes_replaces_the_next_unit(None, None, ALL_HOOKS)
        if again and pods < units:
            self.operator_refreshes(fails=fails, back=False)

    def place(self, number):
        names = sorted(self.platform.units, key=number_of)
        return names[number % len(names)]

    def fails(self, name):
        return self.pods.release(name) in self.bad

    def crashes(self, name):
        return self.bad.get(self.pods.release(name)) == "hooks fail"

    def rests(self):
        """Return whether no refresh is under way, also none back, and every unit has run its hooks."""
        complete = self.pods.current == self.pods.newest and self.have_the_newest_release()
        return complete and not self.due and not self.pods.ended

    def have_the_newest_release(self):
        """Return whether every pod has the newest release.

        After `kubectl rollout undo` the status of the StatefulSet has a single revision, and Kubernetes still has
        to replace the pods with the release before. The partition falls when such a pod serves again.
        """
        return all(self.pods.release(name) == self.pods.newest for name in self.platform.units)

    # ---- hooks ------------------------------------------------------------------------------
    def hook(self, name, hook, last=None):
        """Run a hook, and remember what a reminder brings."""
        before, highest = self.pods.partition, max(map(number_of, self.platform.units))
        outcome = self.refresh.hook(name, hook, last)
        facts = self.platform.units[name].read()
        if serves_plan(facts):
            self.serves(name)
        if isinstance(outcome, AskAgain) and name not in self.due:
            self.due[name] = ["update_status"]
        if self.pods.partition >= before:
            return
        self.stays = False
        # A partition above every unit holds back nothing that exists.
        holders = {other for other in self.platform.units if number_of(other) == before}
        newest = self.pods.release(name) == self.pods.newest and self.served.issuperset(
            {name, *holders}
        )
        at_rest = self.pods.current == self.pods.newest
        # The partition held back no pod between the unit that held it and the unit that is next.
        in_turn = not self.pods.known or all(
            self.pods.release(other) == self.pods.newest and other not in self.pods.ended
            for other in self.platform.units
            if before >= number_of(other) > self.pods.partition
        )
        assert (newest and in_turn) or at_rest or (facts.leader and before > highest), (name, hook)

    def serves(self, *names):
        self.served.update(names)
        self.worked.update((name, self.pods.release(name)) for name in names)

    def due_hooks(self, name, most=ALL_HOOKS, last=None):
        """Run hooks that a unit has to run."""
        for _ in range(most):
            if self.crashes(name) or not self.due.get(name):
                return
            hook = self.due[name].pop(0)
            if not self.due[name]:
                del self.due[name]
            self.hook(name, hook, last)

    # ---- pods -------------------------------------------------------------------------------
    def ends(self, name, stop=None):
        """End the pod of a unit, which runs its last hook."""
        rests = self.pods.current == self.pods.newest and self.pods.known
        before = self.pods.partition
        may_hold = self.pods.release(name) != self.pods.newest or not self.pods.known
        self.refresh.ends(name, stop)
        if self.pods.release(name) != self.pods.newest:
            self.unheld.discard(name)
        self.served.discard(name)
        self.due.pop(name, None)
        after = self.pods.partition
        assert after == before or (after > before and may_hold and not rests), (name, after)

    def comes_back(self, name):
        self.has_its_release(name)
        self.refresh.comes_back(name)
        self.due[name] = list(HOOKS)

    def has_its_release(self, name):
        """Let the pod that comes fail as its release does."""
        fails = self.pods.coming(name) in self.bad
        self.platform.units[name].pooler.failure = "PgBouncer refuses" if fails else ""
        (self.pods.unready.add if fails else self.pods.unready.discard)(name)

    # ---- the operator -----------------------------------------------------------------------
    @rule(fails=FAILURES, back=st.booleans())
    def operator_refreshes(self, fails, back):
        """Refresh to another release, or back to the revision that the pods with lower numbers have.

        `juju refresh` gives every release another revision, and `kubectl rollout undo` gives a former revision.
        """
        if back:
            self.pods.newest = self.pods.current
            self.stays = self.have_the_newest_release()
            return
        self.stays = False
        self.unheld |= self.pods.ended
        self.refresh.begin()
        if fails:
            self.bad[self.pods.newest] = fails

    @rule()
    def operator_asks(self):
        with contextlib.suppress(ActionFailed):
            assert self.platform.leader.pre_upgrade_check()
        before = self.pods.copy()
        with contextlib.suppress(ActionFailed):
            assert self.platform.leader.resume_upgrade()
        if self.pods.partition < before.partition:
            self.stays = False
            assert not before.unready
            # Every pod is ready: the operator has decided that the next unit is refreshed.
            self.serves(*set(self.platform.units) - self.pods.ended)

    @rule(more=st.booleans())
    def operator_scales(self, more):
        if more and len(self.platform.units) < MOST_UNITS:
            self.a_unit_is_added()
        elif not more and len(self.platform.units) > 1:
            self.the_highest_unit_is_removed()

    def a_unit_is_added(self):
        unit = self.platform.add_unit()
        self.unheld.add(unit.name)
        self.has_its_release(unit.name)
        self.pods.comes_back(unit.name, self.platform.units)
        self.due[unit.name] = ["peers_created", "start", "pebble_ready"]
        self.due_hooks(unit.name)

    def the_highest_unit_is_removed(self):
        name = max(self.platform.units, key=number_of)
        before, seen = self.pods.partition, []

        def stop(unit):
            unit.stop()
            seen.append(self.pods.partition)

        self.platform.remove_unit(name, between=stop)
        assert max(seen, default=0) <= before
        self.stays = self.stays or "adjust" in self.platform.kubernetes.failing
        for kept in (self.served, self.unheld, self.pods.ended, self.pods.unready):
            kept.discard(name)
        self.worked = {(unit, release) for unit, release in self.worked if unit != name}
        self.due.pop(name, None)
        self.pods.releases.pop(name, None)
        self.pods.completes(self.platform.units)
        # The units that stay have run a hook.
        present = set(self.platform.units) - self.pods.ended
        self.serves(*(unit for unit in present if serves_plan(self.platform.units[unit].read())))

    # ---- Kubernetes -------------------------------------------------------------------------
    @rule(
        stop=st.none() | st.integers(0, 2),
        new=st.none() | st.integers(0, 6),
        hooks=HOOKS_RUN,
        moves=st.none() | st.integers(0, MOST_UNITS),
        silent=st.booleans(),
    )
    def kubernetes_goes_on(self, stop, new, hooks, moves, silent):
        """Replace the next pod; with faults, Kubernetes is silent in the first hooks of the new unit."""
        failing = self.platform.kubernetes.failing
        silent = silent and self.faults and "adjust" not in failing
        self.kubernetes_replaces_the_next_unit(stop, new, 0 if silent else hooks, moves)
        if silent:
            failing.add("adjust")
            for name in list(self.due):
                self.due_hooks(name, hooks)
            failing.discard("adjust")

    def kubernetes_replaces_the_next_unit(self, stop, new, hooks, moves=None):
        """Replace the next pod, although the pod before may have run no hook yet; another pod ends with it."""
        name = self.refresh.next()
        if name is None or self.pods.ended:
            return
        self.no_unit_above_waits(name)
        stop = stop if self.faults else None
        self.heard = self.heard and stop is None
        both = {name} if moves is None else {self.place(moves), name}
        for other in sorted(both, key=number_of):
            self.ends(other, stop)
        for other in sorted(both, key=number_of):
            self.comes_back(other)
        for other in sorted(both, key=number_of):
            self.due_hooks(other, hooks, new)

    def no_unit_above_waits(self, name):
        """Every unit that was refreshed before has served with the newest release, so the release works.

        A pod that moves after that holds nothing back: its release has worked. The first pod of a unit that is
        added, and the pod after a stop hook that ran before the refresh, have the newest release, and Kubernetes
        goes on when such a pod is ready: no stop hook can hold back the unit `name`. The stop hook of that unit
        holds back the units below it.
        After `kubectl rollout undo` the release is that of the pods below, and no refresh is under way.
        """
        refreshed = {other for other in self.platform.units if number_of(other) > number_of(name)}
        worked = {other for other, release in self.worked if release == self.pods.newest}
        if self.heard and self.pods.newest != self.pods.current:
            assert worked.issuperset(refreshed - self.unheld), (name, self.worked)

    @rule(number=st.integers(0, MOST_UNITS), hooks=st.integers(1, ALL_HOOKS))
    def a_unit_runs_its_hooks(self, number, hooks):
        self.due_hooks(self.place(number), hooks)

    @rule(
        number=st.integers(0, MOST_UNITS),
        stop=st.none() | st.integers(0, 1),
        back=st.booleans(),
        known=st.booleans(),
        hooks=HOOKS_RUN,
    )
    def a_pod_moves(self, number, stop, back, known, hooks):
        """A pod ends by itself, with a fault without its last hook, and comes back at once or later.

        Unless `known`, the status of the StatefulSet describes an earlier state meanwhile.
        """
        name = self.place(number)
        # A unit that cannot know whether a refresh has begun holds it back, in the place of a unit below.
        instead = 0 < self.pods.partition < number_of(name)
        self.heard = self.heard and (known or not instead)
        self.pods.known = known
        if name not in self.pods.ended:
            stop = stop if self.faults else None
            self.heard = self.heard and stop is None
            self.ends(name, stop)
        if back:
            self.comes_back(name)
            self.due_hooks(name, hooks)
        self.pods.known = True

    @rule(number=st.integers(0, MOST_UNITS))
    def a_container_starts_again(self, number):
        """The pod and its release stay."""
        name = self.place(number)
        if name not in self.pods.ended:
            self.platform.units[name].pooler.lose_disk()
            self.due[name] = self.due.get(name) or ["pebble_ready"]

    @precondition(lambda self: self.faults)
    @rule(answer=st.sampled_from(["answers", "silent", "silent", "no trust"]))
    def kubernetes_answers_or_not(self, answer):
        kubernetes = self.platform.kubernetes
        silent, trusted = answer == "silent", answer != "no trust"
        kubernetes.trusted = trusted
        self.trusted = self.trusted and trusted
        (kubernetes.failing.add if silent else kubernetes.failing.discard)("adjust")
        self.heard = self.heard and trusted and not silent

    @rule(number=st.integers(0, MOST_UNITS), refuses=st.booleans())
    def pgbouncer_refuses_its_configuration_or_not(self, number, refuses):
        name = self.place(number)
        if not self.fails(name):
            pooler = self.platform.units[name].pooler
            pooler.failure = "PgBouncer refuses" if refuses else ""

    @rule(
        number=st.integers(0, MOST_UNITS),
        hook=st.sampled_from(["update_status", "peers_changed", "config_changed"]),
        last=st.none() | st.integers(0, 6),
    )
    def a_hook_runs(self, number, hook, last):
        name = self.place(number)
        self.due_hooks(name)
        if not self.crashes(name) and name not in self.pods.ended:
            self.hook(name, hook, last)

    # ---- what is always true ----------------------------------------------------------------
    @invariant()
    def no_partition_is_above_every_unit(self):
        highest = max(map(number_of, self.platform.units))
        assert self.pods.partition <= highest or not self.heard

    @invariant()
    def at_rest_there_is_no_partition(self):
        # If no pod has to be replaced after `kubectl rollout undo`, no unit learns of it. The leader looks when a
        # unit has gone, and not again if Kubernetes is silent then. The partition stays until the next hook in
        # which the leader looks, or until the unit with its number serves the next release.
        if self.trusted and self.rests() and not self.stays:
            assert (self.pods.partition, self.pods.held) == (0, None), self.pods

    def teardown(self):
        if not hasattr(self, "platform"):
            return
        kubernetes = self.platform.kubernetes
        kubernetes.trusted = True
        kubernetes.failing.clear()
        for name, unit in self.platform.units.items():
            if not self.fails(name):
                unit.pooler.failure = ""
            if name in self.pods.ended:
                self.comes_back(name)
        if self.platform.model.leader in self.platform.units:
            self.platform.leader.leader_elected()
        if self.pods.newest in self.bad:
            self.refresh.begin()
        self.ends_by_itself()
        assert self.pods.partition == 0, self.pods
        assert {self.pods.release(name) for name in self.platform.units} == {self.pods.newest}

    def ends_by_itself(self):
        """Let Kubernetes and the hooks go on until every unit has the newest release."""
        for attempt in range(5 * MOST_UNITS):
            self.kubernetes_replaces_the_next_unit(None, None, ALL_HOOKS)
            for name in self.platform.units:
                self.due_hooks(name)
            if self.refresh.next() is None and self.pods.partition == 0:
                break
            # Without faults, no unit needs an event that has nothing to do with the refresh.
            if not self.trusted and attempt > MOST_UNITS:
                # Trust was missing when a unit asked: the operator lets the next unit go.
                self.platform.leader.resume_upgrade(force=True)
                self.serves(*self.platform.units)


TestRefreshHistories = RefreshHistory.TestCase
# Short histories: each begins with a refresh.
TestRefreshHistories.settings = settings(
    LONG_HISTORIES,
    max_examples=LONG_HISTORIES.max_examples * 3 // 5,
    stateful_step_count=LONG_HISTORIES.stateful_step_count // 3,
)
