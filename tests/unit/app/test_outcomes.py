"""The facts of an outcome, from which statuses and logs are made, are what the next hook reads."""

import functools

import pytest
from crash_core import twin
from hooks import HOOKS, run_hook
from in_memory import deployed, related

from adapters.memory import MemoryPlatform
from app.outcome import AskAgain, Done
from domain.backend import BackendRelation
from domain.capabilities import Version
from domain.status import assess


def with_clients(**how):
    platform = related(**how)
    platform.relate("shop-app", "shop")
    platform.relate("blog-app", "blog")
    return platform


def exposed():
    return with_clients(service_host="pool-service")


def server_is_down():
    platform = with_clients()
    platform.server.down = "PostgreSQL does not answer"
    return platform


def backend_has_gone():
    platform = with_clients()
    platform.model.backend = platform.model.backend.model_copy(update={"present": False})
    return platform


def options_have_changed():
    platform = with_clients()
    platform.model.options = {"max_db_connections": 40, "listen_port": 7000}
    return platform


def backend_is_new():
    """Return a platform to which PostgreSQL was just related."""
    platform = deployed()
    platform.model.backend = BackendRelation(related=True, present=True)
    return platform


def container_is_away():
    platform = with_clients()
    for unit in platform.units.values():
        unit.pooler.reachable = False
    return platform


SITUATIONS = (
    MemoryPlatform, deployed, with_clients, exposed, server_is_down, backend_has_gone,
    options_have_changed, backend_is_new, container_is_away,
)  # fmt: skip


@pytest.fixture(scope="module")
def situations():
    """Return copies of situations, each of which is made once."""
    made = functools.cache(lambda situation: situation())
    return lambda situation: twin(made(situation))


def reported(outcome):
    """Return the facts of an outcome, as another hook would read them."""
    return outcome.facts.model_copy(update={"peers_plan": None, "auth_unshared": False})


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("place", [0, 1])
def test_the_facts_of_an_outcome_are_those_that_the_next_hook_reads(
    situations, situation, hook, place
):
    unit = list(situations(situation).units.values())[place]
    outcome = run_hook(unit, hook)
    assert reported(outcome) == unit.read()


