"""What is left behind of PostgreSQL and of the charm before, in whole."""

import pydantic
import pytest
from plans import plan
from samples import AUTH, but
from told_ports import LOGIN, Port

from app.errors import (
    DatabaseRefused,
    DatabaseUnreachable,
    RolloutFailed,
    RolloutForbidden,
)
from app.intents.follow_reference import FollowReference
from app.intents.reconcile_access import ReconcileAccess
from app.intents.withdraw_access import WithdrawAccess
from app.outcome import AskAgain, Done
from domain.applied import AppliedProcess, AppliedState
from domain.backend import BackendRelation
from domain.capabilities import PgBouncerRuntime, Version
from domain.container import Container
from domain.facts import Client, Facts, Peer
from domain.instances import Layout
from domain.ledger import Ledger
from domain.made import Made, digest_of
from domain.plan import Serving
from domain.problems import REFRESH, Level, Problem
from domain.reference import AuthUserInUse, InheritedRole, Reference, ReferenceDatabase
from domain.refresh import RollingUpdate
from domain.settings import Settings
from domain.users import AccessRequest, Grant, Login, Offer
from domain.verification import verified_login

RECORD = AppliedState(
    program=PgBouncerRuntime(version=Version(1, 25)),
    instances=(
        AppliedProcess(index=0, port=6432, restart="a", reload="b"),
        AppliedProcess(index=2, port=6433, restart="c", reload="d"),
    ),
    users="e",
    serving=Serving(port=6432, databases=("shop",)),
)
PLAN = but(plan(), databases=("shop",))
FACTS = Facts(
    unit="pgb/1", address="10.0.0.1", leader=True, settings=Settings(), auth=AUTH, plan=PLAN,
    layout=Layout(root="/root"), now=1_000.0, serving=RECORD.serving,
    container=Container(reachable=True, running=frozenset({0, 2}), applied=RECORD),
    backend=BackendRelation(related=True, present=True, credentials=LOGIN),
    ledger=Ledger(provisioned_for="operator", capacity=7), peers=(Peer(name="pgb/0"),),
)  # fmt: skip


HOLDS = RollingUpdate(number=1, replicas=2, partition=1, owned=True, under_way=True, newest=(1,))


def rollout(update=None, error=None):
    """Return a rollout in this state, and the list of the partitions that are set."""
    partitions = []

    def adjust(decide):
        if error:
            raise error
        partitions.append(decide(update))
        return update

    return Port(adjust=adjust), partitions


GONE = but(FACTS.backend, present=False)
MADE = Made(cluster="c2")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backend": GONE, "leader": False},
        {"backend": GONE, "ledger": Ledger(capacity=7)},
        {"backend": BackendRelation(related=True)},
        {"backend": GONE, "settings": Settings(backend_tls_sslmode="require-verify")},
        {"leaving": True},
    ],
)
def test_roles_stay_while_postgresql_does_or_cannot_be_asked(changes):
    facts, databases, peers = but(FACTS, **changes), Port(), Port()
    assert WithdrawAccess(databases, peers)(facts) == facts
    assert (databases.told, peers.told) == ([], [])


@pytest.mark.parametrize("changes", [{"backend": GONE}, {"leaving": True, "last_unit": True}])
def test_roles_go_with_postgresql_and_the_ledger_has_what_stays(changes):
    facts, peers = but(FACTS, **changes), Port()
    databases = Port(left=("database shop stays",), made=MADE)
    ledger = facts.ledger.withdrawing(MADE, ("database shop stays",))
    assert WithdrawAccess(databases, peers)(facts) == facts.recording(ledger)
    assert databases.told == [
        ("open", verified_login(facts), facts.ledger), ("withdraw",), ("left",), ("made",),
    ]  # fmt: skip
    assert peers.told == [("record", ledger)]
    for error in (DatabaseUnreachable("away"), DatabaseRefused("no")):
        for failing in (Port(open=error), Port(withdraw=error), Port(made=error)):
            assert WithdrawAccess(failing, Port())(facts) == facts


FORMER = AUTH.model_copy(update={"auth_user": "former"})
BEFORE = Reference(digest="d4", auth=FORMER, units=("pgb/0",))
USES = (
    AuthUserInUse(unit="pgb/0", auth_user="auth"),
    AuthUserInUse(unit="pgb/1", auth_user="auth"),
)
ENDED = but(BEFORE, units=(), in_use=USES)
CHECKED = {"checked": True, "state": "completed"}
COMPLETE = [("forget_application",), ("forget_unit",)]
ANSWER = ("answer", "d4", "auth", "")


