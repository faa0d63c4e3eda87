"""Whichever event Juju delivers, and however often, the end is the same."""

import contextlib
import dataclasses
import itertools
import re

import pytest
from on_juju import TOLD, V0, Juju
from ops import testing


def settled(juju):
    pass


def new_options(juju):
    juju.change(config={"pool_mode": "transaction", "listen_port": 7000, "max_db_connections": 7})


def invalid_options(juju):
    juju.change(config={"pool_mode": "chaos"})


def new_client(juju):
    juju.client("blog-app", {"database": "blog", **V0}, hook=False)


def unusable_client(juju):
    juju.client("bad-app", {"database": "postgres"}, hook=False)


def gone_client(juju):
    juju.without(11)


def forgotten_client(juju):
    """The hook that told it died, and Juju kept nothing of it."""
    relation = dataclasses.replace(juju.relation(11), local_app_data={})
    juju.with_relation(relation)
    juju.change(secrets={one for one in juju.state.secrets if ".11." not in (one.label or "")})


def another_leader(juju):
    peers = juju.relation("pgb-peers")
    stale = peers.local_app_data | {"leader": "10.9.9.9"}
    juju.with_relation(dataclasses.replace(peers, local_app_data=stale))


def moved_backend(juju):
    moved = TOLD | {"endpoints": "10.1.0.9:5433", "read-only-endpoints": "10.1.0.8:5433"}
    relation = dataclasses.replace(juju.relation("backend-database"), remote_app_data=moved)
    juju.with_relation(relation)


def backend_gone(juju):
    juju.without(2)


def lost_disk(juju):
    juju.renewed()


def fewer_units(juju):
    peers = juju.relation("pgb-peers")
    gone = {one: data for one, data in peers.peers_data.items() if one != 2}
    juju.with_relation(dataclasses.replace(peers, peers_data=gone))


STATES = [
    settled, new_options, invalid_options, new_client, unusable_client, gone_client, forgotten_client,
    another_leader, moved_backend, backend_gone, lost_disk, fewer_units,
]  # fmt: skip


def possible(events):
    """Every state with every event; Juju has none about a relation that is not there."""
    # Each state once, and each event.
    fair = {(state, events[number % len(events)]) for number, state in enumerate(STATES, 2)}
    return [
        pytest.param(
            state,
            event,
            id=f"{state.__name__}-{event}",
            marks=() if (state, event) in fair else pytest.mark.seldom,
        )
        for state in STATES
        for event in events
        if (state, event) != (backend_gone, "backend-changed")
    ]


EVENTS = {
    "start": lambda juju, on: on.start(),
    "upgrade-charm": lambda juju, on: on.upgrade_charm(),
    "pebble-ready": lambda juju, on: on.pebble_ready(juju.container),
    "config-changed": lambda juju, on: on.config_changed(),
    "update-status": lambda juju, on: on.update_status(),
    "leader-elected": lambda juju, on: on.leader_elected(),
    "peers-changed": lambda juju, on: on.relation_changed(
        juju.relation("pgb-peers"), remote_unit=1
    ),
    "peers-departed": lambda juju, on: on.relation_departed(
        juju.relation("pgb-peers"), remote_unit=2, departing_unit=2
    ),
    "client-changed": lambda juju, on: on.relation_changed(juju.relation(12), remote_unit=0),
    "client-departed": lambda juju, on: on.relation_departed(juju.relation(12), remote_unit=0),
    "backend-changed": lambda juju, on: on.relation_changed(
        juju.relation("backend-database"), remote_unit=0
    ),
    "secret-changed": lambda juju, on: on.secret_changed(
        testing.Secret({"a": "b"}, id="secret:other", owner=None)
    ),
}


@pytest.fixture(scope="module")
def begin(tmp_path_factory):
    """A leader among three units with two clients."""
    with contextlib.closing(
        Juju(tmp_path_factory.mktemp("begin") / "juju", others=(1, 2)).deploy().backend()
    ) as juju:
        juju.client("shop-app", {"database": "shop", **V0})
        juju.client("wiki-app", {"database": "wiki", **V0})
        yield juju


@pytest.fixture
def in_state(begin, tmp_path):
    """The same, with something left to do."""
    numbers = itertools.count()
    with contextlib.ExitStack() as made:

        def copied(state) -> Juju:
            copy = begin.copy(tmp_path / str(next(numbers)))
            juju = made.enter_context(contextlib.closing(copy))
            state(juju)
            return juju

        yield copied


def run(juju, name):
    event = EVENTS[name](juju, juju.context.on)
    secrets = set(juju.state.secrets)
    if name == "secret-changed":
        secrets.add(event.secret)
    juju.emit(event, secrets=secrets)


def end_of(juju):
    """All that others can see; passwords made anew are not the same ones."""
    secrets = {
        one.label: sorted(one.latest_content or one.tracked_content)
        for one in juju.state.secrets
        if one.owner
    }
    relations = {
        one.id: (
            {
                key: "…" if key.startswith("secret-") else text
                for key, text in one.local_app_data.items()
            },
            one.local_unit_data,
        )
        for one in juju.state.relations
    }
    files = {
        str(file.relative_to(juju.disk)): re.sub(r'" ".*"', "…", file.read_text())
        for file in juju.disk.rglob("*")
        if file.is_file() and file.name != "applied.json"
    }
    return {
        "relations": relations,
        "secrets": secrets,
        "files": files,
        "services": juju.services,
        "status": juju.status,
        "roles": {name: role.groups for name, role in juju.server.roles.items()},
        "ports": juju.kubernetes.ports,
    }


@pytest.mark.parametrize(
    ("state", "event"), possible([name for name in EVENTS if name != "update-status"])
)
def test_every_event_ends_in_the_same_place(in_state, state, event):
    one, other = in_state(state), in_state(state)
    run(one, event)
    run(other, "update-status")
    assert end_of(one) == end_of(other)


def traces(juju):
    """All that Juju, the container and PostgreSQL keep, to the byte and the moment of writing."""
    files = {str(one): one.stat().st_mtime_ns for one in juju.disk.rglob("*")}
    roles = repr(juju.server.roles)
    container = juju.container, juju.workload.changes()
    return juju.state.relations, juju.state.secrets, container, juju.status, files, roles


@pytest.mark.parametrize(("state", "event"), possible([*EVENTS]))
def test_a_second_run_changes_nothing(in_state, state, event):
    juju = in_state(state)
    run(juju, event)
    if state in (new_options, fewer_units):
        # What others had is handed out after this hook.
        juju.reminded()
    before = traces(juju)
    run(juju, event)
    assert traces(juju) == before
