"""The whole result of the actions around a refresh, and what the leader shares with other units."""

import pytest
from plans import plan
from samples import AUTH, but
from told_ports import LOGIN, Port

from app.errors import (
    ActionFailed,
    DatabaseRefused,
    DatabaseUnreachable,
    NotLeading,
    RolloutFailed,
    RolloutForbidden,
)
from app.hooks.stop import Stop
from app.hooks.upgrade import PreUpgradeCheck, ResumeUpgrade
from app.intents.share_configuration import ShareConfiguration
from app.outcome import AskAgain, Done
from domain import planning
from domain.applied import AppliedState
from domain.backend import BackendRelation
from domain.capabilities import PgBouncerRuntime, Version
from domain.container import Container
from domain.facts import Facts, Peer
from domain.instances import Layout
from domain.ledger import Ledger
from domain.operations import Pause
from domain.plan import DepartedUnit, Serving
from domain.refresh import RollingUpdate
from domain.settings import Settings

SERVING = Serving(port=6432, databases=("shop",))
RECORD = AppliedState(
    program=PgBouncerRuntime(version=Version(1, 25)), instances=(), users="e", serving=SERVING
)
PLAN = but(plan(units=2), databases=("shop",))
FACTS = Facts(
    unit="pgb/0", address="10.0.0.0", leader=True, settings=Settings(), auth=AUTH, plan=PLAN,
    layout=Layout(root="/root"), serving=SERVING, leader_address="10.0.0.0",
    container=Container(reachable=True, applied=RECORD),
    backend=BackendRelation(related=True, present=True, credentials=LOGIN),
    ledger=Ledger(provisioned_for="operator", capacity=7),
    peers=(Peer(name="pgb/1", address="10.0.0.1", serving=SERVING),),
)  # fmt: skip
STILL = RollingUpdate(number=0, replicas=3, ready=3)
HELD = but(STILL, partition=2, owned=True, under_way=True, newest=(2,), ready=3)


class Rollout:
    """The refresh of the pods in a state, with the partitions that are set and the seconds to wait."""

    def __init__(self, state):
        self.state, self.partitions, self.seconds = state, [], None

    def adjust(self, decide, seconds=2.0):
        self.seconds = seconds
        if isinstance(self.state, Exception):
            raise self.state
        self.partitions.append(decide(self.state))
        return self.state


class Reads:
    """The source of these facts."""

    def __init__(self, facts):
        self.read = lambda: facts


GATE = (
    "each unit holds back the next unit until its new release serves: a release that fails stays on the"
    " first unit"
)
UNTRUSTED = (
    "Kubernetes goes on when the pod of the new unit is ready, which it also is from its start until its first"
    " hook. If Kubernetes looks in that time, a release that fails reaches a second unit: run"
    " `juju trust pgb --scope=cluster` to let each unit hold back the next unit"
)
ALONE = (
    ". There is a single unit: clients are disconnected while it is replaced. Add a unit before, by `juju add-unit"
    " pgb`"
)
SINGLE = but(FACTS, plan=but(plan(units=1), databases=("shop",)), peers=())


@pytest.mark.parametrize(
    ("facts", "state", "gate"),
    [
        (FACTS, STILL, GATE),
        (FACTS, RolloutForbidden("403"), UNTRUSTED),
        (SINGLE, STILL, GATE + ALONE),
        (SINGLE, RolloutForbidden("403"), UNTRUSTED + ALONE),
    ],
)
def test_a_refresh_may_begin_when_nothing_is_in_its_way(facts, state, gate):
    databases, rollout = Port(answers=True), Rollout(state)
    result = PreUpgradeCheck(Reads(facts), databases, rollout)()
    assert result == {"message": "ready for `juju refresh pgb`", "gate": gate}
    assert databases.told == [("answers", LOGIN)]
    assert rollout.partitions == [None] * (state is STILL)


@pytest.mark.parametrize(
    ("changes", "answers", "state", "reason"),
    [
        ({"plan": PLAN.pausing((Pause(),))}, False, RolloutFailed("500"),
         "clients are paused: run the action resume; PostgreSQL does not answer; 500"),
        ({"backend": BackendRelation(related=True, present=True), "plan": None}, False, STILL,
         "there is no configuration yet"),
        ({}, False, but(STILL, ready=2), "PostgreSQL does not answer; 2 of 3 pods are ready"),
        ({}, True, HELD, "a refresh is under way: 1 of 3 units have the new release"),
    ],
)  # fmt: skip
def test_a_refresh_that_may_not_begin_has_every_reason(changes, answers, state, reason):
    check = PreUpgradeCheck(Reads(but(FACTS, **changes)), Port(answers=answers), Rollout(state))
    with pytest.raises(ActionFailed) as refused:
        check()
    assert str(refused.value) == reason


@pytest.mark.parametrize("action", ["pre-upgrade-check", "resume-upgrade"])
def test_another_unit_names_the_command_around_a_refresh(action):
    source, rollout = Reads(but(FACTS, leader=False)), Rollout(STILL)
    checks = PreUpgradeCheck(source, Port(), rollout)
    with pytest.raises(NotLeading) as refused:
        (checks if action == "pre-upgrade-check" else ResumeUpgrade(source, rollout))()
    assert (
        str(refused.value) == f"pgb/0 does not lead: run `juju run pgbouncer-k8s/leader {action}`"
    )
    assert rollout.partitions == []


