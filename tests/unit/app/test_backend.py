"""The backend relation on the platform in memory."""

import pytest
from in_memory import aliases, deployed, related, settings_of, worst

from adapters.local.model import related as related_backend
from adapters.memory import MemoryPlatform, MemoryRole
from app.outcome import Deferred, Done
from domain.problems import Level


@pytest.mark.flow("backend/1")
def test_the_backend_waits_for_pgbouncer():
    platform = MemoryPlatform(units=1)
    outcome = platform.leader.backend_changed()
    assert isinstance(outcome, Deferred)
    assert "PgBouncer" in outcome.reason


def test_the_hook_that_starts_pgbouncer_uses_the_backend():
    platform = MemoryPlatform(units=1)
    platform.backend()
    platform.leader.start()
    assert worst(platform.leader).level is Level.ACTIVE


@pytest.mark.flow("backend/2")
def test_incomplete_credentials_are_waited_for_and_named():
    platform = deployed(units=1)
    problem = "backend-database: postgresql has not given password yet"
    update = {"related": True, "present": True, "problem": problem}
    platform.model.backend = platform.model.backend.model_copy(update=update)
    outcome = platform.leader.backend_changed()
    assert isinstance(outcome, Deferred)
    assert outcome.reason == worst(platform.leader).text == problem
    assert platform.model.backend.requested


def test_a_backend_that_refuses_is_asked_again_with_the_next_hook():
    platform = deployed(units=1)
    platform.server.refuses = "PostgreSQL says no"
    platform.backend()
    outcome = platform.leader.backend_changed()
    assert isinstance(outcome, Deferred)
    assert worst(platform.leader).text == "PostgreSQL says no"


@pytest.mark.flow("backend/3")
def test_the_leader_makes_the_auth_user_and_the_auth_function():
    platform = related()
    auth = platform.model.auth
    assert platform.server.roles[auth.auth_user].password == auth.auth_password.get_secret_value()
    assert (auth.stats_user, auth.admin_user) == (
        "pgbouncer_stats_pgbouncer",
        "pgbouncer_admin_pgbouncer",
    )
    assert platform.server.functions == {"pgbouncer"}
    assert settings_of(platform.leader)["auth_user"] == auth.auth_user
    assert worst(platform.leader).level is Level.ACTIVE


def test_a_changed_option_makes_a_function_again_that_was_dropped():
    platform = related()
    platform.server.functions.clear()
    platform.leader.config_changed()
    assert platform.server.functions == {"pgbouncer"}


def test_a_former_schema_is_used_until_the_new_schema_exists():
    platform = related()
    own = platform.model.auth.auth_user
    quoted = f'SELECT username, password FROM "{own}".get_auth($1)'
    assert settings_of(platform.leader)["auth_query"] == quoted
    # An earlier release writes no name of a schema.
    old = platform.model.plan.upstream.model_copy(update={"auth_schema": "pgbouncer"})
    platform.model.plan = platform.model.plan.model_copy(update={"upstream": old})
    platform.model.ledger = platform.model.ledger.model_copy(update={"auth_schema": ""})
    platform.server.down = "PostgreSQL does not answer"
    platform.leader.config_changed()
    former = 'SELECT username, password FROM "pgbouncer".get_auth($1)'
    for unit in platform.units.values():
        unit.peers_changed()
        assert settings_of(unit)["auth_query"] == former
    platform.server.down = ""
    platform.leader.peers_changed()
    for unit in platform.units.values():
        unit.peers_changed()
        assert settings_of(unit)["auth_query"] == quoted


@pytest.mark.flow("backend/4")
def test_a_follower_waits_until_the_backend_is_shared():
    platform = deployed()
    platform.server.down = "PostgreSQL does not answer"
    platform.backend()
    follower = platform.followers[0]
    assert isinstance(follower.backend_changed(), Deferred)
    platform.server.down = ""
    platform.leader.backend_changed()
    assert isinstance(follower.backend_changed(), Done)
    assert settings_of(follower)["auth_user"] == "pgbouncer_auth_relation_id_1"


@pytest.mark.flow("backend/5")
def test_new_endpoints_are_reloaded():
    platform = related()
    platform.relate("shop-app", "shop")
    platform.backend(endpoints="10.1.0.9:5433", readers="10.1.0.8:5433")
    for unit in platform.units.values():
        pools = {pool.alias: pool for pool in unit.pooler.config.instances[0].pools}
        assert (pools["shop"].hosts, pools["shop"].port) == (("10.1.0.9",), 5433)
        assert pools["shop_readonly"].hosts == ("10.1.0.8",)
        assert unit.pooler.taken[-1].action == "reload"


def test_a_pooler_that_died_is_brought_back_and_then_led_to_the_backend():
    platform = deployed(units=1)
    platform.leader.pooler.lose_disk()
    platform.backend()
    assert settings_of(platform.leader)["auth_user"] == "pgbouncer_auth_relation_id_1"


