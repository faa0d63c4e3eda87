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
