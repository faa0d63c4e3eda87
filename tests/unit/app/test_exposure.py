"""The Service of Kubernetes on the platform in memory."""

import pytest
from in_memory import deployed, related, worst

from app.errors import ExposureFailed, ExposureForbidden
from domain.problems import Level


@pytest.mark.parametrize(
    ("error", "level"),
    [(ExposureForbidden("run juju trust"), Level.BLOCKED), (ExposureFailed("500"), Level.WAITING)],
)
def test_an_address_is_published_only_after_its_service_was_made(error, level):
    platform = deployed(units=1, service_host="pool-service")
    platform.kubernetes.error, platform.kubernetes.services = error, {}
    platform.leader.config_changed()
    platform.model.ledger = platform.model.ledger.model_copy(update={"exposed_ports": ()})
    platform.backend()
    number = platform.relate("shop-app", "shop")
    assert (worst(platform.leader).level, worst(platform.leader).text) == (level, str(error))
    assert [problem.topic for problem in platform.model.ledger.problems] == ["service"]
    assert platform.model.clients[number].told is None
    # Until the Service exists, every hook tries again.
    assert not platform.leader.update_status().unchanged
    platform.kubernetes.error = None
    platform.leader.update_status()
    assert platform.model.clients[number].told.endpoints == "pool-service:6432"
    assert platform.model.ledger.problems == ()
    assert platform.leader.update_status().unchanged


def test_a_service_is_made_again_after_a_failure():
    platform = related(units=1, service_host="pool-service")
    platform.kubernetes.error = ExposureFailed("500")
    platform.leader.config_changed()
    platform.kubernetes.error = None
    platform.kubernetes.services.clear()
    platform.leader.peers_changed()
    assert platform.kubernetes.ports == (6432,)
    assert platform.model.ledger.problems == ()


def test_an_edited_service_is_repaired_by_a_hook_that_verifies():
    platform = related(units=1, service_host="pool-service")
    platform.kubernetes.own.ports = (80,)
    assert platform.leader.update_status().unchanged
    assert platform.kubernetes.ports == (80,)
    platform.leader.config_changed()
    assert platform.kubernetes.ports == (6432,)


def exposed(kind="nodeport", units=2, ingress=("203.0.113.5",), **options):
    """Return a platform with a client, exposed in this way, and the number of the client."""
    platform = related(units=units, service_host="pool-service")
    number = platform.relate("shop-app", "shop")
    platform.kubernetes.ingress = ingress
    expose(platform, kind, **options)
    return platform, number


def expose(platform, kind, **options):
    platform.model.options |= {"expose-external": kind, **options}
    platform.leader.config_changed()
    platform.settle()


def told(platform, number):
    return platform.model.clients[number].told.endpoints


def test_clients_are_told_nodes_then_a_load_balancer_then_the_name_inside():
    platform, number = exposed()
    assert told(platform, number) == "192.0.2.1:30000,192.0.2.2:30000"
    assert platform.model.ledger.outside == ("192.0.2.1", "192.0.2.2")
    expose(platform, "loadbalancer")
    assert told(platform, number) == "203.0.113.5:6432"
    assert platform.model.ledger.outside == ("203.0.113.5",)
    expose(platform, "false")
    assert told(platform, number) == "pool-service:6432"
    assert (platform.kubernetes.own.kind, platform.model.ledger.outside) == ("false", ())


def test_what_clients_had_is_taken_away_after_they_have_read_what_is_new():
    platform, number = exposed("loadbalancer")
    platform.model.options = {"expose-external": "nodeport"}
    outcome = platform.leader.config_changed()
    assert outcome.reason == "about to take what no client uses away from the Service"
    # What this hook tells clients is theirs when it has ended.
    assert told(platform, number) == "192.0.2.1:30000,192.0.2.2:30000"
    assert platform.kubernetes.own.kind == "loadbalancer"
    platform.leader.peers_changed()
    assert platform.kubernetes.own.kind == "nodeport"


def test_a_client_that_cannot_be_told_keeps_what_it_uses():
    platform, number = exposed("loadbalancer")
    platform.relate("blog-app", "blog")
    platform.followers[0].pooler.die(0)
    platform.followers[0].peers_changed()
    expose(platform, "false")
    assert told(platform, number) == "203.0.113.5:6432"
    assert platform.kubernetes.own.kind == "loadbalancer"
    platform.followers[0].start()
    platform.settle()
    assert told(platform, number) == "pool-service:6432"
    assert platform.kubernetes.own.kind == "false"


@pytest.mark.parametrize("kind", ["false", "nodeport", "loadbalancer"])
def test_the_port_changes_with_both_ports_open(kind):
    platform, number = exposed(kind)
    before = told(platform, number)
    platform.model.options |= {"listen_port": 7000}
    platform.leader.config_changed()
    assert platform.kubernetes.ports == (7000, 6432)
    assert told(platform, number) == before
    platform.settle()
    assert platform.kubernetes.ports == (7000,)
    assert told(platform, number) != before
    host, _, port = told(platform, number).split(",")[0].rpartition(":")
    assert platform.kubernetes.leads_to(host, int(port)) == 7000