SHAKY = but(HELD, ready=2)


@pytest.mark.parametrize(
    ("state", "force", "result", "partition"),
    [
        (STILL, False, "no refresh is under way", None),
        (but(STILL, under_way=True, known=False), True, "no refresh is under way", None),
        (but(STILL, under_way=True, newest=(2,)), False,
         "1 of 3 units are refreshed: Kubernetes goes on by itself", None),
        (HELD, False, "pgb/1 is refreshed next", 1),
        (SHAKY, True, "pgb/1 is refreshed next", 1),
    ],
)  # fmt: skip
def test_a_refresh_goes_on_when_the_operator_wants_that(state, force, result, partition):
    rollout = Rollout(state)
    assert ResumeUpgrade(Reads(FACTS), rollout)(force=force) == result
    assert rollout.partitions == [partition]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (SHAKY,
         "pgb/2 has not become ready (2 of 3 are): `juju status pgb` shows more. Go back by `juju refresh` to the"
         " release before, or let pgb/1 be refreshed, too, by `juju run pgb/leader resume-upgrade force=true`"),
        (RolloutForbidden("403"),
         "Kubernetes does not show the refresh to this application: 403. Without that, Kubernetes goes on when the"
         " pod of the new unit is ready"),
        (RolloutFailed("500"), "500"),
    ],
)  # fmt: skip
def test_a_refresh_that_should_not_go_on_says_why(state, reason):
    rollout = Rollout(state)
    with pytest.raises(ActionFailed) as refused:
        ResumeUpgrade(Reads(FACTS), rollout)()
    assert (str(refused.value), rollout.partitions) == (reason, [None] * (state is SHAKY))


@pytest.mark.parametrize(
    ("state", "leaves", "partitions"),
    [
        (but(STILL, number=2, under_way=True), False, [2]),
        (but(STILL, number=2, under_way=True), True, [None]),
        (STILL, False, [None]),
        (RolloutFailed("500"), False, []),
        (RolloutForbidden("403"), False, []),
    ],
)
def test_a_pod_that_ends_holds_back_the_next_unit(state, leaves, partitions):
    rollout = Rollout(state)
    assert Stop(rollout, Port(leaves=leaves))() is None
    assert (rollout.partitions, rollout.seconds) == (partitions, 6.0)


# What the leader shares.
LEFT = (
    DepartedUnit(name="pgb/8", address="10.0.0.8", held=3),
    DepartedUnit(name="pgb/9", address="10.0.0.9", held=4),
)
CALM = FACTS.with_container(Container()).sharing(planning.plan(FACTS))
WITH_LEFT = but(CALM, plan=but(CALM.plan, leavers=LEFT))


def test_a_leader_without_a_configuration_shares_its_address():
    facts, peers = but(FACTS, plan=None, container=Container(), leader_address="10.0.0.7"), Port()
    after = but(facts, leader_address="10.0.0.0")
    assert ShareConfiguration(peers, Port())(facts) == Done(after)
    assert peers.told == [("name_leader", "10.0.0.0")]
    follows = but(facts, leader=False)
    assert ShareConfiguration(peers, Port())(follows) == Done(follows)
    assert len(peers.told) == 1


def test_a_plan_is_shared_when_it_changes():
    facts, peers = but(FACTS, settings=Settings(max_db_connections=44)), Port()
    wanted = planning.plan(facts)
    assert wanted != facts.plan
    assert ShareConfiguration(peers, Port())(facts) == Done(facts.sharing(wanted))
    assert peers.told == [("share", wanted)]
    settled = facts.sharing(planning.plan(facts.sharing(wanted)))
    assert ShareConfiguration(peers, Port())(settled) == Done(settled)
    assert len(peers.told) == 1


@pytest.mark.parametrize(
    ("changes", "answers", "asked", "staying"),
    [
        ({}, {"has_connection_from": lambda address: address == "10.0.0.9"}, 3, "pgb/9"),
        ({}, {"has_connection_from": True}, 3, "pgb/8, pgb/9"),
        ({}, {"has_connection_from": False}, 3, ""),
        ({}, {"open": DatabaseUnreachable("away")}, 1, "pgb/8, pgb/9"),
        ({}, {"open": DatabaseRefused("no")}, 1, "pgb/8, pgb/9"),
        ({"backend": BackendRelation()}, {}, 0, ""),
        ({"settings": Settings(backend_tls_sslmode="require-verify")}, {}, 0, ""),
    ],
)  # fmt: skip
def test_connections_of_units_that_have_left_are_given_away_when_they_end(
    changes, answers, asked, staying
):
    databases, facts = Port(**answers), but(WITH_LEFT, **changes)
    outcome = ShareConfiguration(Port(), databases)(facts)
    names = [unit.name for unit in outcome.facts.plan.leavers]
    assert ", ".join(names) == staying
    reason = f"waiting for the last transactions of {staying}"
    shared = outcome.facts
    assert outcome == (AskAgain(shared, reason) if staying else Done(shared))
    asks = [("open", LOGIN.verifying("prefer", ()))]
    asks += [("has_connection_from", "10.0.0.8"), ("has_connection_from", "10.0.0.9")]
    assert databases.told == asks[:asked]
