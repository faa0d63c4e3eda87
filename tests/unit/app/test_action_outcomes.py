"""The whole result of each action, and what it leaves in the plan, the ledger and the secret."""

import pydantic
import pytest
from plans import plan
from samples import AUTH, but
from told_ports import LOGIN, Port

from app.errors import (
    ActionFailed,
    CertificatesFailed,
    DatabaseRefused,
    DatabaseUnreachable,
)
from app.hooks.operate import Operate
from app.hooks.private_key import SetPrivateKey
from app.hooks.rotate import GetCredentials, RotateCredentials, SecretRotate
from app.hooks.rotate_clients import RotateClients
from app.intents.rotate_own_users import RotateOwnUsers
from app.outcome import AskAgain, Done
from domain.backend import BackendRelation
from domain.capabilities import PgBouncerRuntime, Version
from domain.certificates import wanted_names
from domain.container import Container
from domain.facts import Client, Facts
from domain.instances import Layout
from domain.ledger import Ledger
from domain.made import Made
from domain.operations import ALL, KillOrder, Pause
from domain.plan import Serving
from domain.problems import PAUSE, ROTATION, Level, Problem
from domain.rotation import Rotation
from domain.settings import Settings
from domain.system_users import SystemUsers
from domain.tls import UnitCertificates
from domain.users import AccessRequest, Login, Offer

USED = LOGIN.verifying("prefer", ())
PLAN = but(plan(units=1), databases=("blog", "shop"), reconnects=3, restarts=4)
OWN = AUTH.model_copy(update={"auth_user": "pgbouncer_auth_operator", "generation": 6})
SERVED = Serving(port=6432, databases=("blog", "shop"), credentials=6, auth_user="auth")


def client(number, published=True, **how):
    request = AccessRequest(relation_id=number, application=f"app{number}", database="shop", **how)
    offer = Offer(database="shop", endpoints="10.0.0.0:6432") if published else None
    return Client(request=request, published=offer)


FACTS = Facts(
    unit="pgb/0", address="10.0.0.0", leader=True, settings=Settings(), auth=OWN, plan=PLAN,
    layout=Layout(root="/root"), now=1_000.0, serving=SERVED, leader_address="10.0.0.0",
    container=Container(reachable=True, program=PgBouncerRuntime(version=Version(1, 25))),
    backend=BackendRelation(related=True, present=True, credentials=LOGIN),
    ledger=Ledger(provisioned_for="operator", capacity=7, rotation_period="monthly"),
    clients=(client(4), client(5), client(6, published=False)),
)  # fmt: skip


class Reads:
    """The source of these facts, and the end of the intents."""

    def __init__(self, facts):
        self.read = lambda: facts


def new_passwords():
    numbers = iter(range(1, 99))
    return lambda: pydantic.SecretStr(f"new{next(numbers)}")


# Orders.
TAKEN_BACK = Problem(topic=PAUSE, level=Level.ACTIVE, text="taken back")


@pytest.mark.parametrize(
    ("ask", "before", "after"),
    [
        (lambda do: do.pause("shop", 20), {}, {"paused": (Pause(database="shop", since=1_000, until=1_020),)}),
        (lambda do: do.pause(), {}, {"paused": (Pause(database=ALL, since=1_000),)}),
        (lambda do: do.resume(), {"paused": (Pause(since=5),)}, {"paused": ()}),
        (lambda do: do.resume("shop"), {"paused": (Pause(database="shop"), Pause(database="blog"))},
         {"paused": (Pause(database="blog"),)}),
        (lambda do: do.disable("shop"), {"disabled": ("blog",)}, {"disabled": ("blog", "shop")}),
        (lambda do: do.enable("shop"), {"disabled": ("blog", "shop")}, {"disabled": ("blog",)}),
        (lambda do: do.restart(), {}, {"restarts": 5}),
        (lambda do: do.reconnect(), {}, {"reconnects": 4}),
        (lambda do: do.kill(KillOrder(user="u", idle=9)), {"kills": KillOrder(number=2)},
         {"kills": KillOrder(number=3, user="u", idle=9)}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("troubled", [True, False])
def test_an_order_is_in_the_plan_that_is_shared(ask, before, after, troubled):
    ledger = FACTS.ledger.with_problem(TAKEN_BACK) if troubled else FACTS.ledger
    facts, peers = but(FACTS, plan=but(PLAN, **before), ledger=ledger), Port()
    outcome = ask(Operate(Reads(facts), peers, Done))
    wanted = but(facts.plan, **after)
    forgets = troubled and "paused" in after
    told = [("record", FACTS.ledger)] if forgets else []
    assert peers.told == [*told, ("share", wanted)]
    end = facts.recording(FACTS.ledger) if forgets else facts
    assert outcome == Done(end.sharing(wanted))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"leader": False}, "pgb/0 does not lead: run `juju run pgbouncer-k8s/leader kill-clients`"),
        ({"leaving": True}, "pgb/0 is being removed, or cannot read what another release wrote: see its status"),
        ({"plan": None}, "there is no configuration yet: wait until the unit is active"),
        ({"container": Container(program=PgBouncerRuntime(version=Version(1, 23, 1)))},
         "PgBouncer 1.23.1 cannot disconnect a client: refresh to an image with 1.24 or later"),
        ({"container": Container(program=PgBouncerRuntime(version=Version(1, 24)))},
         "there is no database 'x': there are blog, shop"),
    ],
)  # fmt: skip
def test_an_order_that_cannot_be_given_says_why(changes, reason):
    peers = Port()
    with pytest.raises(ActionFailed) as refused:
        Operate(Reads(but(FACTS, **changes)), peers, Done).kill(KillOrder(database="x"))
    assert (str(refused.value), peers.told) == (reason, [])


