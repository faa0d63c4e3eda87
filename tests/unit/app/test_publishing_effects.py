"""What clients are told, and what Kubernetes is asked for them, in whole."""

import pydantic
import pytest
from plans import plan
from samples import AUTH, but
from told_ports import LOGIN, Port

from app.errors import (
    DatabaseBusy,
    DatabaseRefused,
    DatabaseUnreachable,
    ExposureFailed,
    ExposureForbidden,
)
from app.intents.expose import Expose
from app.intents.publish_endpoints import PublishEndpoints
from app.outcome import AskAgain, Done
from domain import exposure
from domain.backend import BackendRelation
from domain.certificate_logins import CertificateLogin
from domain.facts import Client, Facts
from domain.instances import Layout
from domain.ledger import Ledger
from domain.plan import Serving
from domain.problems import Level, Problem
from domain.rotation import Rotation
from domain.service import Exposed, ServiceState, UnitNode
from domain.settings import Settings
from domain.tls_told import told_tls
from domain.users import AccessRequest, Grant, Login, Offer

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
USED = LOGIN.verifying("prefer", ())
OLD = Offer(database="shop", endpoints="10.0.0.9:6432", version="16")
SHOP = Offer(database="shop", endpoints="10.0.0.0:6432", version="17.1")
NEWS = Offer(database="news", endpoints="10.0.0.0:6432", version="17.1")
KNOWN = Login(username="relation_id_5", password=pydantic.SecretStr("five"))
NEW = Login(username="relation_id_5", password=pydantic.SecretStr("new1"))


def client(number, database, published=None, **how):
    request = AccessRequest(
        relation_id=number, application=f"app{number}", database=database, **how
    )
    return Client(request=request, published=published)


def grant(number, database, **how):
    return Grant(
        **{"relation_id": number, "username": f"relation_id_{number}", "database": database} | how
    )


PLAN = plan(units=1)
PLAN = but(PLAN, upstream=but(PLAN.upstream, version="17.1"), databases=("news", "shop"))
CALM = client(4, "shop", SHOP)
FACTS = Facts(
    unit="pgb/0", address="10.0.0.0", leader=True, settings=Settings(), auth=AUTH, plan=PLAN,
    layout=Layout(root="/root"), now=1_000.0, clients=(CALM,),
    serving=Serving(port=6432, databases=("news", "shop"), revision=0),
    backend=BackendRelation(related=True, present=True, credentials=LOGIN),
    ledger=Ledger(
        provisioned_for="operator", grants=(grant(4, "shop"), grant(5, "news")), capacity=7
    ),
)  # fmt: skip


def publish(facts, databases=None, **clients):
    """Return the outcome, and what PostgreSQL, clients and the ledger got."""
    databases, told, peers = databases or Port(admits=True), Port(**clients), Port()
    numbers = iter(range(1, 9))
    outcome = PublishEndpoints(
        databases, told, peers, lambda: pydantic.SecretStr(f"new{next(numbers)}")
    )(facts)
    return outcome, databases.told, told.told, peers.told


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"leader": False, "clients": (client(4, "shop", OLD),)},
        {"clients": (client(4, "shop", OLD),), "serving": None},
        {"clients": (client(5, "news"),), "serving": None},
        {"clients": (client(5, "news"),), "auth": None},
        {"clients": (client(5, "news"),), "backend": BackendRelation()},
        {"clients": (client(6, "other"),)},
    ],
)  # fmt: skip
def test_a_client_without_news_is_told_nothing(changes):
    facts = but(FACTS, **changes)
    assert publish(facts) == (Done(facts), [], [], [])


def test_a_client_keeps_its_credentials_and_gets_new_endpoints():
    facts = but(FACTS, clients=(CALM, client(4, "else", OLD), client(5, "news", OLD, kept=True)))
    after = (CALM, client(4, "else", SHOP), client(5, "news", NEWS, kept=True))
    assert publish(facts) == (
        Done(but(facts, clients=after)),
        [],
        [("publish", facts.clients[1].request, SHOP, None, False),
         ("publish", facts.clients[2].request, NEWS, None, False)],
        [],
    )  # fmt: skip


