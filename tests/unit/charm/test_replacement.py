"""Units of this charm beside units of Canonical's charm, and after its last unit, under real ops."""

import dataclasses
import json

import pytest
from certified import pair_in
from replaced import (
    AUTH_USER,
    PASSWORD,
    all_follow,
    all_refreshed,
    recorded,
    refreshed,
    starts,
    with_tls,
)

SECOND = f"{AUTH_USER}_2"


def written(juju):
    """Return what a leader writes for the application."""
    told = {
        item.id: item.local_app_data for item in juju.state.relations if item.endpoint != "upgrade"
    }
    secrets = {item.label: item.latest_content for item in juju.state.secrets if item.owner}
    return told, secrets, dict(juju.server.roles), juju.kubernetes.ports


@pytest.mark.parametrize("leader", [False, True])
@pytest.mark.parametrize("revision", ["562", "01c411e"])
def test_a_refreshed_unit_serves_what_the_charm_before_serves(tmp_path, leader, revision):
    juju = refreshed(tmp_path, leader=leader, revision=revision)
    before = written(juju)
    starts(juju)
    assert juju.databases() == ["pgbouncer_auth", "blog", "shop"]
    assert juju.setting("auth_user") == AUTH_USER
    assert (
        juju.setting("auth_query") == f'SELECT username, password FROM "{AUTH_USER}".get_auth($1)'
    )
    assert juju.setting("listen_port") == "6432"
    line = recorded(revision)["application-secret"]["auth-file"].splitlines()[0]
    assert line in (juju.disk / "userlist.txt").read_text()
    assert juju.status.startswith(
        "active pgbouncer-k8s/1, pgbouncer-k8s/2 still run Canonical's charm"
    )
    # Nothing changes for the application, in PostgreSQL or in Kubernetes, whichever unit leads.
    assert written(juju) == before


def test_a_refreshed_unit_writes_the_digest_that_the_former_leader_awaits(tmp_path):
    juju = starts(refreshed(tmp_path))
    assert juju.mine["pgb_dbs"] == recorded()["peer-unit"]["pgb_dbs"]
    assert "container_initialised" not in juju.mine
    juju.leader_writes("pgb-peers", pgb_dbs_config='{"12": {"name": "blog", "legacy": false}}')
    juju.emit(juju.context.on.relation_changed(juju.relation("pgb-peers"), remote_unit=1))
    assert juju.databases() == ["pgbouncer_auth", "blog"]
    assert juju.mine["pgb_dbs"] != recorded()["peer-unit"]["pgb_dbs"]


@pytest.mark.parametrize(("checked", "state"), [(True, "completed"), (False, "idle")])
def test_a_refreshed_unit_is_completed_after_a_pre_upgrade_check(tmp_path, checked, state):
    bags = {"upgrade_application": recorded()["upgrade-application"]} if checked else {}
    juju = starts(refreshed(tmp_path, **bags))
    assert juju.relation("upgrade").local_unit_data["state"] == state


def test_the_last_refresh_keeps_users_passwords_and_secrets(tmp_path):
    juju = starts(refreshed(tmp_path, leader=True))
    before = juju.told(11)
    all_refreshed(juju)
    after = juju.told(11)
    kept = (
        "username",
        "password",
        "endpoints",
        "database",
        "uris",
        "secret-user",
        "secret-tls",
        "tls",
    )
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert juju.server.roles["relation_id_11"].password == PASSWORD
    assert juju.server.roles["relation_id_11"].client
    assert juju.setting("auth_user") == SECOND
    ledger = json.loads(juju.shared["ledger"])
    assert [role["name"] for role in ledger["made"]["roles"] if role["kind"] == "client"] == [
        "relation_id_11"
    ]
    assert ledger["grants"][0]["username"] == "relation_id_11"
    # Units that do not know the new auth user yet look passwords up by the former.
    assert AUTH_USER in juju.server.roles
    assert "pgb_dbs_config" in juju.shared


def test_the_former_superuser_and_its_keys_go_when_no_unit_uses_them(tmp_path):
    bags = {"upgrade_application": recorded()["upgrade-application"]}
    juju = starts(refreshed(tmp_path, leader=True, **bags))
    all_refreshed(juju)
    password = juju.secret("pgb-peers.pgbouncer-k8s.app")["auth-password"]
    all_follow(juju, SECOND)
    assert AUTH_USER not in juju.server.roles
    assert set(juju.shared) == {"plan", "ledger", "leader"}
    assert set(juju.mine) >= {"address", "serving", "stake"}
    assert not {"pgb_dbs", "container_initialised", "auth-user"} & set(juju.mine)
    secret = juju.secret("pgb-peers.pgbouncer-k8s.app")
    assert "auth-file" not in secret
    assert secret["auth-password"] == password
    assert secret["monitoring-password"] == "mONITORINGpASSWORDoFtHEr"
    upgrade = juju.relation("upgrade")
    assert upgrade.local_app_data == {}
    assert upgrade.local_unit_data["state"] == "idle"
    before = written(juju)
    all_follow(juju, SECOND)
    assert written(juju) == before
    assert juju.status == "active"


