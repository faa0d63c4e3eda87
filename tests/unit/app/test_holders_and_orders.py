"""Which client keeps a pause from being complete, and which clients and connections an order reaches."""

import pytest
from operated import session, three_units

from app.outcome import AskAgain, Done
from domain.capabilities import Version
from domain.operations import ALL, KillOrder
from domain.status import assess


@pytest.fixture
def platform():
    return three_units()


def paused_with(platform, *sessions, process=0):
    """Pause all databases while a process of the leader has these sessions; return the client waited for."""
    consoles = platform.leader.pooler.consoles
    consoles.busy[process], consoles.sessions[process] = 1, list(sessions)
    platform.leader.pause(ALL, 20)
    return platform.leader.read().operations.holder


def said(platform):
    """Return the status of the leader after a hook."""
    platform.leader.peers_changed()
    return "; ".join(sentence.text for sentence in assess(platform.leader.read()))


def left(unit, process=0):
    """Return the numbers of the clients that a process still has."""
    return {client.number for client in unit.pooler.consoles.sessions[process]}


def test_a_pause_waits_for_the_client_whose_request_began_first(platform):
    late = session(1, linked=True, since=900)
    early = session(2, linked=True, since=100, address="10.9.9.9:2")
    holder = paused_with(platform, late, early)
    assert (holder.address, holder.since) == ("10.9.9.9:2", 100)


@pytest.mark.parametrize("other", [{}, {"alias": "elsewhere", "linked": True}])
def test_a_pause_waits_for_no_client_without_a_transaction(platform, other):
    """PgBouncer shows the transaction of a server connection, which no client has."""
    assert paused_with(platform, session(1, **other)) is None
    platform.leader.pooler.now += 21
    assert "the pause of all databases was taken back" in said(platform)
    assert "client 10.9.9.9" not in said(platform)


def test_the_status_names_the_process_of_the_client_that_holds_a_pause(platform):
    assert paused_with(platform, session(1, linked=True), process=1).process == 1
    platform.leader.pooler.now += 21
    assert "keeps a server connection of process 1 of pgbouncer/0" in said(platform)


@pytest.mark.parametrize(("mode", "stay"), [("session", {2}), ("transaction", {1, 2})])
def test_a_client_with_a_server_connection_is_idle_in_session_mode_only(platform, mode, stay):
    platform.model.options = {"pool_mode": mode}
    platform.leader.config_changed()
    platform.settle()
    unit = platform.followers[0]
    since = int(unit.pooler.now) - 500
    unit.pooler.consoles.busy[0] = 1
    unit.pooler.consoles.sessions[0] = [
        session(1, linked=True, since=since),
        session(2, linked=True, busy=True, since=since),
    ]
    platform.leader.kill(KillOrder(idle=100))
    platform.settle()
    assert left(unit) == stay


@pytest.mark.parametrize(("release", "killed"), [(Version(1, 24), 1), (Version(1, 23, 1), 0)])
def test_the_first_release_that_disconnects_clients_is_1_24(platform, release, killed):
    unit = platform.followers[0]
    unit.pooler.release = release
    unit.pooler.lose_disk()
    unit.pebble_ready()
    unit.pooler.consoles.sessions[0] = [session(1)]
    platform.leader.kill(KillOrder(database="shop"))
    platform.settle()
    assert unit.read().operations.kills == 1
    assert unit.read().operations.killed == killed == 1 - len(left(unit))


def test_connections_that_were_not_replaced_are_replaced_later(platform):
    consoles = platform.leader.pooler.consoles
    consoles.silent = True
    assert isinstance(platform.leader.reconnect(), AskAgain)
    assert platform.leader.read().operations.reconnects == 0
    consoles.silent = False
    platform.settle()
    assert consoles.reconnected == {0, 1}
    assert platform.leader.read().operations.reconnects == 1


def test_a_hook_that_has_replaced_the_connections_asks_for_no_other(platform):
    assert isinstance(platform.leader.reconnect(), Done)
    assert platform.leader.pooler.consoles.reconnected == {0, 1}
