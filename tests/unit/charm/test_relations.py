"""pgb-peers, backend-database and database under real ops."""

import dataclasses
import json

import pytest
from on_juju import APP, BACKEND_PASSWORD, TOLD, V0
from ops import testing

from adapters.memory import MemoryRole
from app.errors import ExposureFailed, ExposureForbidden

SHOP = {"database": "shop", **V0}
HOST = "pgbouncer-k8s-service.dev.svc.cluster.local"


def with_bag(juju, name, **fields):
    """Someone wrote something into our application's part of a relation."""
    relation = juju.relation(name)
    juju.with_relation(
        dataclasses.replace(relation, local_app_data=relation.local_app_data | fields)
    )


def peer_says(juju, number, **fields):
    """Another unit wrote something, and Juju tells us."""
    peers = juju.relation("pgb-peers")
    data = {**peers.peers_data, number: {**peers.peers_data.get(number, {}), **fields}}
    juju.with_relation(dataclasses.replace(peers, peers_data=data))
    juju.emit(juju.context.on.relation_changed(juju.relation("pgb-peers"), remote_unit=number))


# ---- peers -----------------------------------------------------------------------------------
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
    with_bag(deployed, "pgb-peers", plan="")
    deployed.emit(deployed.context.on.relation_created(deployed.relation("pgb-peers")))
    assert deployed.plan()["upstream"] is None
    assert list(deployed.state.secrets) == []


@pytest.mark.flow("peers/4")
def test_with_a_backend_the_auth_material_is_in_a_secret_and_nowhere_else(related):
    with_bag(related, "pgb-peers", plan="")
    related.emit(related.context.on.relation_created(related.relation("pgb-peers")))
    assert related.plan()["upstream"]["auth_user"] == "pgbouncer_auth_relation_id_7"
    secret = related.secret(f"pgb-peers.{APP}.app")
    assert secret["auth-user"] == "pgbouncer_auth_relation_id_7"
    assert secret["auth-password"] not in json.dumps(related.shared)


@pytest.mark.flow("peers/5")
def test_the_leader_hears_of_a_new_unit_and_shares_anew(related):
    shop = related.client("shop-app", SHOP)
    before = related.told(shop)
    with_bag(related, "pgb-peers", leader="gone")
    with_bag(related, shop, endpoints="old:1")
    peer_says(related, 1, address="10.0.0.1")
    assert related.shared["leader"] == "10.0.0.0"
    assert [member["name"] for member in related.plan()["members"]] == [f"{APP}/0", f"{APP}/1"]
    assert related.setting("max_db_connections") == "25"
    peer_says(related, 1, serving='{"port":6432,"databases":["shop"]}')
    assert related.told(shop) == before


