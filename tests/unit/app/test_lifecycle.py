"""start, pebble-ready, config-changed, update-status and leader-elected on the platform in memory."""

import pytest
from in_memory import deployed, related, settings_of, worst

from adapters.memory import MemoryPlatform
from app.outcome import AskAgain, Deferred, Done
from domain import sentences
from domain.capabilities import Version
from domain.facts import Container
from domain.problems import Level
from domain.status import assess


@pytest.mark.flow("start/1")
def test_start_waits_for_a_container():
    platform = MemoryPlatform()
    platform.leader.pooler.reachable = False
    outcome = platform.leader.start()
    assert isinstance(outcome, Deferred)
    assert "container" in outcome.reason
    assert platform.model.plan is None


@pytest.mark.flow("start/2")
def test_start_renders_the_shared_plan():
    platform = MemoryPlatform()
    platform.leader.start()
    follower = platform.followers[0]
    assert isinstance(follower.start(), Done)
    assert settings_of(follower)["listen_port"] == "6432"


@pytest.mark.flow("start/2")
def test_start_brings_relations_up_to_date():
    platform = related(units=1)
    number = platform.relate("shop-app", "shop")
    platform.model.clients[number].told = None
    platform.leader.start()
    assert platform.model.clients[number].told.endpoints == "10.0.0.1:6432"


@pytest.mark.flow("start/3")
def test_a_follower_waits_for_the_leaders_configuration():
    platform = MemoryPlatform()
    follower = platform.followers[0]
    outcome = follower.start()
    assert isinstance(outcome, Deferred)
    assert "leader" in outcome.reason
    assert (platform.model.plan, follower.pooler.config) == (None, None)
    assert worst(follower).text == "missing relation: backend-database"


@pytest.mark.flow("start/4")
def test_the_leader_generates_and_shares_the_first_configuration():
    platform = MemoryPlatform()
    assert isinstance(platform.leader.start(), Done)
    assert platform.model.plan.settings.pool_mode == "session"
    assert platform.leader.pooler.running == {0, 1}


@pytest.mark.flow("ready/1")
def test_pebble_ready_waits_for_a_configuration():
    platform = MemoryPlatform()
    assert isinstance(platform.leader.pebble_ready(), Deferred)
    assert platform.leader.pooler.config is None


@pytest.mark.flow("ready/2")
def test_pebble_ready_starts_what_does_not_run():
    platform = related()
    unit = platform.leader
    unit.pooler.running.clear()
    outcome = unit.pebble_ready()
    assert unit.pooler.running == {0, 1}
    assert outcome.facts.container.version == Version(1, 26, 1)
    assert worst(unit).level is Level.ACTIVE


def test_a_container_with_a_new_disk_gets_everything_again():
    platform = related()
    before = platform.leader.pooler.config
    platform.leader.pooler.lose_disk()
    platform.leader.pebble_ready()
    assert platform.leader.pooler.config == before


@pytest.mark.flow("config/1")
def test_a_follower_reads_no_options():
    platform = deployed()
    platform.model.options = {"pool_mode": "transaction"}
    platform.followers[0].config_changed()
    assert platform.model.plan.settings.pool_mode == "session"


@pytest.mark.flow("config/2")
def test_options_wait_for_a_configuration():
    platform = MemoryPlatform()
    assert isinstance(platform.leader.config_changed(), Deferred)
    assert platform.model.plan is None


@pytest.mark.flow("config/3")
def test_options_reach_every_unit_by_a_reload():
    platform = deployed()
    taken = len(platform.leader.pooler.taken)
    platform.model.options = {"pool_mode": "transaction"}
    platform.leader.config_changed()
    platform.settle()
    for unit in platform.units.values():
        assert settings_of(unit)["pool_mode"] == "transaction"
    assert {step.action for step in platform.leader.pooler.taken[taken:]} == {"reload"}


@pytest.mark.flow("config/3")
def test_a_new_port_is_told_once_every_unit_listens_there():
    platform = related(service_host="pool-service")
    number = platform.relate("shop-app", "shop")
    told = platform.model.clients[number]
    platform.model.options = {"listen_port": 7000}
    platform.leader.config_changed()
    assert platform.kubernetes.own.ports == (7000, 6432)
    assert told.told.endpoints == "pool-service:6432"
    assert platform.leader.pooler.running == {0, 1, 16, 17}
    platform.settle()
    assert told.told.endpoints == "pool-service:7000"
    assert platform.kubernetes.own.ports == (7000,)
    assert [unit.pooler.running for unit in platform.units.values()] == [{16, 17}] * 2


def test_the_old_port_closes_in_a_later_hook_than_clients_were_told_the_new():
    platform = related(units=1, service_host="pool-service")
    number = platform.relate("shop-app", "shop")
    platform.model.options = {"listen_port": 7000}
    outcome = platform.leader.config_changed()
    assert platform.model.clients[number].told.endpoints == "pool-service:7000"
    assert platform.model.plan.former_port == 6432
    assert isinstance(outcome, AskAgain)
    assert outcome.reason == "about to close port 6432"
    assert outcome.facts.plan == platform.model.plan
    platform.leader.update_status()
    assert platform.model.plan.former_port is None
    assert isinstance(platform.leader.update_status(), Done)


@pytest.mark.flow("config/4")
def test_an_invalid_option_is_named_and_changes_nothing():
    platform = related()
    before = platform.leader.pooler.config
    platform.model.options = {"pool_mode": "chaos"}
    platform.leader.config_changed()
    assert platform.leader.pooler.config == before
    assert worst(platform.leader).level is Level.BLOCKED
    assert worst(platform.leader).text.startswith("option pool_mode must be session")


