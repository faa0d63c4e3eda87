"""What stays when another PostgreSQL takes the place: the names of clients, and the orders of an operator."""

import time

import pytest
from in_memory import worst
from operated import three_units
from rotating import lets_in, published, shop

from adapters.memory.server import MemoryServer
from domain.problems import Level
from domain.rotation import DAY


def replaced(platform):
    """Let another cluster answer in the place of the server, with a database `shop` of an administrator."""
    other = MemoryServer(
        cluster="7000000000000000002",
        identity="another since Tuesday",
        databases={"shop"},
        owners={"shop": "dba"},
    )
    for name, value in vars(other).items():
        setattr(platform.server, name, value)


def rotated():
    """Return a platform whose client has its second name, and no other name."""
    platform = shop()
    platform.leader.rotate_credentials("clients", "", 0)
    platform.settle(20)
    assert published(platform).username == "relation_id_1__2"
    return platform


@pytest.mark.parametrize("user", ["relation_id_1", "relation_id_9"])
def test_a_rotated_client_that_another_cluster_refused_once_can_log_in(user):
    platform = rotated()
    replaced(platform)
    platform.backend(user=user, endpoints="10.1.0.9:5432")
    platform.settle(20)
    platform.model.options = {"shared-databases": "shop"}
    for unit in platform.units.values():
        unit.config_changed()
    platform.settle(20)
    assert lets_in(platform, published(platform))
    assert worst(platform.leader).level == Level.ACTIVE


def test_a_rotated_client_keeps_its_name_while_its_request_is_bad():
    platform = rotated()
    replaced(platform)
    platform.model.clients[1].database = "postgres"
    platform.backend(user="relation_id_9", endpoints="10.1.0.9:5432")
    platform.settle(20)
    assert "postgres" in worst(platform.leader).text
    platform.model.clients[1].database = "shop"
    platform.model.options = {"shared-databases": "shop"}
    for unit in platform.units.values():
        unit.config_changed()
    platform.settle(20)
    assert lets_in(platform, published(platform))


def test_orders_for_a_database_last_over_a_time_without_postgresql():
    platform = three_units()
    platform.leader.disable("shop")
    platform.leader.pause("blog")
    platform.settle()
    backend = platform.model.backend
    platform.model.backend = backend.model_copy(update={"present": False})
    for unit in platform.units.values():
        unit.backend_departed("postgresql/0")
    platform.model.backend = backend.model_copy(update={"related": False, "credentials": None})
    for unit in platform.units.values():
        unit.backend_broken()
    platform.settle(20)
    assert platform.model.plan.upstream is None
    platform.backend(user="relation_id_9", endpoints="10.1.0.9:5432")
    platform.settle(20)
    plan = platform.model.plan
    assert (plan.disabled, plan.paused_databases) == (("shop",), ("blog",))


def test_an_order_without_a_client_ends_in_the_hook_of_postgresqls_end():
    platform = three_units()
    platform.leader.disable("shop")
    for client in platform.model.clients.values():
        client.database = ""
    platform.settle()
    assert platform.model.plan.disabled == ("shop",)
    platform.model.backend = platform.model.backend.without_servers()
    platform.leader.backend_departed("postgresql/0")
    assert platform.model.plan.disabled == ()


@pytest.mark.parametrize("away", [0, 2 * DAY])
def test_a_client_can_log_in_after_postgresql_came_back_in_its_rotation(monkeypatch, away):
    shown = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: shown[0])
    platform = shop()
    platform.leader.rotate_credentials("clients", "", DAY)
    platform.settle()
    assert platform.model.ledger.rotations[0].stage == "told"
    platform.model.backend = type(platform.model.backend)()
    for unit in platform.units.values():
        unit.backend_broken()
    platform.settle()
    shown[0] += away
    platform.backend()
    platform.settle()
    assert lets_in(platform, published(platform))
    shown[0] += 2 * DAY
    for unit in platform.units.values():
        unit.update_status()
    platform.settle()
    assert lets_in(platform, published(platform))