@pytest.mark.flow("peers/6")
def test_a_follower_does_what_is_shared_and_reloads_only_for_a_change(make):
    leader, follower = make(others=(1,)).deploy().backend(), make(leader=False, others=(1,))
    leader.client("shop-app", SHOP)
    auth = leader.state.get_secret(label=f"pgb-peers.{APP}.app")
    follower.change(secrets={dataclasses.replace(auth, owner="app")})
    follower.backend(granted=False)
    with_bag(
        follower, "pgb-peers", **{key: leader.shared[key] for key in ("plan", "ledger", "leader")}
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
def test_those_that_stay_share_out_what_a_unit_had(make):
    juju = make(others=(1, 2)).deploy().backend()
    assert juju.setting("max_db_connections") == "17"
    peers = juju.relation("pgb-peers")
    juju.with_relation(dataclasses.replace(peers, peers_data={1: peers.peers_data[1]}))
    juju.departs(f"{APP}/2")
    juju.reminded()
    assert juju.setting("max_db_connections") == "25"
    assert [member["name"] for member in juju.plan()["members"]] == [f"{APP}/0", f"{APP}/1"]


# ---- backend ---------------------------------------------------------------------------------
@pytest.mark.flow("backend/1")
def test_users_wait_for_a_pgbouncer_that_runs_and_the_request_does_not(make):
    juju = make(container=False).backend()
    assert "backend_database_relation_changed" in juju.deferred
    assert juju.relation("backend-database").local_app_data["database"] == "pgbouncer"
    assert juju.server.roles == {}


@pytest.mark.flow("backend/2")
@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({}, "postgresql-k8s has not given username, password, endpoints yet"),
        ({**TOLD, "endpoints": ""}, "postgresql-k8s has not given endpoints yet"),
        ({**TOLD, "endpoints": " , "}, "postgresql-k8s has not given endpoints yet"),
        ({**TOLD, "endpoints": "bad host:1"}, "'bad host:1' is no endpoint"),
        ({**TOLD, "endpoints": "db:1,0:host=evil"}, "'0:host=evil' is no endpoint"),
        ({**TOLD, "read-only-endpoints": "x'y:1"}, "is no endpoint"),
        ({**TOLD, "secret-user": "secret:not-ours"}, "its secret is not readable yet"),
        ({"endpoints": "db:1", "username": "u"}, "has not given password yet"),
    ],
)
def test_incomplete_facts_are_waited_for_and_named(deployed, told, sentence):
    deployed.backend(told)
    assert "backend_database_relation_changed" in deployed.deferred
    assert deployed.status.startswith("blocked backend-database: ")
    assert sentence in deployed.status
    deployed.with_relation(
        dataclasses.replace(deployed.relation("backend-database"), remote_app_data=TOLD)
    )
    deployed.backend_changed()
    assert deployed.status == "active"


@pytest.mark.flow("backend/3")
def test_the_leader_sets_up_what_pooling_takes(deployed):
    deployed.backend()
    auth = deployed.secret(f"pgb-peers.{APP}.app")
    assert deployed.server.roles[auth["auth-user"]].password == auth["auth-password"]
    assert deployed.setting("auth_user") == auth["auth-user"]
    assert deployed.server.functions == {"pgbouncer"}
    assert deployed.relation("backend-database").local_app_data["extra-user-roles"] == "SUPERUSER"
    assert (deployed.status, deployed.deferred) == ("active", [])


@pytest.mark.parametrize(
    ("told", "line"),
    [
        ({**TOLD, "endpoints": "[2001:db8::1]:5433"}, "host='2001:db8::1' port=5433"),
        ({**TOLD, "endpoints": "a.svc:5432,b.svc:5432"}, "host='a.svc,b.svc' port=5432"),
        (
            {key: TOLD[key] for key in TOLD if key not in ("version", "database")},
            "host='10.1.0.1'",
        ),
        (
            {"username": "u", "password": "p", "endpoints": "10.1.0.1"},  # before Juju had secrets
            "host='10.1.0.1' port=5432",
        ),
    ],
)
def test_whatever_shape_the_backend_has_it_is_pooled(deployed, told, line):
    deployed.backend(told)
    shop = deployed.client("shop-app", SHOP)
    assert line in deployed.ini()
    assert deployed.told(shop)["endpoints"] == f"{HOST}:6432"
    assert deployed.status == "active"


@pytest.mark.flow("backend/4")
def test_a_follower_waits_until_the_backend_is_shared(make, deployed):
    juju = make(leader=False, others=(1,))
    with_bag(juju, "pgb-peers", plan=deployed.shared["plan"])
    juju.emit(juju.context.on.start())
    juju.backend()
    # Without news the second event need not be deferred, too.
    assert juju.deferred == ["backend_database_relation_created"]
    assert juju.server.roles == {}
    leader = make(others=(1,)).deploy().backend()
    auth = leader.state.get_secret(label=f"pgb-peers.{APP}.app")
    juju.change(secrets={*juju.state.secrets, dataclasses.replace(auth, owner="app")})
    with_bag(juju, "pgb-peers", plan=leader.shared["plan"], ledger=leader.shared["ledger"])
    juju.backend_changed()
    assert juju.setting("auth_user") == "pgbouncer_auth_relation_id_7"
    assert juju.deferred == []