def test_an_order_that_changes_nothing_shares_nothing():
    peers = Port()
    for container in (Container(), FACTS.container):
        facts = but(FACTS, container=container, plan=but(PLAN, disabled=("shop",)))
        assert Operate(Reads(facts), peers, Done).disable("shop") == Done(facts)
    assert peers.told == []


# Rotations.
def rotate(facts=FACTS):
    """Return the action, and what it tells the secret and the ledger."""
    peers, secrets = Port(), Port()
    own = RotateOwnUsers(Port(), secrets, peers, new_passwords())
    return (
        RotateCredentials(Reads(facts), own, RotateClients(peers), Done),
        secrets.told,
        peers.told,
    )


NEXT_OWN = OWN.beginning(
    Login(username="pgbouncer_auth_operator_2", password=pydantic.SecretStr("new1"))
).with_console(
    stats=pydantic.SecretStr("new2"), admin=pydantic.SecretStr("new3"), chosen=()
)  # fmt: skip
OWN_BEGINS = "PgBouncer's own users get new passwords; the units apply them in turn"
FOUR = Rotation(username="relation_id_4", second=True, stage="asked", seconds=60)
FIVE = Rotation(username="relation_id_5", second=True, stage="asked", seconds=60)
TOLD = {
    4: "app4 gets user relation_id_4__2 in place of relation_id_4",
    5: "app5 gets user relation_id_5__2 in place of relation_id_5",
}


@pytest.mark.parametrize(
    ("users", "application", "messages", "auth", "rotations"),
    [
        ("own", "", (OWN_BEGINS,), NEXT_OWN, ()),
        ("clients", "", (TOLD[4], TOLD[5]), OWN, (FOUR, FIVE)),
        ("clients", "app5", (TOLD[5],), OWN, (FIVE,)),
        ("all", "app4", (OWN_BEGINS, TOLD[4]), NEXT_OWN, (FOUR,)),
    ],
)
def test_a_rotation_begins_for_the_users_that_are_named(
    users, application, messages, auth, rotations
):
    action, secret, recorded = rotate()
    result = action(users, application, 60)
    ledger = but(FACTS.ledger, rotations=rotations)
    end = FACTS.recording(ledger)
    assert result == (messages, Done(end.with_auth(auth) if auth != OWN else end))
    assert secret == ([("store", auth)] if auth != OWN else [])
    assert recorded == ([("record", ledger)] if rotations else [])


@pytest.mark.parametrize("seconds", [0, 60])
def test_a_rotation_that_goes_on_is_not_begun_again(seconds):
    going = but(FOUR, stage="renamed")
    facts = FACTS.recording(but(FACTS.ledger, rotations=(going,)))
    action, _, recorded = rotate(facts)
    cut = ", and its sessions end when it was told" if seconds == 0 else ""
    assert action("clients", seconds=seconds).messages == (
        "app4 is being rotated already: it gets user relation_id_4__2 as soon as every unit and"
        " PostgreSQL let it in",
        TOLD[5] + cut,
    )
    ledger = but(FACTS.ledger, rotations=(going, but(FIVE, seconds=seconds)))
    assert recorded == [("record", ledger)]
    goes_on = "a change of the passwords of PgBouncer's own users goes on already"
    other = {"next_auth": NEXT_OWN.next_auth}, {"former_auth": NEXT_OWN.next_auth}
    for change in (*other, {"leaving_auth": "before"}):
        changing = but(FACTS, auth=but(OWN, **change))
        action, secret, _ = rotate(changing)
        assert action("own") == ((goes_on,), Done(changing))
        assert secret == []