def test_the_former_superuser_goes_while_kubernetes_does_not_answer(tmp_path):
    bags = {"upgrade_application": recorded()["upgrade-application"]}
    juju = starts(refreshed(tmp_path, leader=True, failing={"adjust"}, **bags))
    assert "container_initialised" not in juju.mine
    assert juju.mine["auth-user"] == AUTH_USER
    assert juju.relation("upgrade").local_unit_data["state"] == "idle"
    all_follow(juju, SECOND)
    assert AUTH_USER not in juju.server.roles
    # The keys stay, so that a later hook sets the partition back.
    assert "pgb_dbs_config" in juju.shared
    juju.kubernetes.failing = set()
    juju.reminded()
    assert set(juju.shared) == {"plan", "ledger", "leader"}


def test_a_follower_cleans_up_after_its_leader(tmp_path):
    leader = starts(refreshed(tmp_path / "a", leader=True))
    all_refreshed(leader)
    all_follow(leader, SECOND)
    follower = starts(refreshed(tmp_path / "b"))
    follower.with_relation(
        dataclasses.replace(follower.relation("pgb-peers"), local_app_data=dict(leader.shared))
    )
    auth = leader.state.get_secret(label="pgb-peers.pgbouncer-k8s.app")
    others = {item for item in follower.state.secrets if item.label != auth.label}
    follower.change(secrets={*others, auth})
    follower.emit(
        follower.context.on.relation_changed(follower.relation("pgb-peers"), remote_unit=1)
    )
    assert follower.setting("auth_user") == SECOND
    assert not {"pgb_dbs", "auth-user"} & set(follower.mine)


def test_a_new_auth_user_is_used_only_when_postgresql_lets_it_in(tmp_path):
    juju = starts(refreshed(tmp_path, leader=True))
    juju.server.lets_in = False
    all_refreshed(juju)
    assert juju.setting("auth_user") == AUTH_USER
    assert "plan" not in juju.shared
    juju.server.lets_in = True
    juju.reminded()
    assert juju.setting("auth_user") == SECOND


@pytest.mark.parametrize("what", ["password", "member"])
def test_a_role_that_a_client_made_is_not_taken_over(tmp_path, what):
    juju = starts(refreshed(tmp_path, leader=True))
    role = juju.server.roles["relation_id_11"]
    if what == "password":
        role.password = "ofTheClient"
    else:
        role.members.add("evil")
    all_refreshed(juju)
    assert not juju.server.roles["relation_id_11"].ours


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "nonsense",
        '{"11": {"name": "a b"}}',
        '{"x": {"name": "shop"}}',
        '{"11": 5}',
        "[" * 9999,
    ],
)
def test_data_that_cannot_be_read_gives_no_pools_and_no_failed_hook(tmp_path, text):
    juju = refreshed(tmp_path)
    juju.leader_writes("pgb-peers", pgb_dbs_config=text, readonly_dbs=text)
    starts(juju)
    assert juju.databases() in ([], ["pgbouncer_auth"])
    assert juju.status.startswith("active")


@pytest.mark.parametrize("leader", [False, True])
def test_the_certificate_of_the_charm_before_is_served_from_the_first_hooks(tmp_path, leader):
    pair = pair_in(tmp_path)
    juju = starts(with_tls(tmp_path / "unit", pair.authorities[0], pair, leader=leader))
    files = {file.name: file.read_text() for file in juju.disk.rglob("*.pem")}
    assert pair.chain[0] in "".join(files.values())
    assert json.loads(juju.mine["serving"])["tls"] is True
    # The request of Canonical's charm stands until the takeover: its units may be refreshed back.
    requested = juju.relation("certificates").local_unit_data["certificate_signing_requests"]
    assert "the request" in requested


def test_the_takeover_tells_clients_of_tls_and_requests_an_own_certificate(tmp_path):
    pair = pair_in(tmp_path)
    juju = starts(with_tls(tmp_path / "unit", pair.authorities[0], pair, leader=True))
    told = json.dumps({"port": 6432, "databases": ["blog", "shop"], "tls": True,
                       "authorities": list(pair.authorities)})  # fmt: skip
    all_refreshed(juju, serving=told)
    assert juju.told(11)["tls"] == "True"
    assert juju.told(11)["tls-ca"].strip() == pair.authorities[0]
    juju.reminded()
    requested = juju.relation("certificates").local_unit_data["certificate_signing_requests"]
    assert "BEGIN CERTIFICATE REQUEST" in requested
    all_follow(juju, SECOND)
    assert juju.secret("pgb-peers.pgbouncer-k8s.unit") == {}
    assert json.loads(juju.mine["serving"])["tls"] is True


@pytest.mark.parametrize("key", ["key", "cert", "chain"])
def test_a_certificate_that_cannot_be_read_is_not_served(tmp_path, key):
    pair = pair_in(tmp_path)
    juju = with_tls(tmp_path / "unit", pair.authorities[0], pair)
    secret = juju.state.get_secret(label="pgb-peers.pgbouncer-k8s.unit")
    content = {**secret.tracked_content, key: "nonsense"}
    changed = dataclasses.replace(secret, tracked_content=content, latest_content=content)
    others = {item for item in juju.state.secrets if item.label != secret.label}
    juju.change(secrets={*others, changed})
    starts(juju)
    assert json.loads(juju.mine["serving"])["tls"] is False
    assert juju.databases() == ["pgbouncer_auth", "blog", "shop"]
