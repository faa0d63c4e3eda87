"""The peer relation on the platform in memory: what units and their leader share."""

import pytest
from in_memory import aliases, deployed, related, settings_of

from adapters.memory import MemoryPlatform
from app.outcome import Deferred, Done
from domain.plan import AUTH_ALIASES


@pytest.mark.flow("peers/1", "peers/2")
def test_a_created_unit_says_where_it_is_and_a_leader_waits_to_share():
    platform = MemoryPlatform()
    platform.model.units["pgbouncer/0"].address = "10.0.0.7"
    assert isinstance(platform.leader.peers_created(), Deferred)
    follower = platform.followers[0].peers_created()
    assert follower == Done(follower.facts)
    assert platform.model.plan is None


@pytest.mark.flow("peers/3")
def test_without_a_backend_the_configuration_is_shared_alone():
    platform = deployed()
    platform.model.plan = None
    platform.leader.peers_created()
    assert platform.model.plan.upstream is None
    assert platform.model.auth is None


@pytest.mark.flow("peers/4")
def test_with_a_backend_the_auth_material_is_shared_too():
    platform = related()
    platform.model.auth = None
    platform.leader.peers_created()
    assert platform.model.auth.auth_user == "pgbouncer_auth_relation_id_1"
    assert platform.model.plan.upstream.auth_user == "pgbouncer_auth_relation_id_1"


@pytest.mark.flow("peers/5")
def test_the_leader_refreshes_everything_that_units_share():
    platform = related()
    number = platform.relate("shop-app", "shop")
    platform.model.leader_address, platform.model.plan = "", None
    told = platform.model.clients[number].told
    platform.model.clients[number].told = told.model_copy(update={"version": "1"})
    platform.leader.peers_changed()
    assert platform.model.leader_address == "10.0.0.1"
    assert platform.model.plan.databases == ("shop",)
    platform.settle()
    assert platform.model.clients[number].told == told


@pytest.mark.flow("peers/6")
def test_a_follower_renders_the_shared_plan_once():
    platform = related()
    platform.relate("shop-app", "shop")
    follower = platform.followers[0]
    assert aliases(follower) == [AUTH_ALIASES[0], "shop"]
    assert follower.pooler.config.users[0].name == "pgbouncer_auth_relation_id_1"
    taken = list(follower.pooler.taken)
    follower.peers_changed()
    assert follower.pooler.taken == taken


@pytest.mark.flow("peers/7")
def test_a_follower_with_nothing_shared_does_nothing():
    platform = MemoryPlatform()
    platform.followers[0].peers_changed()
    assert platform.followers[0].pooler.config is None


@pytest.mark.flow("peers/8")
def test_the_budget_is_shared_out_anew():
    platform = related(units=2)
    assert settings_of(platform.leader)["max_db_connections"] == "25"
    platform.remove_unit("pgbouncer/1")
    assert settings_of(platform.leader)["max_db_connections"] == "50"


def test_a_unit_that_leaves_announces_nothing_more():
    platform = related()
    leaver = platform.followers[0]
    leaver.peers_departed(leaver.name)
    before = platform.model.units[leaver.name].model_copy()
    platform.model.options = {"listen_port": 7000}
    platform.leader.config_changed()
    leaver.peers_changed()
    assert platform.model.units[leaver.name] == before