def test_a_load_balancer_without_an_address_is_asked_again_soon():
    platform, number = exposed("loadbalancer", ingress=())
    assert told(platform, number) == "pool-service:6432"
    assert worst(platform.leader).level == Level.WAITING
    assert worst(platform.leader).text.startswith("the load balancer has no address yet")
    outcome = platform.leader.update_status()
    assert outcome.reason == "waiting for Kubernetes to give the Service an address"
    platform.kubernetes.ingress = ("203.0.113.5", "2001:db8::5")
    platform.leader.update_status()
    assert told(platform, number) == "[2001:db8::5]:6432,203.0.113.5:6432"
    assert worst(platform.leader).text == ""


def test_kubernetes_is_asked_a_single_time_by_an_update_status_without_news():
    platform, _ = exposed()
    platform.kubernetes.requests.clear()
    assert platform.leader.update_status().unchanged
    assert platform.kubernetes.requests == ["expose"]
    for hook in ("peers_changed", "clients_changed"):
        platform.kubernetes.requests.clear()
        assert getattr(platform.leader, hook)().unchanged
        assert platform.kubernetes.requests == []
    assert platform.followers[0].update_status().unchanged
    assert platform.kubernetes.requests == []


def test_news_of_postgresql_leads_to_no_request_to_kubernetes():
    platform, _ = exposed()
    platform.kubernetes.requests.clear()
    for hook in ("backend_changed", "backend_returned"):
        assert getattr(platform.leader, hook)().unchanged
    assert platform.kubernetes.requests == []


def test_endpoints_follow_a_unit_that_comes_back_on_another_node():
    platform, number = exposed()
    name = platform.followers[0].name
    platform.kubernetes.nodes[name] = "192.0.2.77"
    platform.leader.peers_changed()
    assert told(platform, number) == "192.0.2.1:30000,192.0.2.2:30000"
    platform.model.units[name].address = "10.0.7.7"
    platform.settle()
    assert told(platform, number) == "192.0.2.1:30000,192.0.2.77:30000"
    platform.kubernetes.nodes[name] = ""
    platform.leader.leader_elected()
    assert told(platform, number) == "192.0.2.1:30000"


def test_with_the_policy_local_a_unit_that_is_not_ready_is_waited_for():
    platform, number = exposed(**{"external-traffic-policy": "local"})
    name = platform.followers[0].name
    platform.kubernetes.unready.add(name)
    platform.leader.leader_elected()
    assert told(platform, number) == "192.0.2.1:30000"
    outcome = platform.leader.update_status()
    assert outcome.reason == "waiting for Kubernetes to find every unit ready"
    platform.kubernetes.unready.clear()
    platform.leader.update_status()
    assert told(platform, number) == "192.0.2.1:30000,192.0.2.2:30000"


def test_without_trust_clients_use_the_service_of_juju():
    platform = deployed(service_host="pool-service")
    platform.kubernetes.trusted = False
    platform.kubernetes.services.clear()
    platform.kubernetes.budget = False
    platform.leader.config_changed()
    platform.backend()
    number = platform.relate("shop-app", "shop")
    assert told(platform, number) == "jujus-pool:6432"
    assert worst(platform.leader).level == Level.ACTIVE
    assert "run `juju trust pgbouncer --scope=cluster`" in worst(platform.leader).text
    expose(platform, "nodeport")
    assert told(platform, number) == "192.0.2.1:30000,192.0.2.2:30000"
    platform.kubernetes.requests.clear()
    assert platform.leader.update_status().unchanged
    assert platform.kubernetes.requests == ["expose"]
    expose(platform, "false")
    platform.kubernetes.trusted = True
    platform.leader.config_changed()
    assert told(platform, number) == "pool-service:6432"
    assert platform.kubernetes.services.keys() == {"pool-service", "jujus-pool"}
    platform.settle()
    assert platform.kubernetes.services.keys() == {"pool-service"}
    assert platform.kubernetes.budget
    assert worst(platform.leader).text == ""


def test_trust_that_is_taken_away_leaves_the_service_in_use():
    platform, number = exposed()
    platform.kubernetes.trusted = False
    platform.leader.config_changed()
    platform.settle()
    assert told(platform, number) == "192.0.2.1:30000,192.0.2.2:30000"
    assert "juju trust" in worst(platform.leader).text


@pytest.mark.parametrize("failing", ["nodes", "protect", "release"])
def test_a_request_that_fails_is_tried_again_by_the_next_hook(failing):
    platform = deployed(service_host="pool-service")
    platform.kubernetes.trusted = False
    platform.kubernetes.services.clear()
    platform.leader.config_changed()
    platform.backend()
    number = platform.relate("shop-app", "shop")
    platform.kubernetes.trusted = True
    platform.kubernetes.failing = {failing}
    expose(platform, "nodeport")
    assert worst(platform.leader).text == f"{failing} fails"
    platform.kubernetes.failing = set()
    platform.leader.peers_changed()
    platform.settle()
    assert worst(platform.leader).text == ""
    assert told(platform, number) == "192.0.2.1:30000,192.0.2.2:30000"
    assert platform.kubernetes.budget
    assert platform.kubernetes.services.keys() == {"pool-service"}


def test_the_service_stays_when_the_relation_with_postgresql_ends():
    platform, _ = exposed()
    ledger = platform.model.ledger
    platform.model.backend = platform.model.backend.model_copy(update={"present": False})
    platform.leader.backend_departed("postgresql/0")
    kept = platform.model.ledger
    assert (kept.exposed, kept.outside) == (ledger.exposed, ledger.outside)
