"""What single intents write at their ports, in whole, and the whole outcome."""

import pydantic
import pytest
from plans import plan
from samples import AUTH, but
from told_ports import Port

from app.errors import (
    PoolerFailed,
)
from app.intents.judge_pauses import JudgePauses
from app.intents.share_passwords import SharePasswords
from app.intents.tell_observers import TellObservers
from app.intents.verify_servers import VerifyServers
from app.outcome import AskAgain, Done
from domain.applied import AppliedProcess, AppliedState
from domain.backend import BackendLogin, BackendRelation
from domain.capabilities import PgBouncerRuntime, Version
from domain.certificate_logins import CertificateLogin
from domain.container import Container
from domain.endpoints import endpoints_in
from domain.facts import Client, Facts, Peer
from domain.instances import Layout
from domain.ledger import Ledger
from domain.observers import identity, told
from domain.operations import ALL, Holder, Operations, Pause
from domain.plan import Serving
from domain.problems import PAUSE, Level, Problem
from domain.settings import Settings
from domain.telemetry import LogTarget, TelemetryFacts
from domain.users import AccessRequest, Grant, Login, Offer
from domain.verification import proof_of

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
OTHER = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----"
LOGIN = BackendLogin(
    user="operator", password=pydantic.SecretStr("secret"), database="pgbouncer",
    endpoints=endpoints_in("10.1.0.1:5432,10.1.0.2:5433"), tls=True, authorities=(CERTIFICATE,),
    rooted=True,
)  # fmt: skip
FIRST, SECOND = LOGIN.endpoints
RECORD = AppliedState(
    program=PgBouncerRuntime(version=Version(1, 25)),
    instances=(AppliedProcess(index=0, port=6432, restart="a", reload="b"),),
    users="e",
    serving=Serving(port=6432),
)
FACTS = Facts(
    unit="pgb/0", address="10.0.0.0", leader=True, settings=Settings(backend_tls_sslmode="verify"),
    layout=Layout(root="/root"), auth=AUTH, plan=plan(), now=1_000.0,
    container=Container(reachable=True, running=frozenset({0}), applied=RECORD),
    backend=BackendRelation(related=True, present=True, credentials=LOGIN),
    ledger=Ledger(provisioned_for="operator", capacity=7), peers=(Peer(name="pgb/1"),),
)  # fmt: skip