@pytest.mark.flow("backend/5")
def test_new_endpoints_are_rendered_and_readers_are_told(related):
    asks = {
        "database": "shop",
        "requested-secrets": json.dumps(["username", "password", "read-only-uris"]),
    }
    shop = related.client("shop-app", asks)
    new = {**TOLD, "endpoints": "10.1.0.9:5433", "read-only-endpoints": "10.1.0.8:5433"}
    related.with_relation(
        dataclasses.replace(related.relation("backend-database"), remote_app_data=new)
    )
    related.backend_changed()
    assert "shop = host='10.1.0.9' port=5433 dbname='shop'" in related.ini()
    assert "shop_readonly = host='10.1.0.8' port=5433 dbname='shop'" in related.ini()
    told = related.told(shop)
    assert told["read-only-endpoints"] == f"{HOST}:6432"
    assert told["read-only-uris"].endswith(f"{HOST}:6432/shop_readonly")


@pytest.mark.flow("backend/6", "backend/9")
def test_a_unit_that_leaves_cleans_nothing_up(make):
    juju = make(others=(1,)).deploy().backend()
    juju.client("shop-app", SHOP)
    roles, shared = dict(juju.server.roles), juju.shared
    juju.departs(f"{APP}/0", "backend-database")
    juju.broken("backend-database")
    assert juju.mine["departing"] == "true"
    assert (juju.server.roles, juju.shared) == (roles, shared)
    assert juju.secret(f"pgb-peers.{APP}.app") != {}


@pytest.mark.flow("backend/7")
def test_a_postgresql_that_loses_a_unit_loses_nothing_of_ours(related):
    roles = dict(related.server.roles)
    related.departs("postgresql-k8s/1", "backend-database")
    assert related.server.roles == roles
    assert related.status == "active"


@pytest.mark.flow("backend/8", "backend/10")
def test_the_end_of_the_relation_leaves_nothing_of_ours(related):
    shop = related.client("shop-app", SHOP)
    related.server.roles["somebody"] = MemoryRole(ours=False)
    related.ends(2)
    assert set(related.server.roles) == {"somebody"}
    assert related.server.databases == {"shop"}
    assert related.databases() == []
    assert (related.disk / "userlist.txt").read_text() == ""
    assert related.told(shop) == {}
    assert [one for one in related.state.secrets if one.owner] == []
    assert related.status == "blocked missing relation: backend-database"
    related.backend(granted=False)
    assert related.told(shop)["username"] in related.server.roles


@pytest.mark.parametrize("first", ["pgb-peers", "backend-database"])
def test_the_last_unit_leaves_nothing_of_ours(related, first):
    related.client("shop-app", SHOP)
    related.change(planned_units=0)
    related.departs(f"{APP}/0", first)
    assert related.server.roles == {}
    related.server.down = "PostgreSQL is not asked again"
    related.departs(f"{APP}/0", "backend-database")


def test_what_could_not_be_removed_from_postgresql_is_logged(related):
    related.change(planned_units=0)
    related.server.down = "PostgreSQL says no"
    related.departs(f"{APP}/0", "backend-database")
    assert "Users of this application may stay in PostgreSQL: PostgreSQL says no" in [
        log.message for log in related.context.juju_log
    ]


def test_a_backend_that_refuses_is_quoted_and_tried_again(deployed):
    deployed.server.refuses = "PostgreSQL says no"
    deployed.backend()
    assert deployed.status == "blocked PostgreSQL says no"
    assert "backend_database_relation_changed" in deployed.deferred
    deployed.server.refuses = ""
    deployed.emit(deployed.context.on.update_status())
    assert deployed.status == "active"


def test_a_backend_that_was_silent_is_asked_again_without_any_change(deployed):
    deployed.server.down = "PostgreSQL does not answer"
    deployed.backend()
    assert deployed.status == "blocked PostgreSQL does not answer"
    deployed.server.down = ""
    deployed.reminded()
    assert deployed.status == "active"


def test_a_backend_that_comes_back_is_noticed_by_a_check(related):
    check = related.container.plan.checks["postgresql"].to_dict()
    assert check["tcp"] == {"host": "10.1.0.1", "port": 5432}
    assert "level" not in check, "it must not decide whether clients are sent here"


