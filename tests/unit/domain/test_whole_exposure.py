"""The whole Service that a leader wants, and whole ledgers after Kubernetes has answered."""

import pytest
from configurations import LAYOUT
from plans import plan
from samples import but

from domain import exposure
from domain.endpoints import Endpoint
from domain.facts import Client, Facts, Peer
from domain.ledger import Ledger
from domain.plan import Serving
from domain.problems import Level, Problem
from domain.service import Exposed, Service, ServiceState, UnitNode
from domain.settings import Settings
from domain.users import AccessRequest, Grant, Offer
from domain.value import digest

HOST = "pool-service.dev.svc"
OTHER = Problem(topic="database", level=Level.WAITING, text="x")
FAILED = Problem(topic="service", level=Level.WAITING, text="500")
INSIDE = Exposed(told="false")
NODES = Exposed(
    kind="nodeport", applied="d", node_ports=((6432, 30001), (7000, 30002)), nodes=("n1", "n2"),
    located="l", told="nodeport", trusted=True,
)  # fmt: skip
BALANCED = Exposed(
    kind="loadbalancer", applied="d", node_ports=((6432, 30001),), ingress=("lb1", "lb2"),
    nodes=("n3",), told="loadbalancer",
)  # fmt: skip


def facts(exposed=None, *, kind="false", told=(), policy="local", ports=(6432, 7000), **changes):
    """Return the facts of a leader whose clients were told these endpoints, each in its turn."""
    decided = plan(
        former_port=7000,
        databases=("shop",),
    )
    settings = Settings(
        expose_external=kind, external_traffic_policy=policy,
        loadbalancer_extra_annotations='{"b": "2", "a": "1"}',
    )  # fmt: skip
    clients = tuple(
        Client(
            request=AccessRequest(relation_id=number, application="a", database="shop"),
            published=Offer(database="shop", endpoints=endpoints),
        )
        for number, endpoints in enumerate(told)
    )
    grants = tuple(
        Grant(relation_id=number, username=f"relation_id_{number}", database="shop")
        for number in range(len(told))
    )
    ledger = Ledger(grants=grants, exposed_ports=ports, problems=(OTHER,), exposed=exposed)
    known = {
        "unit": "pgb/0", "address": "10.0.0.0", "leader": True, "settings": settings,
        "layout": LAYOUT, "plan": but(decided, settings=settings), "service_host": HOST,
        "clients": clients, "ledger": ledger, "serving": Serving(port=6432),
        "peers": (Peer(name="pgb/1", serving=Serving(port=6432)),),
    }  # fmt: skip
    return Facts(**known | changes)


PORTS = (6432, 7000)
ANNOTATIONS = (("a", "1"), ("b", "2"))
TOLD_INSIDE = f"{HOST}:6432"


@pytest.mark.parametrize(
    ("known", "verify", "service"),
    [
        (facts(), False, Service(kind="false", ports=PORTS)),
        (
            facts(but(NODES, host="juju"), kind="loadbalancer"),
            False,
            Service(
                kind="loadbalancer", ports=PORTS, policy="local", annotations=ANNOTATIONS,
                node_ports=NODES.node_ports, borrowed=True,
            ),
        ),
        # A client still has the endpoints of the kind before.
        (
            facts(BALANCED, kind="nodeport", told=("lb1:6432,lb2:6432",)),
            True,
            Service(
                kind="loadbalancer", ports=PORTS, policy="local", annotations=ANNOTATIONS,
                node_ports=BALANCED.node_ports,
            ),
        ),
        (
            facts(but(BALANCED, told="nodeport"), kind="nodeport", told=("n3:30001",)),
            True,
            Service(
                kind="nodeport", ports=PORTS, policy="local", node_ports=BALANCED.node_ports
            ),
        ),
        (
            facts(but(NODES, told="false", host="juju"), told=("juju:6432",)),
            True,
            Service(kind="false", ports=PORTS),
        ),
    ],
)  # fmt: skip
def test_a_leader_wants_a_service_of_the_kind_that_clients_can_follow(known, verify, service):
    assert exposure.wanted_service(known, verify=verify) == service


