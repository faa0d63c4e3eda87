"""The Service of Kubernetes on Juju: which hooks ask Kubernetes, and what clients read in their relation."""

import pytest
from on_juju import HOST, JUJU_HOST, SHOP

from app.errors import ExposureFailed


@pytest.fixture
def exposed(make):
    """Return the leader of two units with a client that is told ports of nodes, and nothing left to do."""
    juju = make(others=(1,)).deploy().backend()
    juju.shop = juju.client("shop-app", SHOP)
    expose(juju, "nodeport")
    return juju


def expose(juju, kind, **options):
    juju.options(**{"expose-external": kind}, **options)
    for _ in range(3):
        juju.emit(juju.context.on.update_status())


def requests_of(juju, event):
    """Return the requests to Kubernetes in the hook of an event."""
    juju.kubernetes.requests.clear()
    juju.emit(event)
    return list(juju.kubernetes.requests)


def test_clients_read_the_endpoints_of_each_kind(exposed):
    assert exposed.told(exposed.shop)["endpoints"] == "192.0.2.1:30000,192.0.2.2:30000"
    exposed.kubernetes.ingress = ("lb.example", "2001:db8::1")
    expose(exposed, "loadbalancer")
    assert exposed.told(exposed.shop)["endpoints"] == "[2001:db8::1]:6432,lb.example:6432"
    expose(exposed, "false")
    assert exposed.told(exposed.shop)["endpoints"] == f"{HOST}:6432"
    assert exposed.status == "active"


def test_update_status_asks_kubernetes_a_single_time_while_exposed(exposed):
    on = exposed.context.on
    assert requests_of(exposed, on.update_status()) == ["expose"]
    assert requests_of(exposed, on.update_status()) == ["expose"]
    for event in (on.config_changed(), on.leader_elected()):
        assert requests_of(exposed, event) == []
    expose(exposed, "false")
    assert requests_of(exposed, on.update_status()) == []


def test_a_service_that_was_deleted_is_repaired_by_update_status(exposed):
    exposed.kubernetes.services.clear()
    exposed.emit(exposed.context.on.update_status())
    assert exposed.kubernetes.own.node_ports == {6432: 30000}
    assert exposed.told(exposed.shop)["endpoints"] == "192.0.2.1:30000,192.0.2.2:30000"


def test_a_follower_asks_kubernetes_nothing(exposed):
    exposed.change(leader=False)
    on = exposed.context.on
    assert requests_of(exposed, on.update_status()) == []
    assert requests_of(exposed, on.config_changed()) == []


def test_a_load_balancer_without_an_address_is_a_waiting_status(exposed):
    before = exposed.told(exposed.shop)["endpoints"]
    expose(exposed, "loadbalancer")
    assert exposed.status.startswith("waiting the load balancer has no address yet")
    assert exposed.told(exposed.shop)["endpoints"] == before


def test_a_failure_of_kubernetes_fails_no_hook(exposed):
    exposed.kubernetes.error = ExposureFailed("Kubernetes refuses the Service (409)")
    exposed.emit(exposed.context.on.update_status())
    assert exposed.status == "waiting Kubernetes refuses the Service (409)"
    exposed.kubernetes.error = None
    exposed.emit(exposed.context.on.update_status())
    assert exposed.status == "active"


def test_trust_that_is_given_later_is_used_by_config_changed(make):
    juju = make()
    juju.kubernetes.trusted = False
    juju.deploy().backend()
    shop = juju.client("shop-app", SHOP)
    juju.emit(juju.context.on.update_status())
    assert juju.told(shop)["endpoints"] == f"{JUJU_HOST}:6432"
    assert juju.status.startswith("active without trust the charm can neither")
    assert requests_of(juju, juju.context.on.update_status()) == []
    juju.kubernetes.trusted = True
    juju.emit(juju.context.on.config_changed())
    juju.emit(juju.context.on.update_status())
    assert juju.told(shop)["endpoints"] == f"{HOST}:6432"
    assert juju.kubernetes.services.keys() == {HOST}
    assert juju.status == "active"


@pytest.mark.parametrize("text", ["{", "[]", '{"a": 1}', '{"a b": "c"}', "x" * 100_000])
def test_annotations_that_are_not_valid_are_named_in_the_status(exposed, text):
    before = exposed.told(exposed.shop)["endpoints"]
    exposed.options(**{"loadbalancer-extra-annotations": text})
    assert exposed.status.startswith("blocked option loadbalancer-extra-annotations: ")
    assert len(exposed.status) < 200
    assert exposed.told(exposed.shop)["endpoints"] == before