def test_a_secret_that_is_granted_late_is_read_as_soon_as_juju_says_so(deployed):
    deployed.backend(granted=False)
    assert deployed.status == "blocked backend-database: its secret is not readable yet"
    content = {"username": "relation_id_7", "password": BACKEND_PASSWORD}
    deployed.change(secrets={testing.Secret(content, id="secret:backend", owner=None)})
    deployed.emit(deployed.context.on.update_status())
    assert deployed.status == "active"


def test_a_password_that_the_backend_rotates_is_used_at_once(related):
    content = {"username": "relation_id_9", "password": "rotated"}
    others = {one for one in related.state.secrets if one.id != "secret:backend"}
    new = testing.Secret(
        content, id="secret:backend", owner=None, label="backend-database.2.user.secret"
    )
    related.emit(related.context.on.secret_changed(new), secrets={*others, new})
    assert related.plan()["upstream"]["auth_user"] == "pgbouncer_auth_relation_id_9"


# ---- clients ---------------------------------------------------------------------------------
@pytest.mark.flow("clients/1")
def test_a_follower_serves_no_request(make):
    juju = make(leader=False, others=(1,))
    shop = juju.client("shop-app", SHOP)
    assert (juju.deferred, juju.server.databases) == ([], set())
    assert juju.relation(shop).local_unit_data.get("departing") is None


@pytest.mark.flow("clients/2")
def test_a_request_waits_for_the_backend(deployed):
    shop = deployed.client("shop-app", SHOP)
    assert deployed.deferred == ["database_relation_changed"]
    deployed.backend()
    assert deployed.told(shop)["database"] == "shop"


@pytest.mark.flow("clients/3")
def test_a_client_is_told_once_every_unit_serves_it(make):
    juju = make(others=(1,))
    peers = juju.relation("pgb-peers")
    nothing = {"address": "10.0.0.1", "serving": '{"port":6432,"databases":[]}'}
    juju.with_relation(dataclasses.replace(peers, peers_data={1: nothing}))
    juju.deploy().backend()
    juju.options(**{"allowed-roles": "createdb"})
    shop = juju.client("shop-app", {**SHOP, "extra-user-roles": "charmed_dml,CREATEDB"})
    assert juju.server.roles[f"relation_id_{shop}"].groups == {"charmed_dml", "createdb"}
    assert juju.databases() == ["pgbouncer_auth", "shop"]
    assert juju.told(shop) == {}
    peer_says(juju, 1, serving='{"port":6432,"databases":["shop"]}')
    told = juju.told(shop)
    assert told["endpoints"] == f"{HOST}:6432"
    assert juju.server.roles[told["username"]].password == told["password"]
    assert told["uris"] == f"postgresql://{told['username']}:{told['password']}@{HOST}:6432/shop"


def test_credentials_wait_for_postgresql_to_let_them_in_without_a_deferral(related):
    related.server.lets_in = False
    shop = related.client("shop-app", SHOP)
    assert (related.told(shop), related.deferred) == ({}, [])
    related.server.lets_in = True
    related.reminded()
    assert related.told(shop)["database"] == "shop"