BALANCER = Service(
    kind="loadbalancer", ports=(6432,), policy="local", annotations=ANNOTATIONS,
    node_ports=((6432, 30001),), borrowed=True,
)  # fmt: skip


def identity(kind):
    """Return what identifies a Service of this kind at port 6432."""
    annotations = [["a", "1"], ["b", "2"]]
    applied = {"kind": kind, "ports": [6432], "policy": "local", "annotations": annotations}
    return digest(applied)


def test_a_service_is_applied_if_the_ledger_has_it_and_no_failure():
    known = Ledger(
        exposed_ports=(6432,),
        problems=(OTHER,),
        exposed=but(BALANCED, applied=identity("loadbalancer")),
    )
    assert exposure.is_applied(known, BALANCER)
    chosen = BALANCER.without_node_ports()
    assert exposure.is_applied(known, but(chosen, borrowed=False))
    for changed in (
        {"exposed_ports": (7000,)},
        {"exposed": BALANCED},
        {"problems": (FAILED,)},
    ):
        assert not exposure.is_applied(but(known, **changed), BALANCER)


def failed(text):
    return Problem(topic="service", level=Level.WAITING, text=text)


NO_ADDRESS = failed(
    "the load balancer has no address yet: clients keep their endpoints. See `kubectl describe"
    " service juju`"
)


@pytest.mark.parametrize(
    ("service", "state", "exposed", "problems"),
    [
        (
            BALANCER,
            ServiceState(host=HOST, node_ports=((6432, 30009),), ingress=("lb9",)),
            {"ingress": ("lb9",), "node_ports": ((6432, 30009),)},
            (OTHER,),
        ),
        (
            BALANCER,
            ServiceState(host="juju.dev.svc"),
            {"host": "juju.dev.svc", "node_ports": (), "ingress": (), "trusted": False, "borrows": True},
            (OTHER, NO_ADDRESS),
        ),
        (
            Service(kind="nodeport", ports=(6432,), policy="local", annotations=ANNOTATIONS),
            ServiceState(host=HOST),
            {"kind": "nodeport", "node_ports": (), "ingress": ()},
            (OTHER,),
        ),
    ],
)  # fmt: skip
def test_a_ledger_has_what_kubernetes_says_of_the_service(service, state, exposed, problems):
    before = facts(BALANCED)
    before = before.recording(before.ledger.with_problem(FAILED))
    assert exposure.with_state(before, service, state) == but(
        before.ledger,
        exposed_ports=(6432,),
        exposed=but(BALANCED, **{"applied": identity(service.kind)} | exposed),
        problems=problems,
    )


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (facts(INSIDE, kind="nodeport"), False),
        (facts(NODES, kind="nodeport"), True),
        (facts(NODES, kind="nodeport", plan=None), False),
        (facts(NODES), True),
        (facts(BALANCED, kind="loadbalancer", told=("lb1:6432,lb2:6432",)), False),
        (facts(BALANCED, kind="loadbalancer", told=("lb1:6432,lb2:6432", "n3:1")), True),
        (facts(but(BALANCED, nodes=()), kind="loadbalancer", told=("n3:1",)), False),
        (facts(but(BALANCED, nodes=()), kind="nodeport"), True),
        (facts(but(BALANCED, nodes=(), told="nodeport"), kind="loadbalancer"), True),
    ],
)
def test_nodes_are_wanted_while_clients_have_or_get_their_ports(known, expected):
    assert exposure.wants_nodes(known) is expected


