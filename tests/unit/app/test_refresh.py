"""A refresh: the next unit waits until the unit before serves, and a release that fails stays on a single unit."""

import pytest
from crash_core import run, twin
from in_memory import related
from rolling import HOOKS, Refresh, names

from app.errors import ActionFailed
from app.outcome import AskAgain
from domain.operations import Pause
from domain.refresh import obstacles, serves_plan
from domain.rotation import Rotation
from domain.status import assess
from domain.users import Login


def served(units=3):
    platform = related(units=units, service_host="pool")
    platform.relate("shop-app", "shop")
    return platform


def is_at_rest(platform):
    pods = platform.kubernetes.pods
    return pods.partition == 0 and pods.held is None and pods.current == pods.newest


@pytest.fixture(scope="module")
def made():
    return served()


@pytest.fixture
def platform(made):
    return twin(made)


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


# ---- actions ---------------------------------------------------------------------------------
def refused(action, **parameters):
    with pytest.raises(ActionFailed) as refusal:
        action(**parameters)
    return str(refusal.value)


def test_a_refresh_of_a_healthy_application_may_begin(platform):
    answer = platform.leader.pre_upgrade_check()
    assert answer["message"] == "ready for `juju refresh pgbouncer`"
    assert answer["gate"].startswith("each unit holds back the next unit")
    platform.kubernetes.trusted = False
    assert (
        "run `juju trust pgbouncer --scope=cluster`" in platform.leader.pre_upgrade_check()["gate"]
    )


def test_a_single_unit_is_told_that_clients_are_disconnected():
    answer = served(units=1).leader.pre_upgrade_check()
    assert "clients are disconnected while it is replaced" in answer["gate"]


def test_a_follower_names_the_command_for_the_leader(platform):
    follower = platform.followers[0]
    for action in (follower.pre_upgrade_check, follower.resume_upgrade):
        assert "pgbouncer/1 does not lead: run `pooler " in refused(action)


def test_what_speaks_against_a_refresh_is_named(platform):
    check = platform.leader.pre_upgrade_check
    platform.server.down = "PostgreSQL does not answer"
    assert refused(check) == "PostgreSQL does not answer"
    platform.server.down = ""
    platform.kubernetes.failing.add("adjust")
    assert refused(check) == "Kubernetes does not answer"
    platform.kubernetes.failing.clear()
    platform.model.units["pgbouncer/1"].serving = None
    platform.model.units["pgbouncer/2"].leaving = True
    assert refused(check) == (
        "pgbouncer/1 does not serve the configuration that is in force; pgbouncer/2 is being removed"
    )
    platform.leader.pooler.running.clear()
    assert refused(check).startswith("pgbouncer/0 does not serve")


def test_an_application_that_is_paused_is_not_refreshed(platform):
    plan = platform.model.plan
    platform.model.plan = plan.model_copy(
        update={"paused": (Pause(database="", since=1, until=0),)}
    )
    assert "clients are paused: run the action resume" in refused(
        platform.leader.pre_upgrade_check
    )


def test_a_rotation_that_clients_do_not_know_of_comes_first(platform):
    ledger = platform.model.ledger
    for stage, waits in (("asked", True), ("renamed", True), ("told", False)):
        rotation = Rotation(username="relation_id_1", stage=stage)
        platform.model.ledger = ledger.rotating(rotation)
        found = list(obstacles(platform.leader.read()))
        assert any("are being rotated" in reason for reason in found) is waits


@pytest.mark.parametrize("field", ["next_auth", "former_auth"])
def test_a_rotation_of_the_auth_user_comes_first(platform, field):
    login = Login(username="pgbouncer_auth_2", password="secret")
    facts = platform.leader.read()
    auth = facts.auth.model_copy(update={field: login})
    found = list(obstacles(facts.model_copy(update={"auth": auth})))
    assert any("own users are being rotated" in reason for reason in found)


def test_a_unit_that_cannot_read_the_plan_does_not_serve_it(platform):
    facts = platform.leader.read()
    assert serves_plan(facts)
    unread = facts.model_copy(update={"unreadable": ("ledger",)})
    assert not serves_plan(unread)
    assert "units run different releases" in next(obstacles(unread))


def test_before_the_first_configuration_nothing_can_be_refreshed():
    platform = served(units=1)
    platform.model.plan = None
    assert "there is no configuration yet" in refused(platform.leader.pre_upgrade_check)


def test_a_unit_that_has_gone_is_named(platform):
    del platform.model.units["pgbouncer/2"], platform.units["pgbouncer/2"]
    assert "pgbouncer/2 has gone" in refused(platform.leader.pre_upgrade_check)


def test_a_refresh_that_is_under_way_is_named(platform):
    refresh = Refresh(platform).begin()
    refresh.failing = {"pgbouncer/2"}
    refresh.rolls()
    said = refused(platform.leader.pre_upgrade_check)
    assert "a refresh is under way: 1 of 3 units have the new release" in said


def test_pods_that_are_not_ready_and_a_foreign_partition_are_named(platform):
    pods = platform.kubernetes.pods
    pods.partition = 2
    pods.ended.add("pgbouncer/1")
    said = refused(platform.leader.pre_upgrade_check)
    assert "2 of 3 pods are ready; the partition 2 of the StatefulSet" in said


def test_resume_upgrade_lets_the_next_unit_go_if_every_unit_is_ready(platform):
    resume = platform.leader.resume_upgrade
    assert resume() == "no refresh is under way"
    pods = platform.kubernetes.pods
    pods.partition = 1
    refresh = Refresh(platform).begin().rolls()
    assert resume() == "pgbouncer/0 is refreshed next"
    assert refresh.rolls().replaced == names(2, 1, 0)
    assert resume() == "no refresh is under way"


def test_resume_upgrade_does_not_spread_a_release_that_fails(platform):
    refresh = Refresh(platform).begin()
    refresh.failing = set(names(2, 1, 0))
    refresh.rolls()
    platform.kubernetes.pods.ended.add("pgbouncer/2")
    resume = platform.leader.resume_upgrade
    said = refused(resume)
    assert said.startswith("pgbouncer/2 has not become ready (2 of 3 are)")
    assert platform.kubernetes.pods.partition == 2
    assert resume(force=True) == "pgbouncer/1 is refreshed next"
    assert platform.kubernetes.pods.partition == 1


def test_without_the_status_of_the_pods_only_force_lets_the_next_unit_go(platform):
    refresh = Refresh(platform).begin()
    refresh.failing = {"pgbouncer/2"}
    refresh.rolls()
    platform.kubernetes.pods.known = False
    said = refused(platform.leader.pre_upgrade_check)
    assert "unit 2 holds back units with lower numbers until it serves its release" in said
    resume = platform.leader.resume_upgrade
    said = refused(resume)
    assert said.startswith("Kubernetes does not say whether pgbouncer/2 has its new release")
    assert resume(force=True) == "pgbouncer/1 is refreshed next"


def test_resume_upgrade_says_what_kubernetes_does_by_itself(platform):
    Refresh(platform).begin()
    resume = platform.leader.resume_upgrade
    assert resume() == "0 of 3 units are refreshed: Kubernetes goes on by itself"
    platform.kubernetes.trusted = False
    assert "run `juju trust`" in refused(resume)
    platform.kubernetes.failing.add("adjust")
    assert refused(resume) == "Kubernetes does not answer"
