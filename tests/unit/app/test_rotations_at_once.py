"""Rotations whose former credentials end at once, because a password became known, on units in memory."""

import time

import pytest
from in_memory import related
from operated import session
from rotating import lets_in, published

from app.outcome import AskAgain
from domain.capabilities import Version
from domain.operations import KillOrder

FIRST, SECOND = "relation_id_1", "relation_id_1__2"


@pytest.fixture
def platform():
    """Return three units with the clients shop and blog."""
    platform = related(units=3)
    platform.relate("shop", "shop")
    platform.relate("blog", "blog")
    return platform


def rotate(platform):
    """Run the action; no hook follows."""
    return platform.leader.rotate_credentials("clients", "shop", 0).messages


def connect(platform):
    """Let clients of the application, of its new name and of another application be connected to each unit."""
    for unit in platform.units.values():
        unit.pooler.consoles.sessions = {
            0: [session(1), session(2, user=SECOND, linked=True)],
            1: [session(3, linked=True), session(4, user="relation_id_2", alias="blog")],
        }


def connected(unit):
    """Return the numbers of the clients that are connected to a unit."""
    clients = unit.pooler.consoles.sessions.values()
    return {client.number for process in clients for client in process}


def roles(platform):
    return {name for name in platform.server.roles if name.startswith(FIRST)}


def test_all_sessions_of_the_application_end_by_a_single_action(platform):
    former = published(platform)
    connect(platform)
    assert rotate(platform) == (
        f"shop gets user {SECOND} in place of {FIRST}, and its sessions end when it was told",
    )
    platform.server.roles[FIRST].sessions = True
    platform.settle()
    assert published(platform).username == SECOND
    assert not lets_in(platform, former)
    assert lets_in(platform, published(platform))
    assert roles(platform) == {SECOND}
    assert not platform.server.roles[SECOND].sessions
    assert [connected(unit) for unit in platform.units.values()] == [{4}] * 3
    (rotation,) = platform.model.ledger.rotations
    assert rotation.stage == "ended"
    assert platform.model.plan.ended_logins == ()


def test_a_client_that_logs_in_again_stays(platform):
    rotate(platform)
    platform.settle()
    connect(platform)
    for unit in platform.units.values():
        unit.update_status()
    platform.settle()
    assert all(connected(unit) == {1, 2, 3, 4} for unit in platform.units.values())


def test_the_former_name_ends_in_a_later_hook_than_that_which_tells_the_new(platform):
    former = published(platform)
    rotate(platform)
    told = platform.leader.peers_changed()
    assert isinstance(told, AskAgain)
    assert told.reason == f"about to let the former names of {SECOND} expire"
    assert published(platform).username == SECOND
    assert lets_in(platform, former)
    ends = platform.leader.peers_changed()
    assert isinstance(ends, AskAgain)
    assert ends.reason == f"about to end the sessions of {FIRST}"
    assert not lets_in(platform, former)
    assert roles(platform) == {FIRST, SECOND}
    platform.leader.peers_changed()
    assert roles(platform) == {SECOND}


def test_a_password_that_a_session_has_set_ends_too(platform):
    rotate(platform)
    for _ in range(2):
        platform.leader.peers_changed()
    platform.server.roles[SECOND].password = "set by a session of the former user"
    platform.server.roles[SECOND].locked = True
    connect(platform)
    platform.settle()
    assert lets_in(platform, published(platform))
    assert not platform.server.roles[SECOND].locked
    assert connected(platform.leader) == {4}


def test_the_rotation_ends_when_every_unit_has_disconnected_the_clients(platform):
    follower = platform.followers[0]
    rotate(platform)
    connect(platform)
    follower.pooler.consoles.sessions.clear()
    follower.pooler.hung.add(1)
    platform.settle()
    assert platform.model.ledger.rotations[0].stage == "told"
    assert platform.model.plan.ended_logins
    assert "does not answer" not in str(platform.leader.peers_changed())
    asked = platform.server.asked
    platform.settle()
    assert platform.server.asked == asked, "PostgreSQL has nothing to do"
    follower.pooler.hung.clear()
    connect(platform)
    follower.peers_changed()
    assert connected(follower) == {4}
    platform.settle()
    assert platform.model.ledger.rotations[0].stage == "ended"


def test_a_unit_that_leaves_is_not_waited_for(platform):
    rotate(platform)
    platform.followers[0].pooler.hung.update({0, 1})
    platform.settle()
    assert platform.model.ledger.rotations[0].stage == "told"
    platform.remove_unit(platform.followers[0].name)
    platform.settle()
    assert platform.model.ledger.rotations[0].stage == "ended"


def test_an_order_of_the_operator_stays_beside_the_end_of_a_login(platform):
    rotate(platform)
    for _ in range(2):
        platform.leader.peers_changed()
    platform.leader.kill(KillOrder(database="blog"))
    connect(platform)
    platform.settle()
    assert [connected(unit) for unit in platform.followers] == [set()] * 2


def test_an_older_pgbouncer_leaves_the_clients_to_postgresql(platform):
    for unit in platform.units.values():
        unit.pooler.release = Version(1, 23)
        unit.pooler.lose_disk()
        unit.pebble_ready()
    platform.settle()
    rotate(platform)
    connect(platform)
    platform.settle()
    assert connected(platform.leader) == {1, 2, 3, 4}
    assert roles(platform) == {SECOND}
    assert platform.model.ledger.rotations[0].stage == "ended"


@pytest.mark.parametrize("name", [FIRST, SECOND])
def test_sessions_end_again_until_the_former_password_is_of_no_use(platform, name):
    former = published(platform)
    rotate(platform)
    for _ in range(2):
        platform.leader.peers_changed()
    if name == FIRST:
        platform.server.undying[FIRST] = platform.server.stuck = "locked"
    else:
        platform.server.refuses_passwords = "locked"
    platform.settle()
    assert platform.model.ledger.rotations[0].cut == 0
    platform.server.roles[SECOND].sessions = True
    platform.server.undying.clear()
    platform.server.refuses_passwords = platform.server.stuck = ""
    platform.leader.update_status()
    platform.settle()
    assert not platform.server.roles[SECOND].sessions
    assert platform.model.ledger.rotations[0].stage == "ended"
    assert not lets_in(platform, former)
    assert lets_in(platform, published(platform))


@pytest.mark.parametrize("seconds", [0, 3600])
def test_the_former_login_of_a_refused_client_keeps_no_password(monkeypatch, seconds):
    shown = [1_000_000.0]
    monkeypatch.setattr(time, "time", lambda: shown[0])
    platform = related()
    platform.relate("shop", "shop")
    platform.model.clients[1].roles = "createdb"
    platform.leader.config_changed()
    platform.settle()
    platform.leader.rotate_credentials("clients", "shop", seconds)
    for _ in range(20):
        if published(platform).username == SECOND:
            break
        platform.leader.update_status()
    platform.server.roles[SECOND].password = "set by a session of the former user"
    for _ in range(5):
        shown[0] += 3 * 3600
        for unit in [platform.leader, *platform.followers]:
            unit.update_status()
        platform.settle()
    assert published(platform).username == SECOND
    assert lets_in(platform, published(platform))


def test_every_unit_that_still_has_clients_of_a_rotation_is_named(platform):
    for unit in platform.followers:
        unit.pooler.hung.add(0)
    rotate(platform)
    platform.settle()
    units = "pgbouncer/1, pgbouncer/2"
    known = f"{units} did not report yet that its clients are disconnected"
    assert f"rotation of {FIRST}: {known}" in platform.leader.show()["operations"]
