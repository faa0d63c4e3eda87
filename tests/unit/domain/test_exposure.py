"""Which Service leads clients to the units, and which endpoints they are told."""

import pytest
from in_memory import deployed, related

from domain import exposure
from domain.ledger import Ledger
from domain.problems import Level, Problem
from domain.service import Exposed, ServiceState, UnitNode

HOST = "pool-service"
OUTSIDE = Exposed(
    kind="nodeport", told="nodeport", node_ports=((6432, 30001),), nodes=("10.0.0.8", "10.0.0.9")
)


def facts_with(exposed=None, options=None, **changes):
    """Return what the leader reads, with this knowledge of the Service."""
    platform = related(service_host=HOST)
    number = platform.relate("shop-app", "shop")
    platform.model.options = options or {}
    platform.leader.config_changed()
    facts = platform.leader.read()
    assert number in platform.model.clients
    if exposed:
        facts = facts.recording(facts.ledger.exposing((6432,), exposed))
    return facts.model_copy(update=changes)


def told(facts):
    return [str(endpoint) for endpoint in exposure.endpoints(facts)]


def test_a_ledger_of_an_earlier_release_has_a_service_inside_of_the_cluster():
    assert exposure.known(Ledger(exposed_ports=(6432,))) == Exposed(told="false")
    assert exposure.known(Ledger()).told is None


def test_a_unit_that_does_not_lead_applies_no_service():
    facts = facts_with()
    assert exposure.wanted_service(facts, verify=True)
    for nothing in ({"leader": False}, {"plan": None}, {"service_host": ""}):
        other = facts.model_copy(update=nothing)
        assert exposure.wanted_service(other, verify=True) is None
        assert exposure.hooks_with_news(other) == ()
        assert not exposure.has_surplus(other)


@pytest.mark.parametrize(
    ("exposed", "endpoints"),
    [
        (Exposed(), []),
        (Exposed(told="false"), [f"{HOST}:6432"]),
        (Exposed(told="false", host="juju"), ["juju:6432"]),
        (OUTSIDE, ["10.0.0.8:30001", "10.0.0.9:30001"]),
        (OUTSIDE.model_copy(update={"node_ports": ()}), []),
        (OUTSIDE.model_copy(update={"kind": "false"}), []),
        (OUTSIDE.model_copy(update={"told": "loadbalancer"}), []),
        (
            Exposed(kind="loadbalancer", told="loadbalancer", ingress=("2001:db8::1", "lb.example")),
            ["[2001:db8::1]:6432", "lb.example:6432"],
        ),
    ],
)  # fmt: skip
def test_clients_are_told_what_kubernetes_has_made(exposed, endpoints):
    assert told(facts_with(exposed)) == endpoints


def test_no_endpoint_is_told_without_a_port_of_the_plan():
    facts = facts_with(OUTSIDE)
    assert told(facts.recording(facts.ledger.exposing((7000,), OUTSIDE))) == []
    assert told(facts.model_copy(update={"plan": None})) == []
    assert exposure.port_told(facts) == 30001
    assert exposure.port_told(facts.model_copy(update={"plan": None})) == 0
    unknown = facts.ledger.exposing((7000,), OUTSIDE.model_copy(update={"node_ports": ()}))
    assert exposure.port_told(facts.recording(unknown)) == 0


def test_a_kind_with_less_waits_for_every_client():
    facts = facts_with(OUTSIDE)
    assert exposure.wanted_service(facts, verify=False).kind == "nodeport"
    facts = facts.recording(exposure.concluded(facts))
    assert told(facts) == [f"{HOST}:6432"]
    assert exposure.has_surplus(facts)
    assert exposure.wanted_service(facts, verify=False).kind == "false"
    failed = facts.ledger.with_problem(Problem(topic="service", level=Level.WAITING, text="500"))
    assert not exposure.has_surplus(facts.recording(failed))


