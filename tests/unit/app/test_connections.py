"""Connections move between units and processes, and their sum never exceeds the limit."""

import pytest
from in_memory import related, worst

from adapters.memory import MemoryPlatform
from app.outcome import AskAgain, Done
from domain.budget import UnitBudget
from domain.operations import ALL
from domain.problems import Level


def limits(unit):
    """Return the limit of each process, by index; empty without a configuration."""
    config = unit.pooler.config
    return {instance.index: instance.limit for instance in config.instances} if config else {}


def pooling(units=1, limit=20, **how):
    platform = related(units=units, **how)
    platform.model.options = {"max_db_connections": limit}
    platform.leader.config_changed()
    platform.relate("shop-app", "shop")
    return platform


def test_a_new_unit_gets_its_share_when_other_units_have_given_it_up():
    platform = pooling()
    assert limits(platform.leader) == {0: 10, 1: 10}
    platform.leader.pooler.consoles.busy = {0: 9, 1: 3}
    new = platform.add_unit()
    new.start()
    platform.settle()
    assert limits(platform.leader) == {0: 5, 1: 5}
    assert platform.model.units["pgbouncer/0"].stake == UnitBudget(share=10, held=14)
    assert limits(new) == {0: 3, 1: 3}
    platform.leader.pooler.consoles.busy = {}
    platform.settle()
    assert limits(new) == {0: 5, 1: 5}
    assert platform.leader.peers_changed().unchanged


def test_a_process_that_keeps_connections_is_asked_again_soon():
    platform = pooling()
    platform.leader.pooler.consoles.busy = {0: 9}
    platform.model.options = {"max_db_connections": 4}
    outcome = platform.leader.config_changed()
    assert isinstance(outcome, AskAgain)
    assert outcome.reason == "waiting for connections to be given up"


def test_a_console_that_does_not_answer_keeps_what_its_process_may_have():
    platform = pooling()
    platform.leader.pooler.consoles.silent = True
    new = platform.add_unit()
    new.start()
    platform.settle()
    assert limits(new) == {}
    platform.leader.pooler.consoles.silent = False
    platform.settle()
    assert limits(new) == {0: 5, 1: 5}


def test_a_unit_without_a_share_waits_and_keeps_no_client_waiting():
    platform = pooling()
    platform.leader.pooler.consoles.busy = {0: 10, 1: 10}
    new = platform.add_unit()
    new.start()
    new.pebble_ready()
    platform.settle()
    assert worst(new).level is Level.WAITING
    assert worst(new).text == "waiting for other units to give up connections"
    blog = platform.relate("blog-app", "blog")
    assert platform.model.clients[blog].told.endpoints == "10.0.0.1:6432"


def test_more_units_than_connections_are_told_so_and_the_limit_is_kept():
    platform = pooling(units=3, limit=2)
    assert [limits(unit) for unit in platform.units.values()] == [{0: 1}, {0: 1}, {}]
    assert {worst(unit).text for unit in platform.units.values()} == {
        "max_db_connections 2 is too few for 3 units: raise it, or remove units"
    }


def test_too_few_connections_for_replicas_are_reported_and_only_rw_is_pooled():
    platform = pooling(units=2, limit=7)
    platform.backend(readers="10.1.0.2:5432")
    assert worst(platform.leader).text == (
        "max_db_connections 7 is too few for read-only pools of 2 units: 8 are needed"
    )
    assert "shop_readonly" not in [
        p.alias for p in platform.leader.pooler.config.instances[0].pools
    ]


def test_read_only_pools_get_their_part_when_it_was_given_up():
    platform = pooling(units=2)
    unit = platform.leader
    unit.pooler.consoles.busy = {0: 5, 1: 2}
    platform.backend(readers="10.1.0.2:5432")

    def pooled(index):
        pools = unit.pooler.config.instances[index].pools
        return {pool.alias: pool.connections for pool in pools if pool.database == "shop"}

    assert (limits(unit), pooled(0)) == ({0: 4, 1: 5}, {"shop": None})
    assert pooled(1) == {"shop": 4, "shop_readonly": 1}
    told = next(iter(platform.model.clients.values())).told
    assert (told.read_only_alias, told.read_only_endpoints) == ("", "")
    unit.pooler.consoles.busy = {}
    platform.settle()
    assert (limits(unit), pooled(0)) == ({0: 5, 1: 5}, {"shop": 4, "shop_readonly": 1})
    told = next(iter(platform.model.clients.values())).told
    assert told.read_only_alias == "shop_readonly"