def following(reference, update=None, error=None, databases=None, **changes):
    """Return the facts, the outcome, what the former charm's data got, and the partitions that were set."""
    facts = but(FACTS, reference=reference, **changes)
    port, partitions = rollout(update, error)
    replaced = Port()
    outcome = FollowReference(databases or Port(), replaced, port)(facts)
    return facts, outcome, replaced.told, partitions


def reported(facts, state=""):
    return facts.with_reference(facts.reference.reporting("pgb/1", "auth", state))


@pytest.mark.parametrize("changes", [{"reference": None}, {"reference": ENDED, "leaving": True}])
def test_without_the_charm_before_nothing_is_left_behind(changes):
    facts, outcome, told, partitions = following(**{"reference": None} | changes)
    assert (outcome, told, partitions) == (Done(facts), [], [])


def test_what_the_charm_before_stored_for_a_unit_goes_last():
    facts, outcome, told, _ = following(but(ENDED, shared=False))
    assert (outcome, told) == (Done(but(facts, reference=None)), [("forget_unit",)])


def test_a_unit_that_does_not_serve_the_plan_answers_nothing():
    facts, outcome, told, _ = following(BEFORE, serving=None)
    assert (outcome, told) == (Done(facts), [("answer", "", "", "")])


@pytest.mark.parametrize(
    ("how", "state", "partitions"),
    [
        ({}, "", []),
        ({"checked": True, "state": "idle"}, "completed", [0]),
        (CHECKED, "", []),
        ({"state": "idle"}, "", []),
    ],
)
def test_a_unit_that_serves_the_plan_says_so_to_the_charm_before(how, state, partitions):
    peers = (Peer(name="pgb/0"), Peer(name="pgb/2"))
    facts, outcome, told, found = following(
        but(BEFORE, **how), but(HOLDS, owned=False), peers=peers
    )
    assert outcome == Done(reported(facts, state))
    assert told == [("answer", "d4", "auth", state)]
    assert found == partitions


@pytest.mark.parametrize("error", [RolloutFailed("500"), RolloutForbidden("403")])
def test_kubernetes_that_does_not_answer_keeps_the_state_open(error):
    facts, outcome, told, _ = following(but(BEFORE, checked=True, state="idle"), error=error)
    if isinstance(error, RolloutForbidden):
        assert outcome == Done(reported(facts, "completed"))
        assert told == [("answer", "d4", "auth", "completed")]
        return
    text = (
        "a refresh may wait for this unit: 500. If it stays, run"
        " `juju run pgbouncer-k8s/leader resume-upgrade`"
    )
    found = Problem(topic=REFRESH, level=Level.WAITING, text=text)
    reason = "waiting for Kubernetes to continue a refresh"
    assert outcome == AskAgain(reported(facts), reason, (found,))
    assert told == [ANSWER]


@pytest.mark.parametrize("changes", [{}, {"backend": BackendRelation()}])
@pytest.mark.parametrize("auth", [FORMER, None])
def test_the_auth_user_before_is_dropped_before_its_keys(changes, auth):
    databases = Port()
    facts, outcome, told, partitions = following(
        but(ENDED, auth=auth), databases=databases, **changes
    )
    assert outcome == Done(but(facts, reference=None))
    assert (told, partitions) == ([ANSWER, *COMPLETE], [])
    drops = [
        ("open", verified_login(facts), facts.ledger), ("drop_inherited_auth_user", "former"),
    ]  # fmt: skip
    assert databases.told == (drops if auth and not changes else [])


@pytest.mark.parametrize(
    "changes",
    [{"leader": False}, {"auth": FORMER}, {"reference": but(ENDED, in_use=())}],
)
def test_the_keys_of_the_charm_before_stay_while_a_unit_needs_them(changes):
    peers = (Peer(name="pgb/0"),)
    facts, outcome, told, _ = following(**{"reference": ENDED, "peers": peers} | changes)
    assert (outcome, told) == (Done(reported(facts)), [ANSWER])


def test_an_auth_user_that_postgresql_does_not_drop_keeps_the_keys():
    databases = Port(drop_inherited_auth_user=DatabaseUnreachable("away"))
    facts, outcome, told, _ = following(ENDED, databases=databases)
    assert (outcome, told) == (AskAgain(reported(facts), "away"), [ANSWER])
    databases = Port(drop_inherited_auth_user=DatabaseRefused("it owns a table"))
    facts, outcome, told, _ = following(ENDED, databases=databases)
    text = (
        "superuser former of Canonical's charm cannot log in any more, and is still in PostgreSQL:"
        " it owns a table"
    )
    found = Problem(topic="reference", level=Level.WAITING, text=text)
    assert (outcome, told) == (Done(reported(facts), (found,)), [ANSWER])