@pytest.mark.parametrize("shared", [(), (but(KNOWN, username="relation_id_4"), KNOWN)])
@pytest.mark.parametrize("admitted", [True, False])
def test_a_new_client_gets_credentials_that_work(shared, admitted):
    facts = but(FACTS, clients=(CALM, client(5, "news")), auth=AUTH.with_clients(shared))
    login = KNOWN if shared else NEW
    outcome, databases, told, ledger = publish(facts, Port(admits=admitted))
    assert databases == [
        ("open", USED, FACTS.ledger), ("set_password", login), ("admits", USED, login, "news"),
    ]  # fmt: skip
    assert ledger == []
    if admitted:
        assert outcome == Done(but(facts, clients=(CALM, client(5, "news", NEWS))))
        assert told == [("publish", client(5, "news").request, NEWS, login, True)]
    else:
        assert outcome == AskAgain(facts, "waiting for PostgreSQL to let in relation_id_5")
        assert told == []


@pytest.mark.parametrize("failing", ["open", "set_password", "admits"])
@pytest.mark.parametrize("error", [DatabaseUnreachable("away"), DatabaseRefused("no")])
def test_a_client_waits_for_postgresql(failing, error):
    facts = but(FACTS, clients=(client(5, "news"), client(4, "shop")))
    outcome, databases, told, _ = publish(facts, Port(**{failing: error}))
    reason = "waiting for PostgreSQL to let in relation_id_5, relation_id_4"
    assert (outcome, told) == (AskAgain(facts, reason), [])
    assert len(databases) == {"open": 2, "set_password": 4, "admits": 6}[failing]


def test_a_client_does_not_wait_for_a_server_that_may_not_be_used():
    verified = Settings(backend_tls_sslmode="require-verify")
    facts = but(FACTS, clients=(client(5, "news"),), settings=verified)
    reason = "waiting for PostgreSQL to let in relation_id_5"
    assert publish(facts) == (AskAgain(facts, reason), [], [], [])
    facts = but(facts, backend=BackendRelation(related=True, present=True))
    assert publish(facts) == (Done(facts), [], [], [])


@pytest.mark.parametrize("ready", [True, False])
def test_every_client_is_told_of_tls_once(ready):
    tls = but(PLAN, tls=True, client_authorities=(CERTIFICATE,))
    old = client(6, "other", NEWS, endpoint="db")
    facts = but(
        FACTS, plan=tls, clients=(CALM, old, client(7, "shop")), auth=AUTH if ready else None
    )
    offer = but(SHOP, tls=True, tls_ca=f"{CERTIFICATE}\n")
    ledger = FACTS.ledger.telling(told_tls(tls))
    after = but(facts, clients=(client(4, "shop", offer), *facts.clients[1:]), ledger=ledger)
    outcome = (
        Done(after),
        [],
        [("publish", CALM.request, offer, None, True)],
        [("record", ledger)],
    )
    assert publish(facts) == outcome
    assert publish(but(after, clients=(client(5, "news", NEWS, endpoint="db"),)))[2] == []
    assert publish(after) == (Done(after), [], [], [])
    assert publish(but(facts, plan=None))[1:] == ([], [], [])
    # What clients know of TLS is not read again.
    unread = but(after, clients=facts.clients)
    assert publish(unread) == (Done(unread), [], [], [])


@pytest.mark.parametrize(
    ("published", "reason"),
    [(SHOP, "about to close port 7000"), (but(SHOP, endpoints="x:7000"), "")],
)
def test_the_former_port_closes_when_every_client_has_the_new_port(published, reason):
    facts = but(FACTS, plan=but(PLAN, former_port=7000), clients=(client(4, "shop", published),),
                serving=None)  # fmt: skip
    end = AskAgain(facts, reason) if reason else Done(facts)
    assert publish(facts) == (end, [], [], [])


def test_clients_that_are_told_let_the_service_shrink():
    ledger = FACTS.ledger.exposing((6432,), Exposed(kind="nodeport", told="false"))
    offer = but(SHOP, endpoints="pool:6432")
    facts = but(FACTS, service_host="pool", ledger=ledger, clients=(client(4, "shop", offer),))
    reason = "about to take what no client uses away from the Service"
    assert publish(facts) == (AskAgain(facts, reason), [], [], [])


ROTATION = Rotation(username="relation_id_4", second=True, stage="renamed", seconds=60)
SECOND = ROTATION.current


def rotated(rotation, **changes):
    request = but(CALM.request, renamed=rotation.current)
    grants = (grant(5, "news"), grant(4, "shop", username=rotation.current))
    ledger = but(FACTS.ledger, grants=grants, rotations=(rotation,))
    clients = (client(5, "news", NEWS), Client(request=request, published=SHOP))
    return but(FACTS, **{"clients": clients, "ledger": ledger} | changes)


