"""A refresh: the next unit waits until the unit before serves, and a release that fails stays on a single unit."""

import pytest
from crash_core import run, twin
from rolling import HOOKS, Refresh, names, served

from app.outcome import AskAgain
from domain.status import assess


def is_at_rest(platform):
    pods = platform.kubernetes.pods
    return pods.partition == 0 and pods.held is None and pods.current == pods.newest


@pytest.fixture
def platform():
    return twin(served())


def test_a_refresh_replaces_every_unit_and_leaves_no_partition(platform):
    refresh = Refresh(platform).begin().rolls()
    assert refresh.replaced == names(2, 1, 0)
    assert is_at_rest(platform)
    assert all(unit.read().container.runs for unit in platform.units.values())


def test_a_release_that_fails_stays_on_the_first_unit(platform):
    refresh = Refresh(platform).begin()
    refresh.failing = set(names(2, 1, 0))
    refresh.rolls()
    assert refresh.replaced == names(2)
    assert platform.kubernetes.pods.partition == 2
    assert all(platform.units[name].read().container.runs for name in names(0, 1))


def test_a_release_that_cannot_read_the_plan_stays_on_the_first_unit(platform):
    refresh = Refresh(platform).begin()
    broken = platform.units["pgbouncer/2"]
    broken.pooler.failure = "PgBouncer refuses the configuration"
    refresh.rolls()
    assert refresh.replaced == names(2)
    broken.pooler.failure = ""
    refresh.hook("pgbouncer/2", "update_status")
    assert refresh.rolls().replaced == names(2, 1, 0)
    assert is_at_rest(platform)


@pytest.mark.parametrize("good", [0, 1])
def test_back_from_a_release_that_fails(platform, good):
    refresh = Refresh(platform).begin()
    refresh.failing = set(names(2, 1)[good:])
    refresh.rolls()
    held = names(2, 1)[: good + 1]
    assert refresh.replaced == held
    refresh.failing = set()
    refresh.begin().rolls()
    assert refresh.replaced == [*held, *names(2, 1, 0)]
    assert is_at_rest(platform)


def test_a_unit_that_is_killed_in_its_last_hook_is_replaced(platform):
    count = run(twin(platform), "pgbouncer/2", lambda unit: unit.stop())
    for last in range(count + 1):
        other = twin(platform)
        Refresh(other).begin().rolls(stop=last)
        assert is_at_rest(other), last


def test_a_new_unit_that_is_killed_in_any_hook_lets_the_next_unit_go():
    platform = served(units=2)
    for last in range(30):
        other = twin(platform)
        refresh = Refresh(other).begin().rolls(new=last)
        assert refresh.replaced == names(1, 0), last
        assert is_at_rest(other), last


def test_without_trust_kubernetes_alone_decides(platform):
    platform.kubernetes.trusted = False
    serving = Refresh(platform, ready=lambda name: platform.units[name].read().container.runs)
    serving.failing = set(names(2, 1, 0))
    assert serving.begin().rolls().replaced == names(2)
    serving.failing = set()
    assert serving.begin().rolls().replaced == names(2, 2, 1, 0)
    assert platform.kubernetes.pods.partition == 0


def test_without_a_refresh_a_pod_that_ends_holds_nothing_back(platform):
    refresh = Refresh(platform)
    for name in names(0, 1, 2):
        refresh.replace(name)
        assert is_at_rest(platform)


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_pod_that_moves_during_a_refresh_changes_nothing(platform, moved):
    """With one unit replaced, another pod ends and comes back."""
    refresh = Refresh(platform).begin()
    refresh.replace("pgbouncer/2")
    assert platform.kubernetes.pods.partition == 1
    former = platform.kubernetes.pods.release(f"pgbouncer/{moved}")
    refresh.replace(f"pgbouncer/{moved}")
    after = platform.kubernetes.pods.release(f"pgbouncer/{moved}")
    assert after == (platform.kubernetes.pods.newest if moved else former)
    refresh.rolls()
    assert is_at_rest(platform)


