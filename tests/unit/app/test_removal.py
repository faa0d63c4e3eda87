"""A unit is removed: its own relations end, in any order, and those of no other unit."""

import itertools

import pytest
from crash_core import works
from in_memory import related

RELATIONS = ("peers", "backend", "client 1", "client 2")
ORDERS = list(itertools.permutations(RELATIONS))[::5]


def served(units=3):
    """Return a platform with two clients."""
    platform = related(units=units)
    platform.relate("shop-app", "shop")
    platform.relate("blog-app", "blog")
    return platform


def shared(platform):
    """Return what the leader writes for the application, and what it makes in PostgreSQL."""
    model, server = platform.model, platform.server
    told = [client.model_copy() for client in model.clients.values()]
    return model.plan, model.ledger, model.auth, told, dict(server.roles), set(server.functions)


def ordered(order):
    return lambda relations: min(relations, key=order.index)


def busy(unit):
    """Run other hooks that Juju delivers meanwhile."""
    unit.update_status()
    unit.pebble_ready()
    unit.config_changed()
    unit.backend_changed()
    unit.backend_returned()
    unit.clients_changed()
    unit.leader_elected()


@pytest.mark.flow("leader/2", "backend/6", "backend/7", "backend/9", "clients/6")
@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
def test_a_leader_that_is_removed_takes_nothing_away(order):
    platform = served()
    leader, before = platform.leader, shared(platform)
    pools = leader.pooler.config.instances

    def nothing_changed(unit):
        busy(unit)
        assert shared(platform) == before
        assert unit.pooler.config.instances == pools

    platform.remove_unit(leader.name, ordered(order), nothing_changed)
    platform.settle()
    assert all(works(platform, number) for number in platform.model.clients)
    assert [member.name for member in platform.model.plan.members] == [
        "pgbouncer/1",
        "pgbouncer/2",
    ]
    assert [client.told.endpoints for client in platform.model.clients.values()] == [
        "10.0.0.2:6432,10.0.0.3:6432"
    ] * 2


@pytest.mark.flow("leader/2")
@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
def test_another_unit_leads_while_the_leader_is_being_removed(order):
    platform = served()
    leader, roles = platform.leader, dict(platform.server.roles)

    def another_leads(unit):
        platform.model.leader = "pgbouncer/2"
        busy(platform.leader)
        busy(unit)
        assert platform.server.roles == roles

    platform.remove_unit(leader.name, ordered(order), another_leads)
    platform.settle()
    assert all(works(platform, number) for number in platform.model.clients)


@pytest.mark.parametrize("gone", ["client 1", "backend", "servers", "pgbouncer/1"])
def test_a_leader_asks_juju_before_it_acts_on_missing_units(gone):
    """No hook has told the leader yet that it is being removed."""
    platform = served()
    before = shared(platform)
    me = platform.model.units[platform.leader.name]
    me.dying, me.unseen = True, frozenset({gone})
    busy(platform.leader)
    platform.leader.clients_broken()
    platform.leader.backend_broken()
    assert shared(platform) == before


@pytest.mark.flow("backend/8")
@pytest.mark.parametrize("order", ORDERS, ids=", ".join)
def test_without_another_unit_the_leader_removes_its_roles(order):
    platform = served()
    platform.remove_all(ordered(order))
    assert (platform.server.roles, platform.server.functions) == ({}, set())
    assert platform.server.databases == {"shop", "blog"}


def test_a_follower_that_leads_at_the_end_removes_the_roles():
    platform = served(units=2)
    for unit in platform.model.units.values():
        unit.dying = True
    first = platform.leader.name
    platform.model.leader = platform.followers[0].name
    platform.unit(first).backend_departed(first)
    assert platform.server.roles != {}
    platform.leader.backend_departed(platform.leader.name)
    assert platform.server.roles == {}