LATER = "waiting for PostgreSQL to let in relation_id_4__2"


@pytest.mark.parametrize("admitted", [True, False])
def test_a_client_with_a_new_name_gets_new_credentials(admitted):
    facts = rotated(ROTATION)
    login = Login(username=SECOND, password=pydantic.SecretStr("new1"))
    outcome, databases, told, ledger = publish(facts, Port(admits=admitted), knows=False)
    assert databases == [
        ("open", USED, facts.ledger), ("set_password", login), ("admits", USED, login, "shop"),
    ]  # fmt: skip
    request = facts.clients[-1].request
    written = [("publish", request, SHOP, login, True)] if admitted else []
    assert (told, ledger) == ([("knows", request), *written], [])
    reason = "about to let the former names of relation_id_4__2 expire"
    assert outcome == AskAgain(facts, reason if admitted else LATER)


@pytest.mark.parametrize(
    ("answer", "until"),
    [(1_234.0, 1_234.0), (DatabaseBusy("x"), 1_060.0), (DatabaseRefused("x"), None),
     (DatabaseUnreachable("x"), None)],
)  # fmt: skip
def test_a_former_name_expires_when_the_client_knows_its_new_name(answer, until):
    facts = rotated(ROTATION)
    outcome, databases, told, recorded = publish(facts, Port(expire=answer), knows=True)
    assert databases == [("open", USED, facts.ledger), ("expire", "relation_id_4", 60)]
    assert told == [("knows", facts.clients[-1].request)]
    if until is None:
        assert (outcome, recorded) == (AskAgain(facts, LATER), [])
    else:
        ledger = but(facts.ledger, rotations=(but(ROTATION, stage="told", until=until),))
        assert (outcome, recorded) == (Done(facts.recording(ledger)), [("record", ledger)])


BY_CERTIFICATE = CertificateLogin(username=SECOND, name="n", certificate=CERTIFICATE)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (rotated(ROTATION, plan=but(PLAN, certificate_logins=(BY_CERTIFICATE,))), ""),
        (rotated(but(ROTATION, stage="told", until=2_000.0)), ""),
        (rotated(but(ROTATION, stage="told", seconds=0)),
         "about to end the sessions of relation_id_4"),
        (rotated(but(ROTATION, stage="asked"), clients=(CALM,)),
         "about to give new credentials to relation_id_4"),
        (rotated(ROTATION, settings=Settings(backend_tls_sslmode="require-verify")), LATER),
    ],
)  # fmt: skip
def test_a_rotation_takes_its_next_step_in_another_hook(facts, reason):
    end = AskAgain(facts, reason) if reason else Done(facts)
    assert publish(facts, knows=True) == (end, [], [], [])


# What Kubernetes is asked.
STATE = ServiceState(host="pool", node_ports=((6432, 30_001),), ingress=("203.0.113.5",))
NODES = (UnitNode(host="192.0.2.1", ready=True),)
FORBIDDEN, FAILED = ExposureForbidden("403"), ExposureFailed("500")


def wanting(kind, **changes):
    settings = Settings(expose_external=kind)
    return but(
        FACTS,
        **{"service_host": "pool", "plan": but(PLAN, settings=settings), "clients": ()} | changes,
    )


def expose(facts, checks="nothing", **answers):
    """Return the outcome, and what Kubernetes and the ledger got."""
    kubernetes, peers = Port(**{"expose": STATE, "nodes": NODES} | answers), Port()
    outcome = Expose(kubernetes, peers, checks)(facts)
    return outcome, kubernetes.told, peers.told


def after(facts, trusted=True, state=STATE):
    """Return the ledger after everything was made for these facts."""
    service = exposure.wanted_service(facts, verify=False)
    facts = facts.recording(exposure.with_state(facts, service, state))
    if exposure.wants_nodes(facts):
        facts = facts.recording(exposure.with_nodes(facts, NODES))
    facts = facts.recording(exposure.trusting(facts.ledger, trusted=trusted))
    return exposure.concluded(facts)