def test_a_unit_that_is_added_holds_no_unit_back(platform):
    """The pod of unit 3 does not exist yet when unit 2 serves."""
    refresh = Refresh(platform).begin()
    refresh.failing = {"pgbouncer/2"}
    refresh.rolls()
    pods = platform.kubernetes.pods
    pods.ended.add(platform.add_unit().name)
    for hook in HOOKS:
        refresh.hook("pgbouncer/2", hook)
    assert pods.partition == 1
    assert pods.coming("pgbouncer/3") == pods.newest


def test_with_an_added_unit_a_release_that_fails_takes_one_that_serves(platform):
    """No pod ends before the first pod of unit 3, so no unit holds back unit 2, which holds back the rest."""
    refresh = Refresh(platform).begin()
    added = platform.add_unit().name
    platform.kubernetes.pods.comes_back(added, platform.units)
    refresh.failing = set(platform.units)
    refresh.rolls()
    assert platform.kubernetes.pods.release(added) == platform.kubernetes.pods.newest
    assert refresh.replaced == names(2)
    assert platform.kubernetes.pods.partition == 2


@pytest.mark.parametrize("again", [False, True])
def test_an_undone_rollout_leaves_no_partition(platform, again):
    """`kubectl rollout undo` gives the revision back that the other pods have: no refresh is under way.

    A refresh before Kubernetes has replaced the failed pod brings another release than the undone release.
    """
    refresh = Refresh(platform).begin()
    refresh.failing = {"pgbouncer/2"}
    refresh.rolls()
    assert platform.kubernetes.pods.partition == 2
    platform.kubernetes.pods.newest = platform.kubernetes.pods.current
    if again:
        refresh.begin()
    refresh.failing = set()
    assert refresh.next() == "pgbouncer/2"
    refresh.rolls()
    assert refresh.replaced == names(2, 2, *((1, 0) if again else ()))
    assert is_at_rest(platform)


def test_a_pod_that_moves_while_a_release_is_held_keeps_its_release(platform):
    refresh = Refresh(platform).begin()
    refresh.failing = {"pgbouncer/2"}
    refresh.rolls()
    for name in names(0, 1):
        refresh.replace(name)
        assert platform.kubernetes.pods.release(name) == platform.kubernetes.pods.current
    assert refresh.next() is None


def test_a_partition_of_the_operator_stays(platform):
    pods = platform.kubernetes.pods
    pods.partition = 1
    refresh = Refresh(platform).begin().rolls()
    assert refresh.replaced == names(2, 1)
    assert (pods.partition, pods.held) == (1, None)
    pods.partition = 0
    assert refresh.rolls().replaced == names(2, 1, 0)
    assert is_at_rest(platform)


def test_a_unit_that_is_removed_holds_nothing_back(platform):
    refresh = Refresh(platform).begin()
    refresh.failing = set(names(2, 1, 0))
    refresh.rolls()
    platform.remove_unit("pgbouncer/2", between=lambda unit: unit.stop())
    assert platform.kubernetes.pods.partition == 1
    refresh.failing = set()
    refresh.begin().rolls()
    assert is_at_rest(platform)


def test_a_partition_above_every_unit_does_not_stay(platform):
    pods = platform.kubernetes.pods
    pods.partition, pods.held = 2, (2, 0)
    platform.remove_unit("pgbouncer/2")
    assert pods.partition == 0
    refresh = Refresh(platform).begin().rolls()
    assert refresh.replaced == names(1, 0)


def test_a_unit_asks_kubernetes_a_single_time_after_its_start(platform):
    requests = platform.kubernetes.requests
    follower = platform.units["pgbouncer/1"]
    before = requests.count("adjust")
    for _ in range(3):
        follower.peers_changed()
        follower.update_status()
        platform.leader.update_status()
    assert requests.count("adjust") == before
    Refresh(platform).replace(follower.name)
    # The hook stop, and the first hook in which the unit serves.
    assert requests.count("adjust") == before + 2


def test_without_an_answer_of_kubernetes_the_unit_asks_again(platform):
    refresh = Refresh(platform).begin()
    refresh.failing = {"pgbouncer/2"}
    refresh.rolls()
    platform.kubernetes.failing.add("adjust")
    unit = platform.units["pgbouncer/2"]
    outcome = unit.start()
    assert isinstance(outcome, AskAgain)
    assert outcome.reason == "waiting for Kubernetes to continue a refresh"
    (said,) = assess(outcome.facts, outcome.problems)
    assert said.level == "waiting"
    assert said.text.startswith("a refresh may wait for this unit: Kubernetes does not answer.")
    assert said.text.endswith(f"run `{outcome.facts.command('resume-upgrade')}`")
    unit.stop()
    platform.kubernetes.failing.clear()
    outcome = unit.update_status()
    assert not isinstance(outcome, AskAgain)
    assert outcome.problems == ()
    assert platform.kubernetes.pods.partition == 1