@pytest.mark.parametrize(
    ("changes", "ask", "reason"),
    [
        ({"leader": False}, ("own", ""),
         "pgb/0 does not lead: run `juju run pgbouncer-k8s/leader rotate-credentials users=own`"),
        ({"plan": None}, ("all", ""),
         "client users cannot be rotated while PostgreSQL is not ready: see the status"),
        ({}, ("all", "app6"),
         "no application 'app6' has credentials: applications with credentials are app4, app5"),
        ({"clients": ()}, ("clients", "x"),
         "no application 'x' has credentials: applications with credentials are none"),
        ({"auth": None}, ("own", ""),
         "PgBouncer's own users do not exist yet: relate PostgreSQL by backend-database, and try again"
         " when the application is active"),
    ],
)  # fmt: skip
def test_a_rotation_that_cannot_begin_says_why(changes, ask, reason):
    action, secret, recorded = rotate(but(FACTS, **changes))
    with pytest.raises(ActionFailed) as refused:
        action(*ask)
    assert (str(refused.value), secret, recorded) == (reason, [], [])


@pytest.mark.parametrize("changes", [{}, {"leader": False}, {"auth": None}])
def test_juju_asks_the_leader_for_new_passwords(changes):
    facts, secrets = but(FACTS, **changes), Port()
    own = RotateOwnUsers(Port(), secrets, Port(), new_passwords())
    outcome = SecretRotate(Reads(facts), own, lambda now: Done(now, unchanged=True))()
    if changes:
        assert (outcome, secrets.told) == (Done(facts), [])
    else:
        assert outcome == Done(facts.with_auth(NEXT_OWN), unchanged=True)
        assert secrets.told == [("store", NEXT_OWN)]


GIVEN = but(OWN, next_auth=NEXT_OWN.next_auth, generation=6)
BEHIND = but(SERVED, credentials=5)
USING = "about to use pgbouncer_auth_operator_2"


@pytest.mark.parametrize(
    ("auth", "changes", "answers", "steps", "after", "reason"),
    [
        (OWN, {}, {}, 0, None, ""),
        (GIVEN, {"leader": False}, {}, 0, None, ""),
        (GIVEN, {"auth_unshared": True}, {}, 0, None, "about to give new passwords to all units"),
        (GIVEN, {"peers_plan": PLAN}, {}, 0, None, "about to give new passwords to all units"),
        (GIVEN, {}, {"admits": True}, 4, GIVEN.used(), USING),
        (GIVEN, {}, {"admits": False}, 4, None,
         "waiting for PostgreSQL to let in pgbouncer_auth_operator_2"),
        (GIVEN, {"serving": BEHIND}, {"admits": True}, 3, None, ""),
        (GIVEN, {}, {"open": DatabaseUnreachable("away")}, 1, None, "away"),
        (GIVEN, {"settings": Settings(backend_tls_sslmode="require-verify")}, {}, 0, None, ""),
        (GIVEN.used(), {}, {}, 0, GIVEN.used().unused(), "about to drop the former auth user"),
        (GIVEN.used(), {"serving": BEHIND}, {}, 0, None, ""),
        (GIVEN.used().unused(), {"serving": but(SERVED, credentials=7)}, {}, 0,
         GIVEN.used().unused().ended(), "about to drop the former auth user"),
    ],
)  # fmt: skip
def test_own_users_take_a_single_step_in_each_hook(auth, changes, answers, steps, after, reason):
    databases, secrets, peers = Port(made=Made(cluster="c1"), **answers), Port(), Port()
    facts = but(FACTS, **{"auth": auth} | changes)
    outcome = RotateOwnUsers(databases, secrets, peers, new_passwords())(facts)
    made = steps > 1
    end = facts.recording(facts.ledger.making(Made(cluster="c1"))) if made else facts
    if after:
        end = end.with_auth(after)
    told = [
        ("open", USED, facts.ledger), ("provision_next", auth, "pgbouncer"), ("made",),
        ("admits", USED, auth.next_auth, "pgbouncer"),
    ]  # fmt: skip
    assert databases.told == told[:steps]
    assert secrets.told == ([("store", after)] if after else [])
    assert outcome == (AskAgain(end, reason) if reason else Done(end))