def test_a_load_balancer_that_loses_its_address_keeps_it_for_clients():
    options = {"expose-external": "loadbalancer", "loadbalancer-extra-annotations": '{"a": "b"}'}
    facts = facts_with(options=options)
    service = exposure.wanted_service(facts, verify=True)
    assert service.annotations == (("a", "b"),)
    for ingress in ((), ("203.0.113.1",), ()):
        state = ServiceState(host=HOST, ingress=ingress)
        facts = facts.recording(exposure.with_state(facts, service, state))
        facts = facts.recording(exposure.concluded(facts))
        assert facts.ledger.has("service") == (not ingress)
    assert told(facts) == ["203.0.113.1:6432"]
    assert facts.ledger.outside == ("203.0.113.1",)
    # The load balancer of another Service has another address.
    state = ServiceState(host="juju")
    facts = facts.recording(exposure.with_state(facts, service, state))
    assert told(facts) == []


def test_nodes_are_looked_for_while_clients_have_them():
    nodes = {"expose-external": "nodeport"}
    assert not exposure.wants_nodes(facts_with())
    assert exposure.wants_nodes(facts_with(OUTSIDE, nodes))
    assert exposure.wants_nodes(facts_with(OUTSIDE))
    balanced = OUTSIDE.model_copy(update={"kind": "loadbalancer", "told": "loadbalancer"})
    options = {"expose-external": "loadbalancer"}
    assert exposure.wants_nodes(facts_with(balanced, options))
    assert not exposure.wants_nodes(facts_with(balanced, options, clients=()))
    assert not exposure.wants_nodes(facts_with(OUTSIDE, plan=None))


def test_units_are_identified_by_their_addresses():
    facts = facts_with(OUTSIDE)
    member = facts.plan.members[0].model_copy(update={"address": "10.9.9.9"})
    moved = facts.plan.model_copy(update={"members": (member, *facts.plan.members[1:])})
    assert exposure.located_units(facts) == exposure.located_units(facts)
    assert exposure.located_units(facts) != exposure.located_units(
        facts.model_copy(update={"plan": moved})
    )
    assert exposure.located_units(facts) == exposure.located_units(
        facts.model_copy(update={"serving": None})
    )
    assert exposure.located_units(facts.model_copy(update={"plan": None}))


def test_with_the_policy_local_units_that_serve_nothing_matter():
    facts = facts_with(OUTSIDE, {"external-traffic-policy": "local"})
    peer = facts.peers[0].model_copy(update={"serving": None})
    seen = {
        exposure.located_units(facts.model_copy(update=change))
        for change in ({}, {"serving": None}, {"peers": (peer,)})
    }
    assert len(seen) == 3


READY, UNREADY = (UnitNode(host=f"10.0.0.{ready}", ready=bool(ready)) for ready in (1, 0))


@pytest.mark.parametrize(
    ("policy", "nodes", "hosts", "complete", "problem"),
    [
        ("cluster", (READY, UNREADY), ("10.0.0.0", "10.0.0.1"), True, False),
        ("local", (READY, UNREADY), ("10.0.0.1",), False, False),
        ("local", (READY, READY), ("10.0.0.1",), True, False),
        ("local", (UNREADY,), OUTSIDE.nodes, False, True),
        ("cluster", (), OUTSIDE.nodes, False, True),
    ],
)
def test_nodes_with_units_are_told(policy, nodes, hosts, complete, problem):
    options = {"external-traffic-policy": policy, "expose-external": "nodeport"}
    facts = facts_with(OUTSIDE, options)
    ledger = exposure.with_nodes(facts, nodes)
    assert (ledger.exposed.nodes, bool(ledger.exposed.located)) == (hosts, complete)
    assert ledger.has("service") == problem
    waits = exposure.missing(facts.recording(ledger))
    assert waits == ("" if complete else "waiting for Kubernetes to find every unit ready")