@pytest.mark.parametrize(
    ("policy", "changes", "identified"),
    [
        ("cluster", {}, [False, ["pgb/0", "10.0.0.0", False], ["pgb/1", "10.0.0.1", False]]),
        ("local", {}, [True, ["pgb/0", "10.0.0.0", True], ["pgb/1", "10.0.0.1", True]]),
        (
            "local",
            {"serving": None},
            [True, ["pgb/0", "10.0.0.0", False], ["pgb/1", "10.0.0.1", True]],
        ),
        (
            "local",
            {"peers": (Peer(name="pgb/1"),)},
            [True, ["pgb/0", "10.0.0.0", True], ["pgb/1", "10.0.0.1", False]],
        ),
        ("local", {"plan": None}, [False]),
    ],
)
def test_units_are_identified_by_name_and_address_and_by_what_they_serve(
    policy, changes, identified
):
    known = facts(policy=policy, **changes)
    assert exposure.located_units(known) == digest(identified)


READY, LATE = UnitNode(host="n8", ready=True), UnitNode(host="n9", ready=False)


def no_node(name):
    return failed(
        f"Kubernetes names no node with a ready unit for Service {name}: clients keep their endpoints"
    )


@pytest.mark.parametrize(
    ("policy", "nodes", "hosts", "located", "problems"),
    [
        ("cluster", (LATE, READY), ("n8", "n9"), True, (OTHER,)),
        ("cluster", (LATE,), ("n9",), True, (OTHER,)),
        ("local", (LATE, READY), ("n8",), False, (OTHER,)),
        ("local", (READY, READY), ("n8",), True, (OTHER,)),
        ("local", (READY, READY, READY, LATE), ("n8",), True, (OTHER,)),
        ("local", (LATE, LATE), NODES.nodes, False, (OTHER, no_node("pool-service"))),
        ("cluster", (), NODES.nodes, False, (OTHER, no_node("pool-service"))),
    ],
)
def test_a_ledger_has_the_nodes_where_units_run(policy, nodes, hosts, located, problems):
    known = facts(NODES, policy=policy)
    place = exposure.located_units(known) if located else ""
    assert exposure.with_nodes(known, nodes) == but(
        known.ledger, exposed=but(NODES, nodes=hosts, located=place), problems=problems
    )


def test_a_service_of_juju_without_nodes_is_named():
    known = facts(but(NODES, host="juju.dev.svc"))
    assert exposure.with_nodes(known, ()).problems == (OTHER, no_node("juju"))


def test_a_ledger_changes_in_what_kubernetes_has_done_alone():
    ledger = facts(but(NODES, borrows=True)).ledger
    for after, changed in (
        (exposure.without_nodes(ledger), {"nodes": (), "located": ""}),
        (exposure.trusting(ledger, trusted=False), {"trusted": False}),
        (exposure.trusting(ledger, trusted=None), {"trusted": None}),
        (exposure.releasing(ledger), {"borrows": False}),
    ):
        assert after == but(ledger, exposed=but(ledger.exposed, **changed))


NO_TRUST = Problem(
    topic="trust",
    level=Level.ACTIVE,
    text="without trust the charm can neither create a Service, nor read nodes, nor limit evictions:"
    " run `juju trust pgb --scope=cluster`",
)


@pytest.mark.parametrize(
    ("known", "exposed", "outside", "problems"),
    [
        (facts(but(NODES, told=None), kind="nodeport"), NODES, ("n1", "n2"), (OTHER,)),
        # Kubernetes has not made a balancer yet.
        (facts(NODES, kind="loadbalancer"), NODES, ("n1", "n2"), (OTHER,)),
        (
            facts(but(BALANCED, told="nodeport"), kind="loadbalancer"),
            BALANCED,
            ("lb1", "lb2", "n3"),
            (OTHER,),
        ),
        (facts(NODES, plan=None), NODES, ("n1", "n2"), (OTHER,)),
        (
            facts(but(INSIDE, trusted=False)),
            but(INSIDE, trusted=False),
            (),
            (OTHER, NO_TRUST),
        ),
        (facts(but(INSIDE, told=None)), INSIDE, (), (OTHER,)),
    ],
)
def test_a_ledger_concludes_what_clients_are_told(known, exposed, outside, problems):
    assert exposure.concluded(known) == but(
        known.ledger, exposed=exposed, outside=outside, problems=problems
    )


