"""The Service of Kubernetes on the platform in memory."""

import pytest
from in_memory import related, worst

from adapters.local.ports import LocalExposure
from adapters.memory import MemoryPlatform
from app.errors import ExposureFailed, ExposureForbidden
from domain.problems import Level


class Refusing(LocalExposure):
    error: Exception | None = None

    def expose(self, port):
        if self.error:
            raise self.error
        return super().expose(port)


class Exposed(MemoryPlatform):
    def exposure(self, name):
        return Refusing(self.model, name)


@pytest.mark.parametrize(
    ("error", "level"),
    [(ExposureForbidden("run juju trust"), Level.BLOCKED), (ExposureFailed("500"), Level.WAITING)],
)
def test_nobody_is_told_a_name_that_leads_nowhere(error, level):
    platform = Exposed(units=1, service_host="pool-service")
    Refusing.error = error
    platform.deploy()
    platform.backend()
    number = platform.relate("shop-app", "shop")
    assert (worst(platform.leader).level, worst(platform.leader).text) == (level, str(error))
    assert [one.topic for one in platform.model.ledger.problems] == ["service"]
    assert platform.model.clients[number].told is None
    # As long as it has not worked nothing is settled: another hook shall try again.
    assert not platform.leader.update_status().unchanged
    Refusing.error = None
    platform.leader.update_status()
    assert platform.model.clients[number].told.endpoints == "pool-service:6432"
    assert platform.model.ledger.problems == ()
    assert platform.leader.update_status().unchanged


def test_what_was_exposed_before_it_failed_is_exposed_again():
    platform = Exposed(units=1, service_host="pool-service")
    Refusing.error = None
    platform.deploy()
    platform.backend()
    Refusing.error = ExposureFailed("500")
    platform.leader.config_changed()
    Refusing.error = None
    platform.model.service_ports = ()
    platform.leader.update_status()
    assert platform.model.service_ports == (6432,)
    assert platform.model.ledger.problems == ()


def test_a_service_that_was_edited_is_put_right_by_whoever_is_thorough():
    platform = related(units=1, service_host="pool-service")
    platform.model.service_ports = (80,)
    assert platform.leader.update_status().unchanged
    assert platform.model.service_ports == (80,)
    platform.leader.config_changed()
    assert platform.model.service_ports == (6432,)
