"""Orders of an operator that are carried out once: reconnect, restart and kill, on units in memory."""

import pytest
from in_memory import deployed, related
from operated import session, three_units

from app.errors import ActionFailed
from app.outcome import AskAgain
from domain.capabilities import Version
from domain.operations import KillOrder, Operations, clients_to_kill


@pytest.fixture
def platform():
    return three_units()


def test_every_server_connection_is_replaced_once_for_an_order(platform):
    platform.leader.reconnect()
    platform.settle()
    for unit in platform.units.values():
        assert unit.pooler.consoles.reconnected == {0, 1}
        unit.pooler.consoles.reconnected.clear()
    platform.settle()
    assert not any(unit.pooler.consoles.reconnected for unit in platform.units.values())


def restarts(platform):
    """Return the steps since the last call, by unit."""
    steps = {
        name: [(step.action, step.index) for step in unit.pooler.taken]
        for name, unit in platform.units.items()
    }
    for unit in platform.units.values():
        unit.pooler.taken.clear()
    return {name: taken for name, taken in steps.items() if taken}


def test_processes_restart_one_after_another_and_units_too(platform):
    restarts(platform)
    platform.leader.restart()
    assert restarts(platform) == {"pgbouncer/0": [("restart", 0)]}
    seen = []
    for _ in range(8):
        for unit in [platform.leader, *platform.followers]:
            unit.peers_changed()
            seen += [(name, *step) for name, steps in restarts(platform).items() for step in steps]
    assert seen == [
        ("pgbouncer/0", "restart", 1),
        ("pgbouncer/1", "restart", 0),
        ("pgbouncer/1", "restart", 1),
        ("pgbouncer/2", "restart", 0),
        ("pgbouncer/2", "restart", 1),
    ]
    platform.add_unit()
    platform.settle()
    assert {"restart"}.isdisjoint(
        action for steps in restarts(platform).values() for action, _ in steps
    )


def test_units_restart_in_turn_without_postgresql_too():
    platform = deployed(units=3)
    restarts(platform)
    platform.leader.restart()
    for _ in range(8):
        for unit in platform.units.values():
            unit.peers_changed()
    assert restarts(platform) == {
        f"pgbouncer/{number}": [("restart", 0), ("restart", 1)] for number in range(3)
    }


def test_units_without_connections_do_not_restart_when_they_get_some():
    platform = related(units=4)
    platform.model.options = {"max_db_connections": 2}
    platform.settle()
    platform.leader.restart()
    platform.settle()
    restarts(platform)
    platform.model.options = {"max_db_connections": 20}
    platform.settle()
    steps = restarts(platform)
    assert steps["pgbouncer/3"] == [("start", 0), ("start", 1)]
    assert steps["pgbouncer/2"] == [("start", 0), ("start", 1)]


def test_a_process_waits_while_another_is_restarted_or_does_not_run(platform):
    platform.leader.restart()
    facts = platform.leader.read()
    busy = facts.container.applying(facts.container.applied, frozenset({0}))
    assert busy.restarting == {0}
    platform.leader.pooler.hung.add(0)
    restarts(platform)
    assert isinstance(platform.leader.peers_changed(), AskAgain)
    assert ("restart", 1) not in restarts(platform).get("pgbouncer/0", [])


def test_clients_that_wait_are_not_cut_off_by_a_restart(platform):
    platform.leader.pause()
    with pytest.raises(ActionFailed, match="run resume first"):
        platform.leader.restart()


@pytest.mark.parametrize("leads", ["pgbouncer/0", "pgbouncer/1"])
@pytest.mark.parametrize("hooks", [0, 2])
def test_an_order_after_an_order_whose_plan_was_lost_is_carried_out(platform, leads, hooks):
    plan = platform.model.plan
    platform.leader.kill(KillOrder(database="shop"))
    platform.leader.restart()
    for _ in range(hooks):
        platform.leader.peers_changed()
    # Both hooks were killed after the unit had restarted its first process, or after it had restarted both.
    platform.model.plan = plan
    platform.settle()
    platform.model.leader = leads
    unit = platform.units["pgbouncer/0"]
    unit.pooler.consoles.sessions[0] = [session(1)]
    platform.leader.kill(KillOrder(database="shop"))
    platform.settle()
    assert unit.pooler.consoles.sessions[0] == []
    restarts(platform)
    platform.leader.restart()
    for _ in range(8):
        for other in platform.units.values():
            other.peers_changed()
    assert restarts(platform)["pgbouncer/0"] == [("restart", 0), ("restart", 1)]


