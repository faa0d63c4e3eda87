"""Client relations under real ops."""

import dataclasses

import pytest
from on_juju import APP, HOST, SHOP, V0

from app.errors import ExposureFailed, ExposureForbidden


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
    juju.peer_writes(1, serving='{"port":6432,"databases":["shop"]}')
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


def test_unknown_keys_are_ignored(related):
    shop = related.client("shop-app", {**SHOP, "colour": "red", "request-id": "; --"})
    assert related.told(shop)["username"] == f"relation_id_{shop}"
    assert related.status == "active"


@pytest.mark.flow("clients/5")
def test_departed_units_of_a_client_refresh_and_ours_are_flagged(related):
    shop = related.client("shop-app", SHOP)
    before = related.told(shop)
    related.leader_writes(shop, endpoints="old:1")
    related.departs("shop-app/1", shop)
    assert related.told(shop) == before
    related.departs(f"{APP}/0", shop)
    assert related.mine["departing"] == "true"


@pytest.mark.flow("clients/6")
def test_a_user_that_cannot_be_dropped_now_is_dropped_later(related):
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
    assert [
        secret.label for secret in related.state.secrets if f".{shop}." in (secret.label or "")
    ] == []
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
def test_an_address_is_published_only_after_its_service_was_made(juju, error, status):
    juju.kubernetes.error = error
    juju.deploy().backend()
    shop = juju.client("shop-app", SHOP)
    assert (juju.status, juju.told(shop)) == (status, {})
    juju.kubernetes.error = None
    juju.emit(juju.context.on.update_status())
    assert juju.told(shop)["endpoints"] == f"{HOST}:6432"