@pytest.mark.flow("clients/4")
@pytest.mark.parametrize(
    ("asks", "reason"),
    [
        ({"database": "shop", "extra-user-roles": "superuser"}, "asks for role 'superuser'"),
        ({"database": "postgres"}, "asks for database 'postgres', which is reserved"),
        ({"database": "x; DROP TABLE y"}, "takes only letters"),
        ({"database": "x = host=evil\n[pgbouncer]"}, "takes only letters"),
        ({"database": "abc*"}, "prefixes are not supported"),
        ({"database": "x" * 100}, "longer than 63 bytes"),
        ({"database": "shop", "entity-type": "GROUP"}, "asks for an entity of type 'GROUP'"),
        ({"database": "shop", "extra-group-roles": "staff"}, "extra-group-roles 'staff'"),
        (
            {"database": "shop", "requested-entity-secret": "secret:x"},
            "a user with a name of its own",
        ),
        (
            {"database": "shop", "requested-secrets": "not json"},
            "requested-secrets, which is no JSON",
        ),
        (
            {"database": "shop", "requested-secrets": '{"a": 1}'},
            "requested-secrets, which is no JSON",
        ),
        ({"version": "v1", "requests": "[1]"}, "requests, which is no JSON list of objects"),
        ({"version": "v1", "requests": '[{"request-id": 5}]'}, "request-id, which is no text"),
        ({"version": "v1", "requests": '[{"request-id": "../x"}]'}, "not letters and digits"),
        ({"database": "shop", "noise": "x" * 70_000}, "more than a request can hold"),
    ],
)
def test_a_request_that_cannot_be_served_is_named_and_alone(related, asks, reason):
    good = related.client("good-app", {"database": "good", **V0})
    bad = related.client("bad-app", asks)
    assert related.status.startswith(f"blocked bad-app (relation {bad}) ")
    assert reason in related.status
    assert related.told(bad) == {}
    assert f"relation_id_{bad}" not in related.server.roles
    other = related.client("other-app", {"database": "other", **V0})
    for number in (good, other):
        assert related.told(number)["username"] == f"relation_id_{number}"
    related.ends(bad)
    assert related.status == "active"


@pytest.mark.parametrize(
    "asks",
    [
        {},
        V0,
        {"database": ""},
        {"extra-user-roles": "admin"},
        {"version": "v1"},
        {"version": "v1", "requests": "[]"},
        {"colour": "red"},
    ],
)
def test_a_request_that_is_not_complete_yet_is_waited_for_in_silence(related, asks):
    half = related.client("half-app", asks)
    assert (related.status, related.told(half)) == ("active", {})
    whole = dataclasses.replace(related.relation(half), remote_app_data={"database": "shop", **V0})
    related.with_relation(whole)
    related.changed(half)
    assert related.told(half)["database"] == "shop"


def test_unknown_keys_are_nobodys_business(related):
    shop = related.client("shop-app", {**SHOP, "colour": "red", "request-id": "; --"})
    assert related.told(shop)["username"] == f"relation_id_{shop}"
    assert related.status == "active"


@pytest.mark.flow("clients/5")
def test_departed_units_of_a_client_refresh_and_ours_are_flagged(related):
    shop = related.client("shop-app", SHOP)
    before = related.told(shop)
    with_bag(related, shop, endpoints="old:1")
    related.departs("shop-app/1", shop)
    assert related.told(shop) == before
    related.departs(f"{APP}/0", shop)
    assert related.mine["departing"] == "true"


@pytest.mark.flow("clients/6")
def test_what_cannot_be_dropped_now_is_dropped_later(related):
    shop = related.client("shop-app", SHOP)
    related.server.down = "PostgreSQL does not answer"
    related.ends(shop)
    assert f"relation_id_{shop}" in related.server.roles
    related.server.down = ""
    related.emit(related.context.on.update_status())
    assert f"relation_id_{shop}" not in related.server.roles


@pytest.mark.flow("clients/7")
def test_a_client_that_has_gone_leaves_only_its_data(related):
    shop, blog = (
        related.client("shop-app", SHOP),
        related.client("blog-app", {"database": "blog", **V0}),
    )
    related.ends(shop)
    assert f"relation_id_{shop}" not in related.server.roles
    assert related.server.databases == {"shop", "blog"}
    assert related.databases() == ["pgbouncer_auth", "blog"]
    assert [one.label for one in related.state.secrets if f".{shop}." in (one.label or "")] == []
    assert related.told(blog)["database"] == "blog"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (
            ExposureForbidden("Kubernetes forbids a Service"),
            "blocked Kubernetes forbids a Service",
        ),
        (ExposureFailed("Kubernetes does not answer"), "waiting Kubernetes does not answer"),
    ],
)
def test_nobody_is_told_a_name_that_leads_nowhere(juju, error, status):
    juju.kubernetes.error = error
    juju.deploy().backend()
    shop = juju.client("shop-app", SHOP)
    assert (juju.status, juju.told(shop)) == (status, {})
    juju.kubernetes.error = None
    juju.emit(juju.context.on.update_status())
    assert juju.told(shop)["endpoints"] == f"{HOST}:6432"