@pytest.mark.parametrize(
    ("order", "left"),
    [
        (KillOrder(database="shop"), {2}),
        (KillOrder(user="relation_id_2"), {1, 3, 4}),
        (KillOrder(idle=100), {2, 3, 4}),
        (KillOrder(oldest=1), {2, 3, 4}),
        (KillOrder(database="blog", user="relation_id_1"), {1, 2, 3, 4}),
    ],
)
def test_an_order_disconnects_the_clients_that_match_it(platform, order, left):
    unit = platform.followers[0]
    now = int(unit.pooler.now)
    clients = [
        session(1, since=now - 500),
        session(2, since=now - 10, alias="blog", user="relation_id_2"),
        session(3, since=now - 900, linked=True),
        session(4, since=now - 20),
    ]
    unit.pooler.consoles.sessions[0] = list(clients)
    platform.leader.kill(order)
    platform.settle()
    kept = {client.number for client in unit.pooler.consoles.sessions[0]}
    assert kept == left
    assert unit.read().operations.killed == 4 - len(left)
    unit.pooler.consoles.sessions[0] = list(clients)
    platform.settle()
    assert len(unit.pooler.consoles.sessions[0]) == 4


def test_a_new_unit_carries_out_no_order_from_before(platform):
    platform.leader.kill(KillOrder(database="shop"))
    platform.settle()
    platform.add_unit()
    unit = platform.followers[-1]
    platform.settle()
    assert unit.read().container.applied.kills == 1
    assert unit.read().operations == Operations(kills=1)


def test_an_older_pgbouncer_disconnects_no_client(platform):
    for unit in platform.units.values():
        unit.pooler.release = Version(1, 23)
        unit.pooler.lose_disk()
        unit.pebble_ready()
    with pytest.raises(ActionFailed, match=r"refresh to an image with 1\.24 or later"):
        platform.leader.kill(KillOrder(database="shop"))
    # The leader was refreshed first.
    order = KillOrder(number=1, database="shop")
    platform.model.plan = platform.model.plan.model_copy(update={"kills": order})
    platform.followers[0].pooler.consoles.sessions[0] = [session(1)]
    platform.settle()
    assert platform.followers[0].pooler.consoles.sessions[0]


def test_the_first_pgbouncer_that_can_disconnects_clients(platform):
    unit = platform.leader
    unit.pooler.release = Version(1, 24)
    unit.pooler.lose_disk()
    unit.pebble_ready()
    unit.pooler.consoles.sessions[0] = [session(1)]
    unit.kill(KillOrder(database="shop"))
    assert unit.pooler.consoles.sessions[0] == []


SESSIONS = (
    session(1, since=0),
    session(2, since=1, linked=True),
    session(3, since=2, linked=True, busy=True),
    session(4, since=3, busy=True),
    session(5, since=4, linked=True, user="relation_id_2"),
    session(6, since=990, linked=True),
)
KEEPING = frozenset({("shop", "relation_id_1")})


@pytest.mark.parametrize(
    ("order", "keeping", "killed"),
    [
        (KillOrder(idle=100), frozenset(), [1]),
        (KillOrder(idle=100), KEEPING, [1, 2]),
        (KillOrder(idle=1_000), KEEPING, [1]),
        (KillOrder(oldest=3), KEEPING, [1, 2, 6]),
        (KillOrder(oldest=1), KEEPING, [1]),
        (KillOrder(user="relation_id_1"), KEEPING, [1, 2, 3, 4, 6]),
        (KillOrder(), KEEPING, []),
    ],
)
def test_a_client_is_idle_by_the_mode_of_its_pool(order, keeping, killed):
    found = clients_to_kill(order, SESSIONS, frozenset(), keeping, 1_000.0)
    assert [client.number for client in found] == killed
