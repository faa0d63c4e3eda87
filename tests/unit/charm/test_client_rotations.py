"""Rotations of client users under real ops: what clients read in secrets and databags, and what units do."""

import contextlib
import dataclasses
import json

import pytest
from certified import Certified, pair_in
from on_juju import SHOP, V0
from ops import testing
from stopped_clock import Clock

from adapters.juju import facts
from adapters.memory import roles
from authority import self_signed
from domain.tls import UnitCertificates

OLD = {"database": "shop", "roles": "", "extensions": ""}


def related_to(juju):
    """Relate a client at `db`."""
    return juju.client("old-app", OLD, endpoint="db", unit_asks=OLD)


def answers(juju, number):
    """Return the databags of the application and of the unit for a client at `db`."""
    relation = juju.relation(number)
    return relation.local_app_data, relation.local_unit_data


def file(juju, name):
    return next(iter(juju.disk.rglob(name))).read_text()


def gives(juju, application, text):
    """Relate an application that gives a certificate in a secret; return the id of the relation."""
    secret = testing.Secret({"mtls-cert": text}, id="secret:mtls", owner=None)
    juju.change(secrets={*juju.state.secrets, secret})
    request = {"resource": "shop", "request-id": "aaaa0", "salt": "s", "secret-mtls": secret.id}
    relation = juju.client(application, {"version": "v1", "requests": json.dumps([request])})
    update(juju)
    return relation


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(facts, "time", clock)
    monkeypatch.setattr(roles, "time", clock)
    return clock


def rotate(juju, **params):
    """Run the action on the leader, and then the hooks that tell the new name and let the former expire."""
    action = juju.context.on.action("rotate-credentials", params={"users": "clients", **params})
    juju.emit(action)
    told = juju.context.action_results
    update(juju)
    return told["message"]


def update(juju, times=2):
    for _ in range(times):
        juju.emit(juju.context.on.update_status())


def secret_of(juju, label):
    return next(secret for secret in juju.state.secrets if secret.label == label)


def test_a_secret_gets_a_revision_with_the_new_name_and_password(related, clock):
    shop = related.client("shop-app", SHOP)
    first, uri = related.told(shop), related.relation(shop).local_app_data["secret-user"]
    assert f"shop-app gets user relation_id_{shop}__2" in rotate(related)
    now = related.told(shop)
    assert related.relation(shop).local_app_data["secret-user"] == uri
    assert now["username"] == f"relation_id_{shop}__2"
    assert now["password"] != first["password"]
    assert f"{now['username']}:{now['password']}@" in now["uris"]
    roles = related.server.roles
    assert roles[first["username"]].password == first["password"]
    assert roles[now["username"]].password == now["password"]
    clock.now += 24 * 3600
    update(related)
    assert first["username"] not in roles
    assert related.status == "active"


def test_a_client_without_secrets_reads_its_new_login_in_the_databag(related, clock):
    shop = related.client("shop-app", {"database": "shop"})
    before = dict(related.relation(shop).local_app_data)
    rotate(related, application="shop-app")
    now = related.relation(shop).local_app_data
    assert (before["username"], now["username"]) == (
        f"relation_id_{shop}",
        f"relation_id_{shop}__2",
    )
    assert now["password"] == related.server.roles[now["username"]].password


def test_each_request_of_a_relation_has_a_rotation_of_its_own(related, clock):
    requests = [{"resource": "shop", "request-id": name, "salt": "s"} for name in ("2", "b")]
    shop = related.client("shop-app", {"version": "v1", "requests": json.dumps(requests)})
    rotate(related)
    users = {f"relation_id_{shop}_{name}" for name in ("2", "b")}
    clients = {name for name, role in related.server.roles.items() if role.client}
    assert clients == users | {f"{name}__2" for name in users}
    label = f"database.{shop}.2.user.secret"
    content = secret_of(related, label).latest_content
    assert content["username"] == f"relation_id_{shop}_2__2"
    assert related.server.roles[content["username"]].password == content["password"]


def test_a_legacy_client_reads_its_new_login_in_each_databag(related, clock):
    number = related_to(related)
    before = answers(related, number)[0]
    rotate(related)
    app, unit = answers(related, number)
    assert app["user"] == unit["user"] == f"relation_id_{number}__2"
    assert app["password"] == unit["password"] != before["password"]
    assert f" user={app['user']} " in app["master"]
    assert related.server.roles[app["user"]].password == app["password"]


def test_another_unit_repeats_the_new_login_of_a_legacy_client(related, clock):
    number = related_to(related)
    rotate(related)
    app, _ = answers(related, number)
    related.change(leader=False)
    related.with_relation(
        testing.Relation(
            "db",
            id=number,
            remote_app_name="old-app",
            remote_app_data=related.relation(number).remote_app_data,
            remote_units_data=related.relation(number).remote_units_data,
        )
    )
    related.changed(number)
    _, unit = answers(related, number)
    assert (unit["user"], unit["password"]) == (app["user"], app["password"])


