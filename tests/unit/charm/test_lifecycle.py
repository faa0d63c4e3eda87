"""start, pebble-ready, config-changed, update-status and leader-elected under real ops."""

import dataclasses

import pytest
from on_juju import V0

BLOCKED = "blocked missing relation: backend-database"


@pytest.mark.flow("start/1")
def test_start_waits_for_a_container(make):
    juju = make(container=False)
    juju.emit(juju.context.on.start())
    assert juju.deferred == ["start"]
    assert juju.plan() is None


@pytest.mark.flow("start/2")
@pytest.mark.parametrize("leader", [True, False])
def test_start_renders_the_shared_plan(make, deployed, leader):
    juju, plan = make(leader=leader), deployed.shared["plan"]
    peers = dataclasses.replace(juju.relation("pgb-peers"), local_app_data={"plan": plan})
    juju.with_relation(peers)
    juju.emit(juju.context.on.start())
    assert juju.deferred == []
    assert juju.setting("listen_port") == "6432"
    assert juju.setting("unix_socket_dir", process=1) == "/charm/container/sockets/1"


@pytest.mark.flow("start/2")
def test_start_brings_relations_up_to_date(related):
    shop = related.client("shop-app", {"database": "shop", **V0})
    before = related.told(shop)
    stale = dataclasses.replace(
        related.relation(shop),
        local_app_data={**related.relation(shop).local_app_data, "endpoints": "old:1"},
    )
    related.with_relation(stale)
    related.emit(related.context.on.start())
    assert related.told(shop) == before


@pytest.mark.flow("start/3")
def test_a_follower_waits_for_the_leaders_configuration(make):
    juju = make(leader=False)
    juju.emit(juju.context.on.start())
    assert juju.deferred == ["start"]
    assert juju.ini() == ""


@pytest.mark.flow("start/4")
def test_the_leader_generates_and_shares_the_first_configuration(juju):
    juju.emit(juju.context.on.start())
    assert juju.deferred == []
    assert juju.plan()["settings"]["pool_mode"] == "session"
    assert juju.services == {"pgbouncer-0": "active", "pgbouncer-1": "active"}
    assert juju.status == BLOCKED


@pytest.mark.flow("ready/1")
def test_pebble_ready_waits_for_a_configuration(juju):
    juju.emit(juju.context.on.pebble_ready(juju.container))
    assert juju.deferred == ["pgbouncer_pebble_ready"]
    assert juju.services == {}


@pytest.mark.flow("ready/2")
def test_pebble_ready_runs_pgbouncer_and_tells_its_version(related):
    related.renewed()
    related.emit(related.context.on.pebble_ready(related.container))
    assert related.services == {"pgbouncer-0": "active", "pgbouncer-1": "active"}
    assert related.state.workload_version == related.workload.version
    assert related.status == "active"


@pytest.mark.flow("config/1")
def test_a_follower_reads_no_options(make):
    juju = make(leader=False)
    before = juju.state
    juju.options(pool_mode="chaos")
    assert (juju.deferred, juju.mine) == ([], before.get_relation(1).local_unit_data)
    assert "option" not in juju.status


@pytest.mark.flow("config/2")
def test_options_wait_for_a_configuration(juju):
    juju.options(pool_mode="transaction")
    assert juju.deferred == ["config_changed"]
    assert juju.plan() is None


@pytest.mark.flow("config/3")
def test_options_are_shared_rendered_and_told(related):
    shop = related.client("shop-app", {"database": "shop", **V0})
    related.options(listen_port=7000, pool_mode="transaction", max_db_connections=10)
    assert related.plan()["settings"]["pool_mode"] == "transaction"
    assert related.setting("pool_mode") == "transaction"
    assert related.told(shop)["endpoints"] == "pgbouncer-k8s-service.dev.svc.cluster.local:7000"
    assert ":7000/shop" in related.told(shop)["uris"]
    assert related.kubernetes.ports == (7000, 6432)
    related.reminded()
    assert related.kubernetes.ports == (7000,)
    related.reminded()
    running = {name for name, status in related.services.items() if status == "active"}
    assert running == {"pgbouncer-16", "pgbouncer-17"}
    assert related.setting("listen_port", process=16) == "7000"
    assert [related.setting("max_db_connections", process=n) for n in (16, 17)] == ["5", "5"]


