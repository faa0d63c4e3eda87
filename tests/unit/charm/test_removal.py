"""The leader is removed: the end of its own relations ends nothing for other units."""

import itertools
from functools import partial

import pytest
from charm_states import run, settled
from crash_charm import effects

# What else Juju can deliver to a unit that is being removed.
MEANWHILE = ("update-status", "pebble-ready", "config-changed", "leader-elected", "peers-changed")


@pytest.fixture
def leader(in_state):
    """Return copies of the leader of three units with two clients, which is being removed."""

    def copied(*, last=False):
        juju = in_state(settled)
        juju.is_removed(last=last)
        return juju

    return copied


def kept(juju):
    """Return what units share, what clients were told, and what PostgreSQL has."""
    secrets = {item.label: item.latest_content for item in juju.state.secrets if item.owner}
    return (
        dict(juju.shared),
        secrets,
        juju.server.roles,
        juju.server.functions,
        juju.kubernetes.ports,
    )


def told(juju):
    return {
        item.id: dict(item.local_app_data)
        for item in juju.state.relations
        if item.endpoint == "database"
    }


def in_turns(removal, order):
    """Yield the hooks of all relations, in turn by this order of relations."""
    left = {number: list(removal[number]) for number in order}
    while any(left.values()):
        for number in order:
            if left[number]:
                yield left[number].pop(0)


def one_by_one(removal, order):
    for number in order:
        yield from removal[number]


def orders():
    relations = ("pgb-peers", "backend-database", 11, 12)
    rotated = [relations[n:] + relations[:n] for n in range(4)]
    return [*rotated, *(tuple(reversed(item)) for item in rotated)]


def ids(juju, order):
    return [juju.relation(name).id for name in order]


@pytest.mark.flow("leader/2", "backend/6", "backend/7", "backend/9", "clients/5", "clients/6")
@pytest.mark.parametrize("mixed", [one_by_one, pytest.param(in_turns, marks=pytest.mark.long)])
@pytest.mark.parametrize("order", orders(), ids=lambda item: "-".join(map(str, item)))
def test_a_leader_that_is_removed_takes_nothing_away(leader, order, mixed):
    juju = leader()
    before, clients = kept(juju), told(juju)
    could = juju.ini()
    for hook in mixed(juju.removal(), ids(juju, order)):
        juju.last_hook(hook)
        assert kept(juju) == before
        assert told(juju).items() <= clients.items()
        for name in MEANWHILE:
            run(juju, name)
        assert kept(juju) == before
        assert juju.ini() == could
    assert juju.mine["departing"] == "true"


@pytest.mark.parametrize("first", ["backend-database", 11])
def test_a_leader_asks_juju_before_it_acts_on_a_relation_that_broke(leader, first):
    """A relation without remote units breaks before a departed hook tells the unit that it leaves."""
    juju = leader()
    before = kept(juju)
    *_, breaks = juju.removal()[juju.relation(first).id]
    juju.last_hook(breaks)
    assert kept(juju) == before
    run(juju, "update-status")
    run(juju, "config-changed")
    assert kept(juju) == before


def test_an_event_that_was_deferred_takes_nothing_away_in_a_departed_hook(leader):
    juju = leader()
    # This event waits for PostgreSQL, and runs again at the beginning of every hook.
    juju.server.refuses = "PostgreSQL says no"
    juju.backend_changed()
    assert juju.deferred == ["backend_database_relation_changed"]
    juju.server.refuses = ""
    before = kept(juju)[1:]
    departed, *_ = juju.removal()[2]
    juju.last_hook(departed)
    assert kept(juju)[1:] == before


@pytest.mark.flow("backend/6")
@pytest.mark.long
@pytest.mark.parametrize("killed", range(3))
def test_a_leader_that_is_killed_while_it_is_removed_takes_nothing_away(leader, killed):
    first = leader()
    names = [item.id for item in first.state.relations]
    before = kept(first)
    for turn in range(len(list(in_turns(first.removal(), names)))):
        juju = leader()
        for number, hook in enumerate(in_turns(juju.removal(), names)):
            if number != turn:
                juju.last_hook(hook)
                continue
            environment, event = hook()
            with environment:
                had = effects(juju, partial(juju.emit, event), killed + 1)
                assert len(had) <= killed + 1
                assert kept(juju) == before
                juju.emit(event)
            if event.path.endswith("_relation_broken"):
                juju.without(event.relation.id)
            assert kept(juju) == before


@pytest.mark.flow("backend/8")
@pytest.mark.parametrize("order", orders(), ids=lambda item: "-".join(map(str, item)))
def test_the_leader_removes_its_roles_where_no_unit_stays(leader, order):
    juju = leader(last=True)
    data = set(juju.server.databases)
    for hook in in_turns(juju.removal(), ids(juju, order)):
        juju.last_hook(hook)
    assert (juju.server.roles, juju.server.functions) == ({}, set())
    assert juju.server.databases == data


def test_a_follower_that_is_removed_leaves_all_to_the_leader(leader):
    juju = leader(last=True)
    juju.change(leader=False)
    before = kept(juju)
    for hook in itertools.chain(*juju.removal().values()):
        juju.last_hook(hook)
    assert kept(juju) == before