def test_the_partition_of_the_charm_before_ends_with_its_keys():
    stays = but(HOLDS, owned=False, under_way=False)
    facts, outcome, told, partitions = following(but(ENDED, **CHECKED), stays)
    assert (outcome, partitions) == (Done(but(facts, reference=None)), [0])
    assert told == [ANSWER, *COMPLETE]
    facts, outcome, told, _ = following(but(ENDED, **CHECKED), error=RolloutFailed("500"))
    assert outcome[:2] == (reported(facts), "waiting for Kubernetes to end a refresh")
    assert [problem.topic for problem in outcome.problems] == [REFRESH]
    assert told == [ANSWER]


PASSWORD = pydantic.SecretStr("four")
SHOP_ROLE = InheritedRole(username="relation_id_4", database="shop", password=PASSWORD)
LEFT_ROLE = InheritedRole(username="relation_id_9", database="gone")
NOTED = {"server", "capacity", "made", "server_databases", "users", "notes"}


def taking_over(adopts=True, admits=True, **changes):
    """Return the facts, the outcome, and what PostgreSQL and the secret got in the takeover."""
    inherited = (
        ReferenceDatabase(relation_id=4, name="shop"), ReferenceDatabase(relation_id=9, name="gone"),
    )  # fmt: skip
    request = AccessRequest(relation_id=4, application="app4", database="shop", roles=("r",))
    offer = Offer(database="shop", endpoints="10.0.0.1:6432")
    known = {
        "reference": Reference(databases=inherited, auth=FORMER), "ledger": Ledger(verified="v"),
        "clients": (Client(request=request, published=offer),), "auth": FORMER,
        "settings": Settings(allowed_roles=("r",)),
    }  # fmt: skip
    facts = but(FACTS, **known | changes)
    databases = Port(
        adopt=adopts, admits=admits, lock_out={}, server="s1", capacity=97, made=MADE, notes=(),
        server_databases=(), users=frozenset({"relation_id_4", "relation_id_9"}), grant=False,
    )  # fmt: skip
    clients, secrets, peers = Port(password=PASSWORD), Port(), Port()
    numbers = iter(range(1, 9))
    outcome = ReconcileAccess(
        databases, secrets, clients, peers,
        lambda: pydantic.SecretStr(f"new{next(numbers)}"), verify=False,
    )(facts)  # fmt: skip
    done = [step for step in databases.told if step[0] not in NOTED]
    return facts, outcome, done, secrets.told


AUTH_AFTER = type(AUTH).model_validate(
    {
        **dict(FORMER), "auth_user": "pgbouncer_auth_operator", "auth_password": "new1",
        "admin_password": "new2", "generation": 1, "signed_for": digest_of("secret"),
        "former_auth": Login(username="former", password=FORMER.auth_password),
    }
)  # fmt: skip
GRANTED = Grant(relation_id=4, username="relation_id_4", database="shop", roles=("r",))


@pytest.mark.parametrize("admits", [True, False])
def test_the_last_unit_of_the_charm_before_leaves_its_roles(admits):
    facts, outcome, done, secrets = taking_over(admits=admits)
    used = LOGIN.verifying("prefer", ())
    name = "pgbouncer_auth_operator"
    login = Login(username=name, password=pydantic.SecretStr("new1"))
    assert done == [
        ("open", used, facts.ledger), ("adopt", SHOP_ROLE), ("adopt", LEFT_ROLE),
        ("lock_out", ["relation_id_9"]), ("provision", AUTH_AFTER, "pgbouncer"),
        ("revoke", "relation_id_9"), ("hurry",), ("grant", GRANTED, 0),
        ("admits", used, login, "pgbouncer"),
    ]  # fmt: skip
    if not admits:
        assert outcome == AskAgain(facts, f"waiting for PostgreSQL to let in {name}")
        assert secrets == []
        return
    ledger = Ledger(
        provisioned_for="operator", server="s1", auth_schema=name, capacity=97, verified="v",
        grants=(GRANTED,), made=MADE, allowed=("r", ""),
    )  # fmt: skip
    assert outcome == Done(facts.with_auth(AUTH_AFTER).recording(ledger))
    assert secrets == [("store", AUTH_AFTER)]


@pytest.mark.parametrize(
    "changes",
    [{"backend": GONE}, {"leader": False}, {"leaving": True}, {"unreadable": ("plan",)}],
)
def test_a_takeover_waits_for_a_leader_and_for_postgresql(changes):
    facts, outcome, done, secrets = taking_over(**changes)
    assert (outcome, done, secrets) == (Done(facts), [], [])


def test_a_role_that_is_not_taken_over_is_granted_as_new():
    _, outcome, done, _ = taking_over(adopts=False)
    assert done[5:7] == [("grant", GRANTED, 0), ("revoke", "relation_id_9")]
    assert outcome.facts.ledger.grants == (GRANTED,)