def test_a_backend_that_ends_before_it_published_leaves_nothing_to_withdraw():
    platform = deployed(units=1)
    platform.model.backend = related_backend(None, "waiting")
    ended(platform)
    assert platform.server.asked == 0
    assert worst(platform.leader).level is Level.BLOCKED


@pytest.mark.flow("backend/6", "backend/9")
def test_a_unit_that_leaves_cleans_nothing_up():
    platform = related()
    platform.relate("shop-app", "shop")
    roles = dict(platform.server.roles)
    leaver = platform.leader
    leaver.backend_departed(leaver.name)
    leaver.backend_broken()
    assert platform.model.units[leaver.name].leaving
    assert platform.server.roles == roles
    assert platform.model.auth is not None


def test_a_unit_that_leaves_before_it_served_starts_no_process():
    platform = related(units=2)
    leaver = platform.followers[0]
    leaver.pooler.lose_disk()
    leaver.backend_departed(leaver.name)
    leaver.backend_changed()
    assert not leaver.pooler.running


@pytest.mark.flow("backend/7")
def test_scaling_down_cleans_nothing_up():
    platform = related(units=3)
    roles = dict(platform.server.roles)
    platform.leader.backend_departed("postgresql/1")
    platform.remove_unit("pgbouncer/2")
    assert platform.server.roles == roles


def ended(platform):
    gone = platform.model.backend.model_copy(update={"present": False})
    platform.model.backend = gone
    for unit in platform.units.values():
        unit.backend_departed("postgresql/0")


@pytest.mark.flow("backend/8")
def test_the_end_of_the_relation_leaves_nothing_of_ours():
    platform = related()
    platform.relate("shop-app", "shop")
    platform.server.roles["somebody"] = MemoryRole(ours=False)
    ended(platform)
    assert set(platform.server.roles) == {"somebody"}
    assert (platform.server.functions, platform.server.databases) == (set(), {"shop"})


def test_the_last_unit_leaves_nothing_of_ours():
    platform = related(units=1)
    platform.relate("shop-app", "shop")
    platform.model.units["pgbouncer/0"].dying = True
    platform.leader.peers_departed("pgbouncer/0")
    assert platform.server.roles == {}


def test_clients_log_in_as_before_after_a_time_without_units():
    platform = related(units=1)
    number = platform.relate("shop-app", "shop")
    before = {name: role.password for name, role in platform.server.roles.items()}
    platform.remove_unit("pgbouncer/0")
    assert platform.server.roles == {}
    platform.add_unit()
    platform.deploy()
    assert platform.model.clients[number].told
    assert {name: role.password for name, role in platform.server.roles.items()} == before


def test_a_backend_that_is_gone_already_stops_no_hook():
    platform = related()
    platform.server.down = "PostgreSQL does not answer"
    ended(platform)
    assert platform.model.ledger.grants == ()


def test_credentials_that_are_withdrawn_first_are_named_in_the_log(caplog):
    platform = related(units=1)
    backend = platform.model.backend
    platform.model.backend = backend.model_copy(update={"credentials": None})
    platform.model.units["pgbouncer/0"].dying = True
    platform.leader.peers_departed("pgbouncer/0")
    assert platform.server.roles != {}
    assert caplog.messages[-1] == (
        "Users of this application may stay in PostgreSQL: the credentials have been withdrawn already"
    )


@pytest.mark.flow("backend/10")
def test_without_a_backend_no_client_is_served_and_passwords_are_gone():
    platform = related()
    number = platform.relate("shop-app", "shop")
    ended(platform)
    platform.model.backend = type(platform.model.backend)()
    for unit in platform.units.values():
        unit.backend_broken()
    for unit in platform.units.values():
        assert aliases(unit) == []
        assert unit.pooler.config.users == ()
        assert worst(unit).text == "missing relation: backend-database"
    assert (platform.model.auth, platform.model.clients[number].told) == (None, None)
    platform.backend()
    assert platform.model.clients[number].told is not None


def test_another_backend_user_gets_users_of_its_own():
    platform = related()
    platform.backend(user="relation_id_9")
    assert platform.model.auth.auth_user == "pgbouncer_auth_relation_id_9"
    assert settings_of(platform.followers[0])["auth_user"] == "pgbouncer_auth_relation_id_9"


def test_a_backend_secret_that_cannot_be_read_for_a_moment_changes_nothing():
    platform = related()
    platform.relate("shop-app", "shop")
    plan = platform.model.plan
    platform.model.backend = platform.model.backend.model_copy(update={"credentials": None})
    for unit in platform.units.values():
        unit.backend_changed()
        unit.update_status()
    assert platform.model.plan == plan
