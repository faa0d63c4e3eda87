"""The peer relation under real ops."""

import dataclasses
import json

import pytest
from on_juju import APP, SHOP


@pytest.mark.flow("peers/1", "peers/2")
@pytest.mark.parametrize(
    ("leader", "deferred"), [(True, ["pgb_peers_relation_created"]), (False, [])]
)
def test_a_created_unit_says_where_it_is_and_a_leader_waits_to_share(make, leader, deferred):
    juju = make(leader=leader)
    juju.emit(juju.context.on.relation_created(juju.relation("pgb-peers")))
    assert juju.mine["address"] == "10.0.0.0"
    assert juju.deferred == deferred
    assert juju.plan() is None


@pytest.mark.flow("peers/3")
def test_without_a_backend_the_configuration_is_shared_alone(deployed):
    deployed.leader_writes("pgb-peers", plan="")
    deployed.emit(deployed.context.on.relation_created(deployed.relation("pgb-peers")))
    assert deployed.plan()["upstream"] is None
    assert list(deployed.state.secrets) == []


@pytest.mark.flow("peers/4")
def test_with_a_backend_the_auth_material_is_in_a_secret_and_nowhere_else(related):
    related.leader_writes("pgb-peers", plan="")
    related.emit(related.context.on.relation_created(related.relation("pgb-peers")))
    assert related.plan()["upstream"]["auth_user"] == "pgbouncer_auth_relation_id_7"
    secret = related.secret(f"pgb-peers.{APP}.app")
    assert secret["auth-user"] == "pgbouncer_auth_relation_id_7"
    assert secret["auth-password"] not in json.dumps(related.shared)


@pytest.mark.flow("peers/5")
def test_the_leader_hears_of_a_new_unit_and_shares_anew(related):
    shop = related.client("shop-app", SHOP)
    before = related.told(shop)
    related.leader_writes("pgb-peers", leader="gone")
    related.leader_writes(shop, endpoints="old:1")
    related.peer_writes(1, address="10.0.0.1")
    assert related.shared["leader"] == "10.0.0.0"
    assert [member["name"] for member in related.plan()["members"]] == [f"{APP}/0", f"{APP}/1"]
    assert related.setting("max_db_connections") == "25"
    related.peer_writes(1, serving='{"port":6432,"databases":["shop"]}')
    assert related.told(shop) == before


@pytest.mark.flow("peers/6")
def test_a_follower_applies_the_shared_plan_and_reloads_only_for_a_change(make):
    leader, follower = make(others=(1,)).deploy().backend(), make(leader=False, others=(1,))
    leader.client("shop-app", SHOP)
    auth = leader.state.get_secret(label=f"pgb-peers.{APP}.app")
    follower.change(secrets={dataclasses.replace(auth, owner="app")})
    follower.backend(granted=False)
    follower.leader_writes(
        "pgb-peers", **{key: leader.shared[key] for key in ("plan", "ledger", "leader")}
    )
    follower.changed("pgb-peers")
    assert follower.databases() == ["pgbouncer_auth", "shop"]
    assert json.loads(follower.mine["serving"])["databases"] == ["shop"]
    stamp = (follower.disk / "0" / "pgbouncer.ini").stat().st_mtime_ns
    follower.changed("pgb-peers")
    assert (follower.disk / "0" / "pgbouncer.ini").stat().st_mtime_ns == stamp


@pytest.mark.flow("peers/7")
def test_a_follower_does_nothing_while_nothing_is_shared(make):
    juju = make(leader=False, others=(1,))
    juju.changed("pgb-peers")
    assert (juju.ini(), juju.deferred) == ("", [])


@pytest.mark.flow("peers/8")
def test_staying_units_get_the_connections_of_a_departed_unit(make):
    juju = make(others=(1, 2)).deploy().backend()
    assert juju.setting("max_db_connections") == "17"
    peers = juju.relation("pgb-peers")
    juju.with_relation(dataclasses.replace(peers, peers_data={1: peers.peers_data[1]}))
    juju.departs(f"{APP}/2")
    juju.reminded()
    assert juju.setting("max_db_connections") == "25"
    assert [member["name"] for member in juju.plan()["members"]] == [f"{APP}/0", f"{APP}/1"]


@pytest.mark.parametrize(
    ("announced", "afterwards"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("192.0.2.7", "10.0.0.0"),
        ("2001:db8::7", "10.0.0.0"),
        ("localhost", "10.0.0.0"),
        ("127.0.0.1.", "10.0.0.0"),
        ("", "10.0.0.0"),
    ],
)
def test_an_address_is_kept_while_an_interface_has_it(related, announced, afterwards):
    peers = related.relation("pgb-peers")
    databag = {**peers.local_unit_data, "address": announced}
    related.with_relation(dataclasses.replace(peers, local_unit_data=databag))
    related.emit(related.context.on.update_status())
    assert related.relation("pgb-peers").local_unit_data["address"] == afterwards