def told_again(platform, number):
    """Overwrite what the leader and a client published, and run update-status."""
    told = platform.model.clients[number].told
    platform.model.leader_address = ""
    platform.model.clients[number].told = told.model_copy(update={"endpoints": "old:1"})
    platform.leader.update_status()
    assert platform.model.leader_address == "10.0.0.1"
    return platform.model.clients[number].told == told


@pytest.mark.flow("update/1")
def test_update_status_blocks_without_a_backend():
    platform = deployed()
    platform.model.leader_address = ""
    outcome = platform.leader.update_status()
    assert assess(outcome.facts, outcome.problems)[0].text == "missing relation: backend-database"
    assert platform.model.leader_address == "10.0.0.1"


@pytest.mark.flow("update/1")
def test_update_status_notices_a_silent_postgresql_and_its_return():
    platform = related()
    platform.server.down = "PostgreSQL at 10.1.0.1:5432 does not answer: check the network"
    platform.leader.update_status()
    for unit in platform.units.values():
        assert sentences.POSTGRESQL_SILENT.matches(worst(unit).text)
    platform.server.down = ""
    platform.leader.update_status()
    assert worst(platform.leader).level is Level.ACTIVE


@pytest.mark.flow("update/2")
def test_update_status_is_active_and_refreshes():
    platform = related()
    number = platform.relate("shop-app", "shop")
    assert told_again(platform, number)
    assert worst(platform.leader).level is Level.ACTIVE


@pytest.mark.flow("update/3")
def test_update_status_waits_for_a_pooler_that_does_not_run():
    platform = related()
    platform.leader.pooler.running.discard(1)
    outcome = platform.leader.update_status()
    assert assess(outcome.facts, outcome.problems)[0].text == "waiting for PgBouncer to run"
    assert platform.leader.pooler.running == {0}


@pytest.mark.flow("leader/1")
def test_a_new_leader_repairs_the_state_that_the_old_leader_left():
    platform = related()
    number = platform.relate("shop-app", "shop")
    told = platform.model.clients[number].told
    platform.model.leader = platform.followers[0].name
    platform.model.clients[number].told = told.model_copy(update={"endpoints": "old:1"})
    platform.server.roles.clear()
    platform.leader.leader_elected()
    assert platform.model.leader_address == "10.0.0.2"
    assert platform.model.clients[number].told == told
    password = platform.model.clients[number].password.get_secret_value()
    assert platform.server.roles[f"relation_id_{number}"].password == password


@pytest.mark.flow("leader/2")
def test_a_leader_that_leaves_says_so_and_writes_nothing_more():
    platform = related()
    number = platform.relate("shop-app", "shop")
    leaver = platform.leader
    leaver.peers_departed(leaver.name)
    leaver.clients_departed(leaver.name)
    assert platform.model.units[leaver.name].leaving
    platform.model.options = {"pool_mode": "transaction"}
    leaver.config_changed()
    assert platform.model.plan.settings.pool_mode == "session"
    platform.remove_unit(leaver.name)
    assert platform.model.clients[number].told.endpoints == "10.0.0.2:6432"
    assert [member.name for member in platform.model.plan.members] == ["pgbouncer/1"]


def test_an_old_pgbouncer_is_refused_with_a_sentence():
    platform = MemoryPlatform(units=1)
    platform.leader.pooler.release = Version(1, 20, 1)
    outcome = platform.leader.start()
    assert platform.leader.pooler.config is None
    texts = [sentence.text for sentence in assess(outcome.facts, outcome.problems)]
    assert "PgBouncer 1.20.1 is too old: 1.21 or later is needed" in texts


def test_a_container_that_refuses_is_quoted_and_tried_again():
    platform = related(units=1)
    platform.leader.pooler.failure = "no space left on device"
    platform.model.options = {"max_db_connections": 10}
    outcome = platform.leader.config_changed()
    assert assess(outcome.facts, outcome.problems)[0].text == "no space left on device"
    assert not outcome.unchanged
    platform.leader.pooler.failure = ""
    platform.leader.update_status()
    assert settings_of(platform.leader)["max_db_connections"] == "5"


def test_a_temporary_failure_waits_and_is_tried_again_soon():
    platform = related()
    pooler = platform.leader.pooler
    pooler.failure, pooler.passing = "the container does not answer in time", True
    platform.model.options = {"max_db_connections": 40}
    outcome = platform.leader.config_changed()
    assert isinstance(outcome, AskAgain)
    found = assess(outcome.facts, outcome.problems)[0]
    assert (found.level, found.text) == (Level.WAITING, pooler.failure)
    pooler.failure = ""
    outcome = platform.leader.update_status()
    assert assess(outcome.facts, outcome.problems)[0].text != found.text
    assert platform.leader.read().container.applied.serving


def test_a_container_that_did_not_answer_in_time_is_asked_again_soon():
    platform = related()
    pooler = platform.leader.pooler
    pooler.reachable, pooler.timed_out = False, True
    outcome = platform.leader.update_status()
    assert isinstance(outcome, AskAgain)
    assert worst(platform.leader).text == "waiting for the pgbouncer container"


def test_what_is_missing_has_another_name_after_any_progress():
    platform = related()
    before = AskAgain(platform.leader.read(), "waiting for shop")
    assert before.topic == AskAgain(platform.leader.read(), "waiting for shop").topic
    assert before.topic != before._replace(reason="waiting for till").topic
    platform.relate("shop-app", "shop")
    assert before.topic != before._replace(facts=platform.leader.read()).topic
    empty = before.facts.model_copy(update={"container": Container()})
    assert before.topic != before._replace(facts=empty).topic