@pytest.mark.parametrize("hook", ["peers_departed", "backend_departed", "clients_departed"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_unit_that_leaves_says_so_and_does_nothing_more(hook, place):
    platform = options_have_changed()
    plan = platform.model.plan
    unit = list(platform.units.values())[place]
    platform.model.plan = plan.model_copy(update={"databases": ("shop",)})
    outcome = run_hook(unit, hook, departing=unit.name)
    assert outcome.facts.leaving
    assert reported(outcome) == unit.read()
    # Neither a new plan nor a new configuration: other units do that.
    assert platform.model.plan.databases == ("shop",)
    assert "blog" in [pool.alias for pool in unit.pooler.config.instances[0].pools]


def test_a_unit_that_announced_its_end_does_nothing_when_relations_end():
    platform = with_clients()
    unit = platform.followers[0]
    unit.backend_departed(unit.name)
    platform.model.plan = platform.model.plan.model_copy(update={"databases": ("shop",)})
    assert reported(unit.backend_broken()) == unit.read()
    assert "blog" in [pool.alias for pool in unit.pooler.config.instances[0].pools]


def test_a_unit_leads_nowhere_once_it_knows_that_postgresql_has_gone():
    platform = with_clients()
    follower = platform.followers[0]
    platform.model.backend = backend_has_gone().model.backend
    follower.backend_broken()
    assert platform.model.plan.upstream is not None  # before the leader's hook
    assert [
        pool.alias for instance in follower.pooler.config.instances for pool in instance.pools
    ] == []


@pytest.mark.parametrize("hook", ["peers_departed", "backend_departed"])
def test_the_last_unit_takes_leave_of_postgresql(hook):
    platform = with_clients(units=1)
    unit = platform.leader
    platform.model.units[unit.name].dying = True
    assert reported(getattr(unit, hook)(unit.name)) == unit.read()
    assert not any(role.ours for role in platform.server.roles.values())
    # The next unit makes them again.
    assert platform.model.ledger.provisioned_for == ""


@pytest.mark.parametrize("trouble", ["credentials", "down", "stuck"])
def test_what_may_be_left_in_postgresql_is_in_the_log(caplog, trouble):
    platform = with_clients(units=1)
    unit, backend = platform.leader, platform.model.backend
    if trouble == "credentials":
        platform.model.backend = backend.model_copy(update={"credentials": None})
    else:
        setattr(platform.server, trouble, "PostgreSQL has its reasons")
    platform.model.units[unit.name].dying = True
    assert reported(unit.peers_departed(unit.name)) == unit.read()
    why = {"credentials": "the credentials have been withdrawn already"}
    expected = why.get(trouble, "PostgreSQL has its reasons")
    assert f"Users of this application may stay in PostgreSQL: {expected}" in caplog.text


def test_a_unit_that_cannot_act_waits_for_no_connections():
    away = container_is_away().leader
    assert isinstance(away.update_status(), Done)
    old = with_clients(units=1)
    old.leader.pooler.release = Version(1, 18)
    old.leader.pooler.lose_disk()
    assert isinstance(old.leader.update_status(), Done)


def test_a_unit_without_one_of_its_processes_announces_no_database():
    platform = with_clients()
    unit = platform.leader
    unit.pooler.die(1)
    unit.update_status()
    assert platform.model.units[unit.name].serving is None


def test_no_client_is_served_once_the_backend_has_gone():
    platform = backend_has_gone()
    platform.leader.backend_departed("postgresql/0")
    assert platform.leader.pooler.config.instances[0].pools == ()


def test_a_client_that_has_what_it_asked_for_waits_for_nothing():
    assert isinstance(with_clients().leader.clients_changed(), Done)


def reason(outcome):
    assert not isinstance(outcome, Done)
    return outcome.reason


def test_the_missing_part_is_the_reason_to_wait():
    platform = MemoryPlatform()
    leader, follower = platform.leader, platform.followers[0]
    assert reason(leader.peers_created()) == "waiting for a configuration to share"
    assert reason(leader.config_changed()) == "waiting for a configuration to change"
    assert reason(leader.pebble_ready()) == "waiting for a configuration"
    assert reason(follower.start()) == (
        "waiting for the leader to generate and share a configuration"
    )
    assert reason(leader.backend_changed()) == "waiting for PgBouncer to run"
    platform.leader.pooler.reachable = False
    assert reason(leader.start()) == "waiting for the pgbouncer container"


def test_a_client_that_waits_for_postgresql_reports_the_reason():
    platform = deployed()
    leader, follower = platform.leader, platform.followers[0]
    platform.model.relate("shop-app", "shop")
    assert reason(leader.clients_changed()) == "waiting for the backend database"
    platform.backend()
    platform.model.backend = platform.model.backend.model_copy(
        update={"credentials": None, "problem": "postgresql has not given endpoints yet"}
    )
    assert reason(leader.backend_changed()) == "postgresql has not given endpoints yet"
    fresh = deployed()
    fresh.model.backend = platform.model.backend
    assert reason(fresh.followers[0].backend_changed()) == (
        "waiting for the leader to share the backend"
    )
    refusing = deployed()
    refusing.server.refuses = "FATAL: not you"
    refusing.backend()
    assert reason(refusing.leader.backend_changed()) == "waiting for PostgreSQL"
    assert isinstance(follower.clients_changed(), Done)


def test_clients_that_postgresql_does_not_let_in_yet_are_named():
    platform = related()
    platform.server.lets_in = False
    platform.model.relate("shop-app", "shop")
    platform.model.relate("blog-app", "blog")
    platform.leader.clients_changed()
    for unit in platform.followers:
        unit.peers_changed()
    outcome = platform.leader.clients_changed()
    assert isinstance(outcome, AskAgain)
    assert reason(outcome) == "waiting for PostgreSQL to let in relation_id_1, relation_id_2"


def test_a_server_that_does_not_answer_is_asked_again_in_a_moment():
    outcome = server_is_down().leader.config_changed()
    assert isinstance(outcome, AskAgain)
    assert reason(outcome) == "PostgreSQL does not answer"


def test_a_server_that_refuses_is_not_asked_until_a_fact_changes():
    platform = with_clients()
    platform.model.clients[1].told = None
    platform.server.refuses = "FATAL: not you"
    assert isinstance(platform.leader.config_changed(), Done)


def test_no_hook_waits_for_an_unknown_server():
    platform = with_clients()
    platform.model.clients[1].told = None
    platform.model.backend = platform.model.backend.model_copy(update={"credentials": None})
    assert isinstance(platform.leader.update_status(), Done)


def test_the_leader_requests_access_once_postgresql_is_related():
    platform = deployed()
    assert not platform.model.backend.requested
    platform.model.backend = backend_is_new().model.backend
    platform.followers[0].update_status()
    assert not platform.model.backend.requested
    platform.leader.update_status()
    assert platform.model.backend.requested


def test_a_server_that_does_not_answer_is_told_by_the_leader_alone():
    platform = server_is_down()
    platform.followers[0].update_status()
    assert platform.model.ledger.problems == ()
    outcome = platform.leader.update_status()
    assert not outcome.facts.backend_ready
    assert assess(outcome.facts, outcome.problems)[0].text == "PostgreSQL does not answer"


def test_a_client_that_has_gone_is_dropped_in_that_hook():
    platform = with_clients()
    del platform.model.clients[1]
    assert "relation_id_1" in platform.server.roles
    platform.followers[0].clients_broken()
    assert "relation_id_1" in platform.server.roles
    platform.leader.clients_broken()
    assert "relation_id_1" not in platform.server.roles
    assert "relation_id_2" in platform.server.roles


@pytest.mark.parametrize("hook", ["backend_changed", "config_changed", "start", "leader_elected"])
def test_what_postgresql_has_lost_is_made_again_by_a_thorough_hook(hook):
    platform = with_clients()
    del platform.server.roles["relation_id_1"]
    getattr(platform.leader, hook)()
    assert "relation_id_1" in platform.server.roles


def test_each_user_that_cannot_be_dropped_is_told():
    platform = with_clients()
    platform.server.stuck = "it owns something"
    platform.model.clients.clear()
    platform.leader.clients_broken()
    assert [sentence.text for sentence in assess(platform.leader.read())] == [
        "relation_id_1 cannot log in any more, and is still in PostgreSQL: it owns something",
        "relation_id_2 cannot log in any more, and is still in PostgreSQL: it owns something",
    ]


def test_a_client_whose_password_was_not_set_is_told_nothing():
    platform = related()
    number = platform.model.relate("shop-app", "shop")
    platform.server.refuses_passwords = "no superuser any more"
    platform.leader.clients_changed()
    platform.settle()
    assert reported(platform.leader.peers_changed()) == platform.leader.read()
    assert platform.model.clients[number].told is None
    assert platform.model.clients[number].password is None