def test_the_last_hook_waits_longer_for_kubernetes_than_other_hooks(platform):
    platform.kubernetes.takes = 3.0
    refresh = Refresh(platform).begin()
    refresh.replace("pgbouncer/2")
    assert platform.kubernetes.pods.partition == 2
    assert isinstance(refresh.hook("pgbouncer/2", "update_status"), AskAgain)
    platform.kubernetes.takes = 1.0
    refresh.hook("pgbouncer/2", "update_status")
    assert platform.kubernetes.pods.partition == 1


@pytest.mark.parametrize(("number", "held"), [(2, 2), (0, 2)])
def test_the_log_names_the_unit_that_holds_the_others_back(platform, caplog, number, held):
    """Also if the pod of unit 0 ends before its turn."""
    Refresh(platform).begin()
    with caplog.at_level("INFO"):
        platform.units[f"pgbouncer/{number}"].stop()
    said = f"Units below number {held} wait until unit {held} serves its new release"
    assert said in caplog.messages


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_unit_that_restarts_while_kubernetes_is_behind_leaves_no_partition(platform, number):
    """The status of the StatefulSet describes an earlier state when the pod ends and when the unit serves."""
    platform.kubernetes.pods.known = False
    refresh = Refresh(platform)
    refresh.replace(f"pgbouncer/{number}")
    platform.kubernetes.pods.known = True
    assert is_at_rest(platform)


def test_the_leader_lowers_a_partition_that_no_unit_lowers(platform):
    """A unit had no trust when it asked."""
    refresh = Refresh(platform).begin()
    refresh.failing = {"pgbouncer/2"}
    refresh.rolls()
    platform.kubernetes.trusted = False
    for hook in HOOKS:
        refresh.hook("pgbouncer/2", hook)
    platform.kubernetes.trusted = True
    platform.kubernetes.pods.partition, platform.kubernetes.pods.held = 1, (1, 0)
    platform.leader.config_changed()
    assert platform.kubernetes.pods.partition == 1
    # Back to the release before, which the units that were held back still have.
    platform.kubernetes.pods.newest = platform.kubernetes.pods.current
    platform.leader.update_status()
    assert platform.kubernetes.pods.partition == 1
    platform.leader.config_changed()
    assert is_at_rest(platform)


@pytest.mark.parametrize("moved", [0, 1])
def test_a_pod_that_moves_before_its_turn_keeps_its_release(platform, moved):
    """The pod ends by itself between `juju refresh` and the end of the first pod that Kubernetes replaces."""
    refresh = Refresh(platform).begin()
    refresh.replace(f"pgbouncer/{moved}")
    refresh.failing = {"pgbouncer/2"}
    refresh.rolls()
    assert refresh.replaced == names(moved, 2)
    pods = platform.kubernetes.pods
    assert [pods.release(name) == pods.newest for name in names(0, 1, 2)] == [False, False, True]
    refresh.failing = set()
    refresh.begin().rolls()
    assert is_at_rest(platform)


@pytest.mark.parametrize("early", [0, 1])
def test_a_pod_that_comes_early_spreads_no_release_that_fails(platform, early):
    """The pod ended before `juju refresh`, so it comes with the newest release before its turn."""
    refresh = Refresh(platform)
    refresh.ends(f"pgbouncer/{early}")
    refresh.begin().comes_back(f"pgbouncer/{early}")
    refresh.failing = {"pgbouncer/2"}
    refresh.rolls()
    assert refresh.replaced == names(early, 2)
    for hook in HOOKS:
        refresh.hook(f"pgbouncer/{early}", hook)
        refresh.hook("pgbouncer/2", hook)
    refresh.rolls()
    assert refresh.replaced == names(early, 2, 1 - early)
    assert is_at_rest(platform)
