"""The actions of a refresh say whether it may begin, and let the next unit go."""

import pytest
from crash_core import twin
from rolling import HOOKS, Refresh, names, served

from app.errors import ActionFailed
from domain.operations import Pause
from domain.refresh import obstacles, serves_plan
from domain.rotation import Rotation
from domain.users import Login


@pytest.fixture
def platform():
    return twin(served())


def refused(action, **parameters):
    with pytest.raises(ActionFailed) as refusal:
        action(**parameters)
    return str(refusal.value)


def test_a_refresh_of_a_healthy_application_may_begin(platform):
    answer = platform.leader.pre_upgrade_check()
    assert answer == {
        "message": "ready for `juju refresh pgbouncer`",
        "gate": "each unit holds back the next unit until its new release serves: a release that"
        " fails stays on the first unit",
    }
    platform.kubernetes.trusted = False
    assert (
        "run `juju trust pgbouncer --scope=cluster`" in platform.leader.pre_upgrade_check()["gate"]
    )


def test_a_single_unit_is_told_that_clients_are_disconnected():
    answer = twin(served(units=1)).leader.pre_upgrade_check()
    assert answer["gate"] == (
        "each unit holds back the next unit until its new release serves: a release that fails"
        " stays on the first unit. There is a single unit: clients are disconnected while it is"
        " replaced. Add a unit before, by `juju add-unit pgbouncer`"
    )


def test_a_follower_names_the_command_for_the_leader(platform):
    follower = platform.followers[0]
    lead = "pgbouncer/1 does not lead: run"
    assert refused(follower.pre_upgrade_check) == f"{lead} `pooler pre-upgrade-check`"
    assert refused(follower.resume_upgrade) == f"{lead} `pooler resume-upgrade`"


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
    platform = twin(served(units=1))
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


@pytest.mark.parametrize("released", [False, True])
def test_resume_upgrade_passes_over_a_pod_that_came_early(platform, released):
    """The pod of unit 1 ended before `juju refresh`. Unit 2 fails, and is mended after the action."""
    refresh = Refresh(platform)
    refresh.ends("pgbouncer/1")
    refresh.begin().comes_back("pgbouncer/1")
    refresh.failing = {"pgbouncer/2"}
    refresh.rolls()
    for hook in HOOKS:
        refresh.hook("pgbouncer/1", hook)
    pods, resume = platform.kubernetes.pods, platform.leader.resume_upgrade
    pods.unready.add("pgbouncer/2")
    assert "or let pgbouncer/0 be refreshed, too" in refused(resume)
    if released:
        assert resume(force=True) == "pgbouncer/0 is refreshed next"
    pods.unready.clear()
    for hook in HOOKS:
        refresh.hook("pgbouncer/2", hook)
    assert refresh.rolls().replaced == names(1, 2, 0)
    assert (pods.partition, pods.held) == (0, None)
    assert resume() == "no refresh is under way"


def test_resume_upgrade_lowers_a_partition_above_every_unit_at_once(platform):
    pods, resume = platform.kubernetes.pods, platform.leader.resume_upgrade
    pods.partition = 5
    refresh = Refresh(platform).begin().rolls()
    pods.unready.add("pgbouncer/0")
    assert refused(resume).startswith("2 of 3 pods are ready: `juju status pgbouncer` shows more")
    pods.unready.clear()
    assert resume() == "pgbouncer/2 is refreshed next"
    assert refresh.rolls().replaced == names(2)


def test_resume_upgrade_lowers_a_partition_that_a_refresh_has_left(platform):
    """`kubectl rollout undo` came before a pod had the release, so no unit learns of it."""
    pods, resume = platform.kubernetes.pods, platform.leader.resume_upgrade
    pods.partition, pods.held = 2, (2, 0)
    assert resume() == "no refresh is under way"
    assert (pods.partition, pods.held) == (0, None)
    pods.partition = 2
    assert resume(force=True) == "no refresh is under way"
    assert pods.partition == 2


def test_where_every_pod_has_the_new_release_no_unit_is_next(platform):
    pods = platform.kubernetes.pods
    pods.partition, pods.held = 2, (2, 0)
    pods.refresh()
    pods.releases.update(dict.fromkeys(platform.units, pods.newest))
    pods.unready.add("pgbouncer/2")
    said = platform.leader.resume_upgrade(force=True)
    assert said == "3 of 3 units are refreshed: Kubernetes goes on by itself"


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
    assert refused(resume) == (
        "Kubernetes does not show the refresh to this application: run `juju trust`. Without that,"
        " Kubernetes goes on when the pod of the new unit is ready"
    )
    platform.kubernetes.failing.add("adjust")
    assert refused(resume) == "Kubernetes does not answer"