def test_a_client_that_leaves_takes_its_secret_and_both_users_along(related, clock):
    shop = related.client("shop-app", SHOP)
    rotate(related)
    related.ends(shop)
    assert not [role for role in related.server.roles.values() if role.client]
    labels = {secret.label for secret in related.state.secrets}
    assert f"database.{shop}.user.secret" not in labels
    assert "rotations" in related.relation("pgb-peers").local_app_data["ledger"]
    assert f"relation_id_{shop}" not in related.relation("pgb-peers").local_app_data["ledger"]


def test_new_endpoints_reach_a_client_whose_new_name_waits(related, clock):
    shop = related.client("shop-app", SHOP)
    before = related.told(shop)
    related.server.lets_in = False
    rotate(related)
    related.options(listen_port=7000)
    update(related)
    told = related.told(shop)
    assert told["endpoints"] != before["endpoints"]
    assert (told["username"], told["password"]) == (before["username"], before["password"])
    related.server.lets_in = True
    related.reminded()
    assert related.told(shop)["username"] == f"relation_id_{shop}__2"


def test_a_hook_with_nothing_to_do_stays_one_after_a_rotation(related, clock):
    shop = related.client("shop-app", SHOP)
    rotate(related, **{"valid-hours": 1})
    clock.now += 3600
    update(related, 3)
    assert f"relation_id_{shop}" not in related.server.roles
    asked = related.server.asked
    update(related)
    assert related.server.asked == asked, "PostgreSQL is asked nothing"


def test_a_client_with_a_certificate_is_told_when_units_let_it_in(tmp_path, clock):
    with contextlib.closing(Certified(tmp_path / "unit")) as juju:
        juju.certificates = UnitCertificates(related=True, kept=pair_in(tmp_path))
        juju.deploy().backend()
        text = self_signed(tmp_path, "shop", "shop").certificate.read_text()
        shop = gives(juju, "shop-app", text)
        clock.now += 121
        update(juju)
        first = f"relation_id_{shop}_aaaa0"
        second = f"{first}__2"
        rotate(juju)
        update(juju)
        label = f"database.{shop}.aaaa0.user.secret"
        assert secret_of(juju, label).latest_content["username"] == first
        clock.now += 121
        update(juju, 3)
        content = secret_of(juju, label).latest_content
        assert content["username"] == second
        password = content["password"]
        assert juju.server.roles[second].password == password
        for user in (first, second):
            assert f'hostssl all "{user}" 0.0.0.0/0 cert map=client_' in file(juju, "hba.conf")
            assert f'"{user}" "{juju.server.roles[user].password}"' in file(juju, "userlist.txt")
        clock.now += 24 * 3600
        update(juju, 3)
        assert f'"{first}"' not in file(juju, "hba.conf")
        assert f'"{first}"' not in file(juju, "userlist.txt")
        assert f'"{second}" "{password}"' in file(juju, "userlist.txt")


@pytest.mark.parametrize(
    "params",
    [
        {"users": "everybody"},
        {"application": "Shop; DROP"},
        {"valid-hours": -1},
        {"valid-hours": 10**9},
    ],
)
def test_parameters_that_are_not_valid_are_a_sentence(related, params):
    related.client("shop-app", SHOP)
    action = related.context.on.action("rotate-credentials", params={"users": "clients", **params})
    with pytest.raises(testing.ActionFailed, match="is not valid"):
        related.emit(action)


def test_an_application_that_is_not_related_is_a_sentence(related):
    related.client("shop-app", SHOP)
    with pytest.raises(testing.ActionFailed, match="applications with credentials are shop-app"):
        rotate(related, application="other")


def test_a_follower_names_the_command_for_the_leader(make):
    juju = make(leader=False, others=(1,))
    with pytest.raises(testing.ActionFailed, match="/leader rotate-credentials users=clients"):
        rotate(juju)


def asks(juju, number, request):
    """Let a client replace its request, and run its hook."""
    juju.with_relation(dataclasses.replace(juju.relation(number), remote_app_data=request))
    juju.changed(number)


@pytest.mark.parametrize(("before", "after"), [(V0, {}), ({}, V0)])
def test_a_client_that_changes_the_form_of_its_answer_is_rotated_once(
    related, clock, before, after
):
    number = related.client("shop-app", {"database": "shop", **before})
    asks(related, number, {"database": "shop", **after})
    rotate(related)
    first = related.told(number)["password"]
    update(related, 3)
    assert related.told(number)["password"] == first
    assert related.deferred == []
    bag = related.relation(number).local_app_data
    assert bool(bag.get("password")) != bool(bag.get("secret-user"))


@pytest.mark.parametrize("bad", ["bank", "postgres"])
def test_a_client_whose_request_is_refused_is_rotated(related, clock, bad):
    related.client("bank-app", {"database": "bank", **V0})
    number = related.client("shop-app", SHOP)
    before = related.told(number)["password"]
    asks(related, number, {"database": bad, **V0})
    rotate(related, application="shop-app", **{"valid-hours": 0})
    update(related, 4)
    told = related.told(number)
    assert told["password"] != before
    assert related.server.roles[told["username"]].password == told["password"]
    names = {name for name in related.server.roles if name.startswith(f"relation_id_{number}")}
    assert names == {told["username"]}