def test_what_is_missing_without_an_event_is_named():
    facts = facts_with(options={"expose-external": "loadbalancer"})
    assert exposure.missing(facts) == "waiting for Kubernetes to give the Service an address"
    assert exposure.missing(facts_with()) == ""
    assert exposure.missing(facts_with(plan=None))


def test_without_nodes_the_ledger_has_none():
    ledger = exposure.without_nodes(facts_with(OUTSIDE).ledger)
    assert (ledger.exposed.nodes, ledger.exposed.located) == ((), "")


def test_what_needs_trust_is_said_until_there_is_trust():
    facts = facts_with()
    facts = facts.recording(exposure.trusting(facts.ledger, trusted=False))
    facts = facts.recording(exposure.concluded(facts))
    (problem,) = facts.ledger.problems
    assert problem.level == Level.ACTIVE
    assert problem.text.endswith("run `juju trust pgbouncer --scope=cluster`")
    assert exposure.hooks_with_news(facts) == ("config_changed",)
    facts = facts.recording(exposure.trusting(facts.ledger, trusted=True))
    assert exposure.concluded(facts).problems == ()


def test_update_status_looks_only_for_services_that_lead_from_outside():
    assert exposure.hooks_with_news(facts_with()) == ()
    assert exposure.hooks_with_news(facts_with(OUTSIDE)) == ("update_status",)
    assert not exposure.is_outside(facts_with(Exposed(told="false"), plan=None))


def test_a_service_of_juju_is_given_back_once_clients_have_the_other():
    facts = facts_with(Exposed(told="false", borrows=True))
    assert exposure.has_surplus(facts)
    ledger = exposure.releasing(facts.ledger)
    assert not exposure.has_surplus(facts.recording(ledger))
    lent = Exposed(told="false", borrows=True, host="juju")
    assert not exposure.has_surplus(facts_with(lent))
    assert exposure.wanted_service(facts_with(lent), verify=False).borrowed
    assert not exposure.wanted_service(facts_with(lent), verify=True).borrowed


def test_clients_keep_their_endpoints_when_juju_has_its_service_back():
    facts = facts_with(
        OUTSIDE.model_copy(update={"borrows": True}), {"expose-external": "nodeport"}
    )
    after = facts.recording(exposure.releasing(facts.ledger))
    assert told(after) == told(facts) == ["10.0.0.8:30001", "10.0.0.9:30001"]
    assert after.ledger.exposed == OUTSIDE


@pytest.mark.parametrize("missing", [{"leader": False}, {"plan": None}, {"service_host": ""}])
def test_a_unit_that_applies_no_service_waits_for_no_news(missing):
    exposed = OUTSIDE.model_copy(update={"trusted": False})
    assert exposure.hooks_with_news(facts_with(exposed)) == ("update_status", "config_changed")
    assert exposure.hooks_with_news(facts_with(exposed, **missing)) == ()


def test_a_service_is_applied_again_when_anything_about_it_changes():
    facts = facts_with()
    service = exposure.wanted_service(facts, verify=False)
    assert exposure.is_applied(facts.ledger, service)
    assert not exposure.is_applied(facts.ledger, service.model_copy(update={"ports": (1,)}))
    assert not exposure.is_applied(facts.ledger, service.model_copy(update={"kind": "nodeport"}))
    failed = facts.ledger.with_problem(Problem(topic="service", level=Level.WAITING, text="500"))
    assert not exposure.is_applied(failed, service)


def test_the_ports_of_nodes_that_clients_have_are_asked_for():
    facts = facts_with(OUTSIDE, {"expose-external": "nodeport"})
    assert exposure.wanted_service(facts, verify=False).node_ports == ((6432, 30001),)
    assert exposure.wanted_service(facts_with(), verify=False).node_ports == ()


def test_a_new_application_tells_nothing_before_there_is_a_service():
    platform = deployed(service_host=HOST)
    facts = platform.leader.read()
    assert told(facts.recording(Ledger())) == []