@pytest.mark.parametrize("raised", [40, 0])
def test_the_leader_has_more_connections_once_its_peers_know(raised):
    platform = pooling(units=1)
    platform.model.options = platform.model.options | {"max_db_connections": raised}
    outcome = platform.leader.config_changed()
    # If this hook failed now, another leader would go by the limit before.
    assert limits(platform.leader) == {0: 10, 1: 10}
    assert isinstance(outcome, AskAgain)
    assert outcome.reason == "waiting until the other units know of the new limit"
    platform.leader.peers_changed()
    assert limits(platform.leader) == {0: raised // 2, 1: raised // 2}


def test_the_first_limit_holds_before_anything_runs():
    platform = MemoryPlatform(units=1, cpus=2)
    platform.model.options = {"max_db_connections": 20}
    unit = platform.leader
    for hook in (unit.peers_created, unit.leader_elected, unit.start, unit.pebble_ready):
        hook()
    assert limits(unit) == {0: 10, 1: 10}
    assert unit.peers_changed().unchanged


def test_what_a_unit_had_is_handed_out_when_its_last_connection_has_ended():
    platform = pooling(units=2)
    platform.server.connected = {"10.0.0.2"}
    platform.remove_unit("pgbouncer/1")
    assert limits(platform.leader) == {0: 5, 1: 5}
    outcome = platform.leader.update_status()
    assert isinstance(outcome, AskAgain)
    assert outcome.reason == "waiting for the last transactions of pgbouncer/1"
    platform.server.down = "PostgreSQL does not answer"
    platform.leader.peers_changed()
    assert limits(platform.leader) == {0: 5, 1: 5}
    platform.server.down, platform.server.connected = "", set()
    platform.settle()
    assert limits(platform.leader) == {0: 10, 1: 10}
    assert platform.model.plan.leavers == ()


def test_connections_above_the_share_of_a_removed_leader_stay_reserved():
    platform = pooling()
    platform.leader.pooler.consoles.busy = {0: 9}
    new = platform.add_unit()
    new.start()
    platform.settle()
    assert platform.model.units["pgbouncer/0"].stake == UnitBudget(share=10, held=14)
    platform.server.connected = {"10.0.0.1"}
    platform.remove_unit("pgbouncer/0")
    assert sum(limits(new).values()) == 6
    platform.server.connected = set()
    platform.settle()
    assert sum(limits(new).values()) == 20


def test_all_that_keep_connections_are_named():
    platform = pooling(units=3)
    platform.server.connected = {"10.0.0.2", "10.0.0.3"}
    platform.remove_unit("pgbouncer/1")
    platform.remove_unit("pgbouncer/2")
    reason = platform.leader.update_status().reason
    assert reason == "waiting for the last transactions of pgbouncer/2, pgbouncer/1"


@pytest.mark.parametrize("lost", [{"credentials": None}, {"present": False}])
def test_without_postgresql_a_departed_unit_has_no_connections(lost):
    platform = pooling(units=2)
    platform.server.connected = {"10.0.0.2"}
    platform.model.backend = platform.model.backend.model_copy(update=lost)
    platform.remove_unit("pgbouncer/1")
    assert limits(platform.leader) == {0: 10, 1: 10}


def test_an_address_that_another_unit_has_now_belongs_to_no_departed_unit():
    platform = pooling(units=2)
    platform.server.connected = {"10.0.0.2"}
    platform.remove_unit("pgbouncer/1")
    platform.add_unit().start()
    platform.settle()
    assert platform.model.plan.leavers == ()


def test_processes_that_end_count_until_they_have():
    platform = pooling()
    pooler = platform.leader.pooler
    platform.model.options = platform.model.options | {"listen_port": 7000}
    platform.leader.config_changed()
    assert limits(platform.leader) == {16: 5, 17: 5, 0: 5, 1: 5}
    pooler.ending = {0, 1}
    platform.settle()
    assert limits(platform.leader) == {16: 5, 17: 5}
    assert isinstance(platform.leader.peers_changed(), AskAgain)
    pooler.ending = set()
    platform.leader.peers_changed()
    assert limits(platform.leader) == {16: 10, 17: 10}
    assert platform.leader.peers_changed().unchanged


def test_a_process_that_still_ends_is_not_started_before_it_has():
    platform = pooling()
    pooler = platform.leader.pooler
    platform.model.options = {"max_db_connections": 1}
    platform.leader.config_changed()
    assert limits(platform.leader) == {0: 1}
    pooler.ending = {1}
    platform.model.options = {"max_db_connections": 20}
    outcome = platform.leader.config_changed()
    assert isinstance(outcome, AskAgain)
    assert 1 not in limits(platform.leader)
    pooler.ending = set()
    platform.leader.peers_changed()
    assert limits(platform.leader) == {0: 10, 1: 10}
    assert platform.leader.peers_changed().unchanged


def test_processes_count_in_the_very_hook_that_stops_them():
    platform = pooling()
    platform.model.options = platform.model.options | {"listen_port": 7000}
    platform.leader.config_changed()
    assert isinstance(platform.leader.update_status(), AskAgain)
    assert limits(platform.leader) == {16: 5, 17: 5}
    platform.leader.update_status()
    assert limits(platform.leader) == {16: 10, 17: 10}


def test_clients_get_a_new_port_when_a_process_has_connections_to_open_it():
    platform = pooling(limit=4)
    pooler = platform.leader.pooler
    pooler.consoles.busy, pooler.ending = {0: 2}, {1}
    platform.model.options = platform.model.options | {"listen_port": 7000}
    platform.leader.config_changed()
    platform.settle()
    assert limits(platform.leader) == {0: 2}
    assert platform.model.clients[1].told.endpoints == "10.0.0.1:6432"
    pooler.ending = set()
    platform.leader.peers_changed()
    assert limits(platform.leader) == {16: 2, 0: 2}
    assert platform.model.clients[1].told.endpoints == "10.0.0.1:7000"


def test_connections_of_a_pool_that_leads_nowhere_are_gone():
    platform = pooling()
    platform.leader.pooler.consoles.silent = True
    platform.model.backend = platform.model.backend.model_copy(update={"present": False})
    platform.model.options = {"max_db_connections": 4}
    platform.leader.backend_broken()
    assert limits(platform.leader) == {0: 2, 1: 2}
    assert platform.model.units[platform.leader.name].stake == UnitBudget(share=4, held=4)


def test_too_few_files_for_clients_are_told():
    platform = related(units=1, cpus=1)
    platform.model.options = {"max_db_connections": 40}
    platform.leader.config_changed()
    few = (
        "PgBouncer may open 239 files, enough for 99 clients of each process:"
        " raise the limit of open files, or lower max_db_connections"
    )
    for files, told in ((240, ""), (239, few)):
        platform.leader.pooler.files = files
        platform.leader.pooler.lose_disk()
        platform.leader.pebble_ready()
        assert worst(platform.leader).text == told
        assert (worst(platform.leader).level is Level.ACTIVE) is not bool(told)


def test_a_pause_reaches_every_process_before_any_is_waited_for():
    platform = pooling()
    consoles = platform.leader.pooler.consoles
    consoles.busy = {0: 1}
    assert isinstance(platform.leader.pause(), AskAgain)
    assert consoles.paused == {0: {ALL}, 1: {ALL}}
    consoles.busy = {}
    assert isinstance(platform.leader.peers_changed(), Done)
    platform.leader.resume()
    assert consoles.paused == {0: set(), 1: set()}


def test_where_nothing_is_served_there_is_nothing_to_pause():
    platform = related(units=1)
    platform.model.auth = None
    platform.leader.pause()
    platform.leader.resume()
    assert not any(platform.leader.pooler.consoles.paused.values())


# ---- another server ----------------------------------------------------------------------------
def test_when_a_name_leads_to_another_server_every_process_leaves_the_old():
    platform = pooling(units=2)
    platform.server.identity = "10.1.0.2 since Tuesday"
    for unit in platform.units.values():
        unit.backend_returned()
    platform.settle()
    assert {n: u.pooler.consoles.reconnected for n, u in platform.units.items()} == {
        "pgbouncer/0": {0, 1},
        "pgbouncer/1": {0, 1},
    }


def test_no_process_reconnects_while_the_server_is_the_same():
    platform = pooling(units=2)
    for unit in platform.units.values():
        unit.backend_returned()
    platform.settle()
    assert [unit.pooler.consoles.reconnected for unit in platform.units.values()] == [set(), set()]


def test_a_process_that_cannot_be_reached_delays_no_other_process():
    platform = pooling()
    platform.leader.pooler.consoles.silent = True
    platform.server.identity = "10.1.0.2 since Tuesday"
    platform.leader.backend_returned()
    assert platform.leader.pooler.applied.server == "10.1.0.2 since Tuesday"
    assert worst(platform.leader).level is Level.ACTIVE


def test_what_was_not_applied_is_not_served_and_restarts_no_process():
    platform = pooling()
    pooler = platform.leader.pooler
    pooler.failure, taken = "no space left on device", len(pooler.taken)
    blog = platform.relate("blog-app", "blog")
    platform.leader.update_status()
    assert platform.model.units[platform.leader.name].serving.databases == ("shop",)
    assert platform.model.clients[blog].told is None
    pooler.failure = ""
    platform.settle()
    assert platform.model.clients[blog].told is not None
    assert {step.action for step in pooler.taken[taken:]} == {"reload"}


def test_no_server_connection_is_taken_from_clients_in_session_mode():
    for mode, asked in (("transaction", {0}), ("session", set())):
        platform = pooling()
        platform.model.options = {"max_db_connections": 20, "pool_mode": mode}
        platform.leader.config_changed()
        platform.leader.pooler.consoles.busy = {0: 9}
        platform.model.options = {"max_db_connections": 4, "pool_mode": mode}
        platform.leader.config_changed()
        assert platform.leader.pooler.consoles.reconnected == asked


def test_killed_while_a_configuration_is_applied_and_given_the_previous():
    """A process may run with the new or the previous limit, so the hook reloads every process."""
    platform = pooling()
    pooler = platform.leader.pooler
    honest = pooler.apply

    def apply_and_die(change):
        pooler.config = change.config
        raise KeyboardInterrupt

    platform.model.options = {"max_db_connections": 40}
    platform.leader.config_changed()
    pooler.apply = apply_and_die
    with pytest.raises(KeyboardInterrupt):
        platform.leader.peers_changed()
    assert limits(platform.leader) == {0: 20, 1: 20}
    pooler.apply = honest
    platform.model.options = {"max_db_connections": 20}
    platform.leader.config_changed()
    assert limits(platform.leader) == {0: 10, 1: 10}
    assert platform.leader.peers_changed().unchanged
