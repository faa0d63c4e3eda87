"""States of a leader of three units with three clients, the events that Juju can deliver then, and their end."""

import dataclasses
import re

import pytest
from on_juju import TOLD, V0
from ops import testing

# The status with nothing left to do.
SETTLED = (
    "active shop-app (relation 13) uses db, which is deprecated: relate it to database if it can"
)


def settled(juju):
    pass


def new_options(juju):
    juju.change(config={"pool_mode": "transaction", "listen_port": 7000, "max_db_connections": 7})


def newly_exposed(juju):
    juju.kubernetes.ingress = ("203.0.113.5",)
    juju.change(config={"expose-external": "loadbalancer", "listen_port": 7000})


def invalid_options(juju):
    juju.change(config={"pool_mode": "chaos"})


def new_client(juju):
    juju.client("blog-app", {"database": "blog", **V0}, hook=False)


def unusable_client(juju):
    juju.client("bad-app", {"database": "postgres"}, hook=False)


def new_old_client(juju):
    juju.client("blog-app", {"database": "blog"}, endpoint="db-admin", hook=False)


def gone_client(juju):
    juju.without(11)


def gone_old_client(juju):
    juju.without(13)


def forgotten_client(juju):
    """The hook that published to a client was killed, and Juju reverted its writes."""
    relation = dataclasses.replace(juju.relation(11), local_app_data={})
    juju.with_relation(relation)
    juju.change(secrets={s for s in juju.state.secrets if ".11." not in (s.label or "")})


def forgotten_old_client(juju):
    """The hook that published to a client at `db` was killed, and Juju reverted its writes."""
    relation = dataclasses.replace(juju.relation(13), local_app_data={}, local_unit_data={})
    juju.with_relation(relation)
    juju.change(secrets={s for s in juju.state.secrets if ".13." not in (s.label or "")})
    peers = juju.relation("pgb-peers")
    shared = {key: text for key, text in peers.local_app_data.items() if key != "legacy"}
    juju.with_relation(dataclasses.replace(peers, local_app_data=shared))


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
    gone = {number: data for number, data in peers.peers_data.items() if number != 2}
    juju.with_relation(dataclasses.replace(peers, peers_data=gone))


STATES = [
    settled, new_options, invalid_options, new_client, unusable_client, gone_client, forgotten_client,
    another_leader, moved_backend, backend_gone, lost_disk, fewer_units, new_old_client, gone_old_client,
    forgotten_old_client, newly_exposed,
]  # fmt: skip


# The relation of the event is not there.
IMPOSSIBLE = {
    (backend_gone, "backend-changed"),
    (gone_old_client, "old-client-changed"),
    (gone_old_client, "old-client-departed"),
}


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
        if (state, event) not in IMPOSSIBLE
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
    "old-client-changed": lambda juju, on: on.relation_changed(juju.relation(13), remote_unit=0),
    "old-client-departed": lambda juju, on: on.relation_departed(juju.relation(13), remote_unit=0),
    "backend-changed": lambda juju, on: on.relation_changed(
        juju.relation("backend-database"), remote_unit=0
    ),
    "secret-changed": lambda juju, on: on.secret_changed(
        testing.Secret({"a": "b"}, id="secret:other", owner=None)
    ),
}


def run(juju, name):
    event = EVENTS[name](juju, juju.context.on)
    secrets = set(juju.state.secrets)
    if name == "secret-changed":
        secrets.add(event.secret)
    juju.emit(event, secrets=secrets)


# A password, and an id of a secret, as a databag has them.
_NEW_EACH_TIME = re.compile(r"password=\w+|secret:\w+|^\w{24}$")


def end_of(juju):
    """All that others can see; passwords made anew are not the same ones."""
    secrets = {
        secret.label: sorted(secret.latest_content or secret.tracked_content)
        for secret in juju.state.secrets
        if secret.owner
    }
    relations = {
        relation.id: (
            *(
                {key: _NEW_EACH_TIME.sub("…", text) for key, text in databag.items()}
                for databag in (relation.local_app_data, relation.local_unit_data)
            ),
        )
        for relation in juju.state.relations
    }
    files = {
        str(file.relative_to(juju.disk)): re.sub(r'" ".*"', "…", file.read_text())
        for file in juju.disk.rglob("*")
        if file.is_file() and file.name != "pid"
    }
    return {
        "relations": relations,
        "secrets": secrets,
        "files": files,
        "services": juju.services,
        "status": juju.status,
        "roles": {name: role.groups for name, role in juju.server.roles.items()},
        "kubernetes": juju.kubernetes.services,
    }