def test_a_refused_auth_user_stays_and_a_period_and_choices_are_kept():
    databases = Port(open=DatabaseRefused("it says no"))
    facts = but(FACTS, auth=GIVEN)
    text = (
        "passwords of PgBouncer's own users: user pgbouncer_auth_operator goes on to look passwords"
        " up: it says no"
    )
    found = Problem(topic=ROTATION, level=Level.BLOCKED, text=text)
    outcome = RotateOwnUsers(databases, Port(), Port(), new_passwords())(facts)
    assert outcome == Done(facts.recording(facts.ledger.with_problem(found)))
    kept = facts.ledger.with_problem(found)
    calm = but(FACTS, ledger=kept, plan=but(PLAN, settings=Settings(rotate_own_credentials="yearly")),
               system_users=SystemUsers(admin=pydantic.SecretStr("chosen-word")))  # fmt: skip
    secrets, peers = Port(), Port()
    outcome = RotateOwnUsers(Port(), secrets, peers, new_passwords())(calm)
    chosen = OWN.with_console(
        stats=OWN.stats_password, admin=pydantic.SecretStr("chosen-word"), chosen=("admin",)
    )
    asked = kept.asking_to_rotate("yearly")
    assert secrets.told == [("ask_to_rotate", "yearly"), ("store", chosen)]
    assert peers.told == [("record", asked)]
    reason = "about to give new passwords to all units"
    assert outcome == AskAgain(calm.recording(asked).with_auth(chosen), reason)
    again = but(FACTS, auth=GIVEN, ledger=kept)
    outcome = RotateOwnUsers(Port(admits=True, made=Made()), Port(), Port(), new_passwords())(
        again
    )
    assert outcome == AskAgain(but(FACTS, auth=GIVEN).with_auth(GIVEN.used()), USING)
    done = but(FACTS, ledger=kept)
    assert RotateOwnUsers(Port(), Port(), peers, new_passwords())(done) == Done(FACTS)
    assert peers.told[1:] == [("record", FACTS.ledger)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"leader": False}, "pgb/0 does not lead: run `juju run pgbouncer-k8s/leader get-credentials`"),
        ({"auth": None},
         "PgBouncer's own users do not exist yet: relate PostgreSQL by backend-database, and try again"
         " when the application is active"),
        ({"auth": but(OWN, chosen=("admin",))},
         "the password of admin is the value of `admin` in the secret of the option system-users: read"
         " it there"),
        ({"auth": but(OWN, chosen=("stats",))}, ""),
    ],
)  # fmt: skip
def test_the_login_of_the_console_is_in_a_secret(changes, reason):
    facts, secrets = but(FACTS, **changes), Port(publish_console="secret:1")
    action = GetCredentials(Reads(facts), secrets)
    if not reason:
        assert action() == "secret:1"
        assert secrets.told == [("publish_console", facts.auth)]
        action.remove()
        assert secrets.told[1:] == [("withdraw_console",)]
        return
    with pytest.raises(ActionFailed) as refused:
        action()
    assert (str(refused.value), secrets.told) == (reason, [])
    if not facts.leader:
        with pytest.raises(ActionFailed) as refused:
            action.remove()
        assert str(refused.value) == f"{reason[:-1]} remove=true`"


def test_a_password_that_is_not_chosen_any_more_is_made_again():
    facts = but(FACTS, auth=but(OWN, chosen=("admin",)), system_users=SystemUsers())
    secrets = Port()
    RotateOwnUsers(Port(), secrets, Port(), new_passwords())(facts)
    made = OWN.with_console(stats=OWN.stats_password, admin=pydantic.SecretStr("new3"), chosen=())
    assert secrets.told == [("store", made)]


def test_a_key_needs_an_authority_and_names():
    known = UnitCertificates(related=True)
    facts, port, key = but(FACTS, certificates=known), Port(), pydantic.SecretStr("k")
    SetPrivateKey(Reads(facts), port)(key)
    assert port.told == [("rotate", wanted_names(facts), key)]
    with pytest.raises(CertificatesFailed, match="there is no authority to ask for a certificate"):
        SetPrivateKey(Reads(FACTS), port)(key)
    with pytest.raises(
        CertificatesFailed, match="the leader has not shared its configuration yet"
    ):
        SetPrivateKey(Reads(but(facts, plan=None, settings=None)), port)(key)
    assert len(port.told) == 1