def test_trust_that_was_given_is_no_problem_any_more():
    known = facts(but(INSIDE, trusted=True))
    refused = known.recording(known.ledger.with_problem(NO_TRUST))
    assert exposure.concluded(refused).problems == (OTHER,)


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (facts(INSIDE), [(HOST, 6432)]),
        (facts(but(INSIDE, host="juju")), [("juju", 6432)]),
        (facts(None), [(HOST, 6432)]),
        (facts(NODES), [("n1", 30001), ("n2", 30001)]),
        (facts(but(NODES, node_ports=((7000, 30002),))), []),
        (facts(BALANCED), [("lb1", 6432), ("lb2", 6432)]),
        (facts(but(BALANCED, told="nodeport")), [("n3", 30001)]),
        (facts(but(NODES, told="loadbalancer")), []),
        (facts(NODES, ports=(7000,)), []),
        (facts(NODES, plan=None), []),
        (facts(Exposed(told=None)), []),
    ],
)
def test_clients_are_told_the_hosts_and_the_port_of_their_kind(known, told):
    expected = tuple(Endpoint(host=host, port=port) for host, port in told)
    assert exposure.endpoints(known) == expected
    waits = exposure.missing(but(known, plan=None))
    assert waits == "waiting for Kubernetes to give the Service an address"


@pytest.mark.parametrize(
    ("known", "told", "surplus"),
    [
        (facts(INSIDE, told=(TOLD_INSIDE,)), True, False),
        (facts(but(INSIDE, borrows=True), told=(TOLD_INSIDE,)), True, True),
        (facts(but(INSIDE, borrows=True), told=(TOLD_INSIDE, "n1:1")), False, False),
        (facts(but(INSIDE, borrows=True, host=HOST), told=(TOLD_INSIDE,)), True, False),
        (facts(but(NODES, told="false"), told=(TOLD_INSIDE, TOLD_INSIDE)), True, True),
        (facts(but(NODES, told="false"), told=("n1:1", TOLD_INSIDE)), False, False),
        (facts(NODES, told=("n1:30001,n2:30001",)), False, False),
        (
            facts(but(NODES, told="false", host="juju"), told=("juju:6432",), service_host=""),
            True,
            False,
        ),
        (facts(but(NODES, told="false"), told=(TOLD_INSIDE,), plan=None), False, False),
    ],
)
def test_a_surplus_goes_when_every_client_has_its_new_endpoints(known, told, surplus):
    assert exposure.everyone_is_told(known) is told
    assert exposure.has_surplus(known) is surplus
    wrong = known.recording(known.ledger.with_problem(FAILED))
    assert not exposure.has_surplus(wrong)


@pytest.mark.parametrize(
    ("exposed", "kind", "trusted", "hooks"),
    [
        (INSIDE, "false", True, ()),
        (INSIDE, "false", False, ("config_changed",)),
        (Exposed(), "false", None, ()),
        (INSIDE, "nodeport", None, ("update_status",)),
        (but(INSIDE, kind="nodeport"), "false", None, ("update_status",)),
        (but(INSIDE, told="nodeport"), "false", False, ("update_status", "config_changed")),
    ],
)
def test_hooks_look_at_a_service_of_which_no_event_comes(exposed, kind, trusted, hooks):
    known = facts(but(exposed, trusted=trusted), kind=kind)
    assert exposure.hooks_with_news(known) == hooks
    assert exposure.is_outside(known) is ("update_status" in hooks)
    for nothing in ({"plan": None}, {"service_host": ""}, {"leaving": True}):
        assert exposure.hooks_with_news(but(known, **nothing)) == ()


@pytest.mark.parametrize(
    ("known", "port"),
    [
        (facts(NODES), 30001),
        (facts(but(NODES, node_ports=())), 0),
        (facts(BALANCED), 6432),
        (facts(Exposed()), 6432),
        (facts(NODES, plan=None), 0),
    ],
)
def test_the_port_that_clients_are_told_is_known(known, port):
    assert exposure.port_told(known) == port