@pytest.mark.parametrize("checks", ["nothing", "service", "everything"])
@pytest.mark.parametrize("kind", ["false", "nodeport", "loadbalancer"])
def test_the_service_is_made_once_and_looked_at_by_thorough_hooks(kind, checks):
    facts = wanting(kind)
    service, ledger = exposure.wanted_service(facts, verify=False), after(facts)
    looked = [("nodes",)] if kind == "nodeport" else []
    outcome, told, recorded = expose(facts, checks)
    made = facts.recording(ledger)
    assert outcome == Done(made)
    assert (told, recorded) == (
        [("expose", service), *looked, ("protect",)], [("record", ledger)]
    )  # fmt: skip
    again = exposure.wanted_service(made, verify=False)
    thorough, service_only = checks == "everything", checks == "service" and kind != "false"
    expected = [("expose", again)] if thorough or service_only else []
    expected += [*looked, ("protect",)] if thorough else []
    assert expose(made, checks) == (Done(made), expected, [])


@pytest.mark.parametrize("changes", [{"leader": False}, {"plan": None}, {"service_host": ""}])
def test_a_unit_that_exposes_nothing_asks_kubernetes_nothing(changes):
    facts = wanting("nodeport", **changes)
    assert expose(facts, "everything") == (Done(facts), [], [])


@pytest.mark.parametrize("failing", ["expose", "nodes"])
@pytest.mark.parametrize("error", [FORBIDDEN, FAILED])
def test_kubernetes_that_fails_is_a_problem_in_the_ledger(failing, error):
    facts = wanting("nodeport")
    level = Level.BLOCKED if error is FORBIDDEN else Level.WAITING
    found = Problem(topic="service", level=level, text=str(error))
    outcome, told, recorded = expose(facts, **{failing: error})
    ledger = exposure.concluded(facts.recording(facts.ledger.with_problem(found)))
    if failing == "nodes":
        service = exposure.wanted_service(facts, verify=False)
        ledger = exposure.with_state(facts, service, STATE).with_problem(found)
        ledger = exposure.concluded(facts.recording(ledger))
    assert (outcome, recorded) == (Done(facts.recording(ledger)), [("record", ledger)])
    assert told[-1][0] == failing


@pytest.mark.parametrize(("error", "trusted"), [(FORBIDDEN, False), (FAILED, None), (None, True)])
def test_evictions_are_limited_where_that_is_allowed(error, trusted):
    facts = wanting("false")
    ledger = after(facts, trusted)
    if error is FAILED:
        ledger = ledger.with_problem(Problem(topic="service", level=Level.WAITING, text="500"))
    outcome, told, _ = expose(facts, protect=error)
    assert outcome == Done(facts.recording(ledger))
    assert [name for name, *_ in told] == ["expose", "protect"]
    known = facts.recording(after(facts, trusted))
    assert expose(known)[1] == ([("protect",)] if trusted is None else [])


def test_kubernetes_is_asked_again_while_it_has_no_address():
    facts = wanting("loadbalancer")
    state = but(STATE, ingress=())
    ledger = after(facts, state=state)
    reason = "waiting for Kubernetes to give the Service an address"
    assert expose(facts, expose=state)[0] == AskAgain(facts.recording(ledger), reason)


def test_nodes_that_no_client_uses_are_forgotten_and_borrowed_ports_returned():
    known = facts = wanting("nodeport")
    known = known.recording(after(known)).recording(after(known))
    inside = but(known, plan=but(PLAN, settings=Settings()))
    told = expose(inside)[0].facts
    ledger = expose(told)[0].facts.ledger
    assert (ledger.exposed.kind, ledger.exposed.nodes, ledger.outside) == ("false", (), ())
    facts = wanting("false")
    made = after(facts)
    for borrows, host, gives in [(True, "", True), (False, "", False), (True, "juju", False)]:
        exposed = but(made.exposed, borrows=borrows, host=host)
        before = facts.recording(made.exposing((6432,), exposed))
        outcome, told, _ = expose(before)
        assert told == ([("release",)] if gives else [])
        assert outcome.facts.ledger.exposed == but(exposed, borrows=borrows and not gives)


@pytest.mark.parametrize(("checks", "borrowed"), [("everything", False), ("service", True)])
def test_a_thorough_hook_tries_a_service_of_its_own_again(checks, borrowed):
    facts = wanting("nodeport")
    made = after(facts)
    facts = facts.recording(made.exposing((6432,), but(made.exposed, host="juju", borrows=True)))
    assert expose(facts, checks)[1][0][1].borrowed == borrowed