@pytest.mark.flow("config/4")
@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"pool_mode": "chaos"},
            "option pool_mode must be session, transaction or statement, not 'chaos'",
        ),
        (
            {"listen_port": 80},
            "option listen_port must be a whole number from 1024 to 65535, not '80'",
        ),
        ({"max_db_connections": -1}, "option max_db_connections must be a whole number from 0"),
    ],
)
def test_an_invalid_option_is_named_and_changes_nothing(related, options, sentence):
    before = (related.ini(), related.shared)
    related.options(**options)
    assert related.status.startswith(f"blocked {sentence}")
    assert (related.ini(), related.shared) == before
    related.options()
    related.change(config={})
    related.emit(related.context.on.config_changed())
    assert related.status == "active"


@pytest.mark.flow("update/1")
def test_update_status_is_blocked_without_a_backend(deployed):
    deployed.emit(deployed.context.on.update_status())
    assert deployed.status == BLOCKED
    assert deployed.shared["leader"] == "10.0.0.0"


@pytest.mark.flow("update/1")
def test_update_status_notices_a_silent_postgresql_and_its_return(related, network):
    network.answers, related.server.down = False, "PostgreSQL at 10.1.0.1:5432 does not answer: x"
    related.emit(related.context.on.update_status())
    assert related.status == "blocked PostgreSQL at 10.1.0.1:5432 does not answer: x"
    network.answers, related.server.down = True, ""
    related.emit(related.context.on.update_status())
    assert related.status == "active"


@pytest.mark.flow("update/2")
def test_update_status_is_active_and_refreshes(related):
    shop = related.client("shop-app", {"database": "shop", **V0})
    before = related.told(shop)
    stale = dataclasses.replace(
        related.relation(shop),
        local_app_data={**related.relation(shop).local_app_data, "version": "1"},
    )
    related.with_relation(stale)
    peers = related.relation("pgb-peers")
    related.with_relation(
        dataclasses.replace(peers, local_app_data=peers.local_app_data | {"leader": ""})
    )
    related.emit(related.context.on.update_status())
    assert (related.told(shop), related.shared["leader"]) == (before, "10.0.0.0")
    assert related.status == "active"


@pytest.mark.flow("update/3")
def test_update_status_waits_for_a_pgbouncer_that_does_not_run(related):
    related.dies(1)
    related.emit(related.context.on.update_status())
    assert related.status == "waiting waiting for PgBouncer to run"


@pytest.mark.flow("leader/1")
def test_a_new_leader_takes_over_from_the_old_leader(related):
    shop = related.client("shop-app", {"database": "shop", **V0})
    before = related.told(shop)
    related.server.roles.clear()
    peers = related.relation("pgb-peers")
    related.with_relation(
        dataclasses.replace(peers, local_app_data=peers.local_app_data | {"leader": "gone"})
    )
    related.emit(related.context.on.leader_elected())
    assert related.shared["leader"] == "10.0.0.0"
    assert related.server.roles[before["username"]].password == before["password"]
    assert related.told(shop) == before


@pytest.mark.flow("leader/2")
def test_a_departing_leader_says_so_in_every_relation_and_writes_no_more(make):
    juju = make(others=(1,)).deploy().backend()
    shop = juju.client("shop-app", {"database": "shop", **V0})
    juju.departs("pgbouncer-k8s/0")
    for relation in juju.state.relations:
        assert relation.local_unit_data["departing"] == "true"
    shared, told = juju.shared, juju.told(shop)
    juju.options(pool_mode="transaction")
    juju.emit(juju.context.on.leader_elected())
    assert (juju.shared, juju.told(shop)) == (shared, told)


def test_an_old_pgbouncer_is_refused_with_a_sentence(make):
    juju = make(version="1.20.1").deploy().backend()
    assert juju.ini() == ""
    assert juju.status == "blocked PgBouncer 1.20.1 is too old: 1.21 or later is needed"


def test_an_upgraded_charm_renders_what_changed(related):
    related.record.unlink()
    (related.disk / "0" / "pgbouncer.ini").write_text("old")
    related.emit(related.context.on.upgrade_charm())
    assert related.setting("listen_port") == "6432"
    assert related.status == "active"


def test_what_another_charm_kept_among_the_peers_is_no_obstacle(related):
    peers = related.relation("pgb-peers")
    odd = {"plan": "", "ledger": "", "pgb_dbs_config": "{}"}
    related.with_relation(dataclasses.replace(peers, local_app_data=peers.local_app_data | odd))
    related.emit(related.context.on.update_status())
    assert related.plan()["settings"]["listen_port"] == 6432
    assert related.status == "active"
