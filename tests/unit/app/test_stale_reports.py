"""Juju drops the report of a hook that was killed, and the leader takes no report of an earlier plan."""

import pytest
from crash_core import run
from in_memory import aliases, related


def update(unit):
    unit.update_status()


@pytest.mark.parametrize("last", range(2, 6))
def test_a_database_that_comes_back_is_told_once_every_unit_serves_it_again(last):
    platform = related()
    gone = platform.relate("shop-app", "shop")
    del platform.model.clients[gone]
    run(platform, "pgbouncer/0", update)
    assert run(platform, "pgbouncer/1", update, last) is None
    assert "shop" not in aliases(platform.units["pgbouncer/1"])
    back = platform.model.relate("shop-app", "shop")
    for _ in range(3):
        run(platform, "pgbouncer/0", update)
    assert platform.model.clients[back].told is None
    platform.settle()
    assert "shop" in aliases(platform.units["pgbouncer/1"])
    assert platform.model.clients[back].told.database == "shop"


def test_a_postgresql_that_comes_back_is_told_once_every_unit_serves_it():
    platform = related()
    number = platform.relate("shop-app", "shop")
    before = platform.model.backend
    platform.model.backend = before.without_servers()
    for name in platform.units:
        assert run(platform, name, lambda unit: unit.backend_departed(""), 6) is None
    assert "shop" not in aliases(platform.units["pgbouncer/1"])
    platform.server.roles.clear()
    login = {"user": "relation_id_2", "version": "17.1"}
    platform.model.backend = before.with_credentials(before.credentials.model_copy(update=login))
    for _ in range(3):
        run(platform, "pgbouncer/0", update)
    assert platform.model.clients[number].told.version != "17.1"
    platform.settle()
    assert "shop" in aliases(platform.units["pgbouncer/1"])
    assert platform.model.clients[number].told.version == "17.1"