class Refusing(Port):
    """A port to PostgreSQL that cannot be opened."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def open(self, *values):
        raise self.error


def proving(verified, *problems, ledger=FACTS.ledger):
    return but(ledger, verified=verified, problems=problems)


REFUSED = Problem(
    topic="verification", level=Level.BLOCKED,
    text=f"PostgreSQL at {SECOND} is not verified: it has no certificate",
)  # fmt: skip
PROVEN = proving(proof_of(LOGIN))
UNPROVEN = proving("")
ROTATING = but(
    plan(), upstream=but(plan().upstream, mode="verify-full", authorities=(OTHER, CERTIFICATE))
)
BUSY = Problem(topic="database", level=Level.BLOCKED, text="no answer")
WAITS = "waiting until 10.1.0.1:5432, 10.1.0.2:5433 is verified"


@pytest.mark.parametrize(
    ("changes", "verify", "found", "ledger", "waits"),
    [
        ({"leader": False}, True, None, None, False),
        ({"leaving": True}, True, None, None, False),
        ({"ledger": proving("old", BUSY)}, True, None, None, False),
        ({"ledger": proving("old"), "backend": BackendRelation()}, True, None, None, False),
        ({"ledger": proving("old"), "settings": Settings(backend_tls_sslmode="prefer")}, True,
         None, UNPROVEN, False),
        ({"ledger": but(proving("old"), provisioned_for="other")}, True, None,
         but(UNPROVEN, provisioned_for="other"), False),
        ({"ledger": PROVEN}, False, None, None, False),
        ({"ledger": PROVEN}, True, {}, None, False),
        ({"ledger": proving("old", REFUSED)}, False, {}, PROVEN, False),
        ({}, False, {FIRST: "", SECOND: ""}, PROVEN, False),
        ({"plan": ROTATING, "ledger": PROVEN}, True, {FIRST: "", SECOND: ""}, UNPROVEN, True),
        ({"plan": ROTATING}, False, {}, PROVEN, False),
        ({"ledger": PROVEN}, True, {FIRST: "", SECOND: "it has no certificate"},
         proving("", REFUSED), True),
        ({"ledger": proving("", REFUSED)}, False, {FIRST: "", SECOND: "it has no certificate"},
         None, True),
    ],
)  # fmt: skip
def test_every_endpoint_is_verified_by_the_present_authorities(
    changes, verify, found, ledger, waits
):
    facts = but(FACTS, **changes)
    databases, peers = Port(refusals=found), Port()
    after = facts.recording(ledger) if ledger else facts
    outcome = VerifyServers(databases, peers, verify)(facts)
    assert outcome == (AskAgain(after, WAITS) if waits else Done(after))
    assert peers.told == ([("record", ledger)] if ledger else [])
    assert [name for name, *_ in databases.told] == ([] if found is None else ["refusals"])
    if found is not None:
        assert databases.told[0][1].authorities == (CERTIFICATE,)


def client(number, password="", published=True):
    request = AccessRequest(relation_id=number, application=f"app{number}", database="shop")
    offer = Offer(database="shop", endpoints="10.0.0.0:6432") if published else None
    return Client(request=request, published=offer)


def by_certificate(*numbers):
    return tuple(
        CertificateLogin(username=f"relation_id_{n}", name=f"n{n}", certificate=CERTIFICATE)
        for n in numbers
    )


def login(number, password):
    return Login(username=f"relation_id_{number}", password=pydantic.SecretStr(password))


PASSWORDS = {4: "four", 5: "five", 6: None}


@pytest.mark.parametrize(
    ("certificates", "before", "changes", "after"),
    [
        ((), (), {}, None),
        ((4,), (login(4, "four"),), {}, None),
        ((4, 5), (), {}, (login(4, "four"), login(5, "five"))),
        ((6,), (), {}, None),
        ((7,), (), {}, None),
        ((), (login(4, "old"),), {}, (login(4, "four"),)),
        ((4,), (login(9, "nine"),), {}, (login(4, "four"),)),
        ((), (login(8, "eight"), login(9, "nine")), {}, (login(8, "eight"),)),
        ((5,), (), {"leader": False}, None),
        ((5,), (), {"leaving": True}, None),
    ],
)
def test_units_have_the_passwords_of_clients_with_certificates(
    certificates, before, changes, after
):
    kept = Grant(relation_id=8, username="relation_id_8", database="shop")
    facts = but(
        FACTS, plan=but(plan(), certificate_logins=by_certificate(*certificates)),
        auth=AUTH.with_clients(before), relations_without_request=frozenset({8}),
        clients=(client(5), client(4), client(6), client(7, published=False)),
        ledger=Ledger(grants=(kept,)), **changes,
    )  # fmt: skip

    def password(request):
        text = PASSWORDS[request.relation_id]
        return text and pydantic.SecretStr(text)

    clients, secrets = Port(password=password), Port()
    outcome = SharePasswords(clients, secrets)(facts)
    if after is None:
        assert (outcome, secrets.told) == (Done(facts), [])
        return
    auth = AUTH.with_clients(after)
    assert outcome == AskAgain(facts.with_auth(auth), "about to let clients log in by certificate")
    assert secrets.told == [("store", auth)]
    asked = {login.username for login in before} | {f"relation_id_{n}" for n in certificates}
    assert {request.username for _, request in clients.told} == asked & {
        "relation_id_4", "relation_id_5", "relation_id_6",
    }  # fmt: skip


@pytest.mark.parametrize("missing", [{"auth": None}, {"plan": None}])
def test_without_users_or_a_plan_no_password_is_shared(missing):
    facts, secrets = but(FACTS, clients=(client(4),), **missing), Port()
    assert SharePasswords(Port(), secrets)(facts) == Done(facts)
    assert secrets.told == []


def paused(*pauses):
    return plan().pausing(pauses)


SHOP = Pause(database="shop", since=970, until=1_055)
LATE = Pause(database="blog", since=980, until=1_000)
HOLDER = Holder(
    unit="pgb/1", process=2, database="blog", user="relation_id_5", address="10.9.9.9:1", since=990
)


@pytest.mark.parametrize(
    ("before", "changes", "after", "left"),
    [
        ((), {}, None, None),
        ((SHOP,), {"leader": False}, None, None),
        ((SHOP,), {}, None, 50),
        ((SHOP, Pause(since=990, until=1_019)), {}, None, 10),
        ((SHOP,), {"now": 1_050.0}, None, 0),
        ((Pause(since=9),), {}, None, None),
    ],
)
def test_a_pause_is_looked_at_again_while_it_may_be_taken_back(before, changes, after, left):
    facts, peers = but(FACTS, plan=paused(*before), **changes), Port()
    reason = f"waiting until the pause is complete, for {left} s or more"
    end = Done(facts) if left is None else AskAgain(facts, reason)
    assert JudgePauses(peers)(facts) == end
    assert peers.told == []


def test_a_pause_whose_time_is_over_leaves_a_problem_and_the_other_pauses():
    peer = Peer(name="pgb/1", operations=Operations(holder=HOLDER))
    facts, peers = but(FACTS, plan=paused(LATE, SHOP), peers=(peer,)), Port()
    text = (
        "the pause of database blog was taken back after 20 s: client 10.9.9.9:1 (user"
        " relation_id_5, database blog) keeps a server connection of process 2 of pgb/1; its last"
        " request began 10 s ago"
    )
    found = Problem(topic=PAUSE, level=Level.ACTIVE, text=text)
    outcome = JudgePauses(peers)(facts)
    ledger = facts.ledger.with_problem(found)
    after = facts.recording(ledger).sharing(paused(SHOP))
    assert outcome == AskAgain(after, "waiting until the pause is complete, for 50 s or more")
    assert peers.told == [("record", ledger), ("share", paused(SHOP))]


def test_a_pause_that_is_complete_everywhere_lasts():
    done = Operations(paused=(ALL,))
    peer = Peer(name="pgb/1", operations=done)
    facts, peers = but(FACTS, plan=paused(SHOP), peers=(peer,), operations=done), Port()
    lasting = paused(but(SHOP, until=0))
    assert JudgePauses(peers)(facts) == Done(facts.sharing(lasting))
    assert peers.told == [("share", lasting)]


LOKI = (LogTarget(name="loki/0", url="http://10.9.0.1/push"),)
SEEN = TelemetryFacts(metrics=True, relations=(3,), loki=LOKI, labels=(("juju_model", "m"),))


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {}, {"leader": False}, {"plan": None}, {"address": ""}, {"leaving": True},
        {"container": Container()}, {"telemetry": but(SEEN, relations=())},
        {"telemetry": but(SEEN, metrics=False)}, {"telemetry": but(SEEN, forwarded=LOKI)},
    ],
)  # fmt: skip
def test_observers_are_told_what_they_do_not_know(changes, known, verify):
    facts = but(FACTS, **{"telemetry": SEEN} | changes)
    what = told(facts, facts.plan) if facts.plan else None
    name = identity(facts, what) if what else ""
    if known:
        facts = facts.recording(facts.ledger.telling_observers(name))
    expected, after = [], facts
    leads = facts.leader and not facts.leaving
    if facts.telemetry.metrics and facts.address and not facts.leaving:
        expected.append(("announce", "10.0.0.0"))
    tells = leads and what is not None and facts.telemetry.relations
    if tells and (verify or not known):
        expected.append(("tell", what))
    if tells and not known:
        after = after.recording(facts.ledger.telling_observers(name))
    if not facts.leaving and facts.container.reachable and not facts.telemetry.forwarded:
        expected.append(("forward", LOKI))
        after = after.forwarding(LOKI)
    port, peers = Port(), Port()
    assert TellObservers(port, peers, verify)(facts) == Done(after)
    assert port.told == expected
    assert peers.told == ([("record", after.ledger)] if after.ledger != facts.ledger else [])


def test_log_lines_that_are_not_sent_are_a_problem():
    facts, port = but(FACTS, telemetry=but(SEEN, relations=())), Port(forward=PoolerFailed("no"))
    text = "logging: log lines are not sent to Loki: no"
    found = Problem(topic="logging", level=Level.ACTIVE, text=text)
    assert TellObservers(port, Port(), False)(facts) == Done(facts, (found,))
