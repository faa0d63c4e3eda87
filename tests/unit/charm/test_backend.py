"""The backend relation under real ops."""

import dataclasses
import json

import pytest
from on_juju import APP, BACKEND_PASSWORD, HOST, SHOP, TOLD
from ops import testing

from adapters.memory import MemoryRole


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
def test_the_leader_makes_the_auth_user_and_the_auth_function(deployed):
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
def test_every_form_of_backend_endpoints_is_pooled(deployed, told, line):
    deployed.backend(told)
    shop = deployed.client("shop-app", SHOP)
    assert line in deployed.ini()
    assert deployed.told(shop)["endpoints"] == f"{HOST}:6432"
    assert deployed.status == "active"


@pytest.mark.flow("backend/4")
def test_a_follower_waits_until_the_backend_is_shared(make, deployed):
    juju = make(leader=False, others=(1,))
    juju.leader_writes("pgb-peers", plan=deployed.shared["plan"])
    juju.emit(juju.context.on.start())
    juju.backend()
    # Without news the second event need not be deferred, too.
    assert juju.deferred == ["backend_database_relation_created"]
    assert juju.server.roles == {}
    leader = make(others=(1,)).deploy().backend()
    auth = leader.state.get_secret(label=f"pgb-peers.{APP}.app")
    juju.change(secrets={*juju.state.secrets, dataclasses.replace(auth, owner="app")})
    juju.leader_writes("pgb-peers", plan=leader.shared["plan"], ledger=leader.shared["ledger"])
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
    assert [secret for secret in related.state.secrets if secret.owner] == []
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
    others = {secret for secret in related.state.secrets if secret.id != "secret:backend"}
    new = testing.Secret(
        content, id="secret:backend", owner=None, label="backend-database.2.user.secret"
    )
    related.emit(related.context.on.secret_changed(new), secrets={*others, new})
    assert related.plan()["upstream"]["auth_user"] == "pgbouncer_auth_relation_id_9"
