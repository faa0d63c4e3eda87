"""A unit beside units of another release applies what it can read, and leaves the rest as it is."""

import dataclasses
import json

import pytest
from charm_states import EVENTS, SETTLED, run, settled
from on_juju import APP, V0

UNREADABLE = json.dumps({"colour": "red"})
ADVICE = (
    "was written by another release and this release cannot read it: refresh all units to the same release"
    f" with `juju refresh {APP}`; until then this unit keeps what it serves"
)


def with_shared(juju, **texts):
    peers = juju.relation("pgb-peers")
    juju.with_relation(dataclasses.replace(peers, local_app_data=peers.local_app_data | texts))


def with_later_keys(juju, name):
    """Write a field of the peer databag as a later release does; return its value."""
    value = json.loads(juju.shared[name])
    value["from-later"] = {"a": 1}
    with_shared(juju, **{name: json.dumps(value)})
    return value


def written(juju):
    """Return what a leader writes for the application, and what it makes outside of Juju."""
    told = {
        item.id: item.local_app_data
        for item in juju.state.relations
        if item.endpoint != "pgb-peers"
    }
    secrets = {item.label: item.latest_content for item in juju.state.secrets if item.owner}
    return juju.shared, told, secrets, juju.server.roles, juju.kubernetes.ports


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("name", ["plan", "ledger"])
def test_a_leader_that_cannot_read_writes_nothing_for_the_application(in_state, name, event):
    juju = in_state(settled)
    with_shared(juju, **{name: UNREADABLE})
    juju.change(config={"pool_mode": "transaction"})
    before, served = written(juju), juju.ini()
    run(juju, event)
    assert written(juju) == before
    assert juju.ini() == served
    if event not in ("config-changed", "client-changed"):
        assert f"blocked the {name} in the peer databag {ADVICE}" == juju.status


@pytest.mark.parametrize("name", ["plan", "ledger"])
def test_a_leader_that_cannot_read_keeps_the_users_at_the_end_of_a_relation(in_state, name):
    juju = in_state(settled)
    with_shared(juju, **{name: UNREADABLE})
    roles = dict(juju.server.roles)
    juju.ends(11)
    juju.ends(2)
    assert juju.server.roles == roles


@pytest.mark.parametrize("event", EVENTS)
def test_a_follower_with_an_unreadable_plan_keeps_what_it_serves(in_state, event):
    juju = in_state(settled)
    juju.change(leader=False)
    with_shared(juju, plan=UNREADABLE)
    served, said = juju.ini(), dict(juju.mine)
    run(juju, event)
    assert (juju.ini(), juju.mine) == (served, said)
    assert set(juju.services.values()) == {"active"}


def test_a_follower_names_a_field_that_it_cannot_read_without_its_content(in_state):
    juju = in_state(settled)
    juju.change(leader=False)
    with_shared(juju, plan=UNREADABLE)
    run(juju, "update-status")
    assert juju.status == f"blocked the plan in the peer databag {ADVICE}"
    lines = [line.message for line in juju.context.juju_log]
    assert "What the peers keep under plan is not readable for this release" in lines
    assert not any("colour" in line for line in lines)


def test_a_follower_whose_secret_is_unreadable_keeps_what_it_serves(in_state):
    juju = in_state(settled)
    juju.change(leader=False)
    label = f"pgb-peers.{APP}.app"
    ours = next(item for item in juju.state.secrets if item.label == label)
    spoiled = dataclasses.replace(
        ours, tracked_content={"auth-user": "x"}, latest_content={"auth-user": "x"}
    )
    juju.change(secrets={spoiled, *(item for item in juju.state.secrets if item.label != label)})
    served, users = juju.ini(), (juju.disk / "userlist.txt").read_text()
    run(juju, "peers-changed")
    assert (juju.ini(), (juju.disk / "userlist.txt").read_text()) == (served, users)
    assert juju.status == f"blocked the secret of PgBouncer's own users {ADVICE}"


def test_a_new_pod_with_an_unreadable_plan_waits_and_then_serves(in_state):
    juju = in_state(settled)
    juju.change(leader=False)
    plan = juju.shared["plan"]
    with_shared(juju, plan=UNREADABLE)
    juju.renewed()
    for event in ("upgrade-charm", "config-changed", "start", "pebble-ready"):
        run(juju, event)
    assert juju.ini() == ""
    assert juju.status.startswith("blocked the plan in the peer databag")
    with_shared(juju, plan=plan)
    run(juju, "peers-changed")
    assert "shop" in juju.databases()
    assert juju.status == SETTLED


@pytest.mark.parametrize("part", [True, False], ids=["leader", "follower"])
def test_keys_of_a_later_release_change_nothing_and_stay(in_state, part):
    juju = in_state(settled)
    juju.change(leader=part)
    plan, ledger = with_later_keys(juju, "plan"), with_later_keys(juju, "ledger")
    served = juju.ini()
    for event in EVENTS:
        run(juju, event)
    assert json.loads(juju.shared["plan"]) == plan
    assert json.loads(juju.shared["ledger"]) == ledger
    assert juju.ini() == served
    assert juju.status == SETTLED


def test_an_older_leader_changes_the_plan_and_keeps_later_keys(in_state):
    juju = in_state(settled)
    plan = with_later_keys(juju, "plan")
    juju.options(pool_mode="transaction")
    after = json.loads(juju.shared["plan"])
    assert after["settings"]["pool_mode"] == "transaction"
    assert after["from-later"] == plan["from-later"]


def test_an_older_leader_understands_what_units_of_a_later_release_say(in_state):
    juju = in_state(settled)
    peers = juju.relation("pgb-peers")
    said = {
        "address": "10.0.0.1",
        "serving": '{"port": 6432, "databases": ["shop", "blog"], "from-later": 1}',
        "stake": '{"share": 33, "held": 33, "from-later": []}',
    }
    juju.with_relation(dataclasses.replace(peers, peers_data=peers.peers_data | {1: said}))
    blog = juju.client("blog-app", {"database": "blog", **V0})
    assert juju.told(blog)["database"] == "blog"


def test_what_a_later_release_remembered_beside_the_files_is_read(in_state):
    juju = in_state(settled)
    record = json.loads(juju.record.read_text())
    applied = json.dumps(json.loads(record["applied"]) | {"from-later": 1})
    juju.record.write_text(json.dumps(record | {"applied": applied, "from-later": 1}))
    before = juju.workload.changes()
    run(juju, "update-status")
    assert juju.workload.changes() == before
    assert juju.status == SETTLED
