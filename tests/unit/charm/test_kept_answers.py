"""What a client reads whose new request is refused, cannot be read or is missing: the answer that it had."""

import dataclasses
import json

import pytest
from on_juju import HOST, V0

BEFORE, MOVED = f"{HOST}:6432", f"{HOST}:7000"
SHOP = {"resource": "shop", "request-id": "aaaa", "salt": "s1"}
# A databag of version 1 that asks for something that cannot be served.
BAD_V1 = {
    "a reserved database": [{**SHOP, "resource": "postgres"}],
    "a database of another": [{**SHOP, "resource": "bank"}],
    "another bad request": [SHOP, {"resource": "a*", "request-id": "bbbb"}],
    "no objects": "shop",
    "no request": [],
}


def v1(requests):
    return {"version": "v1", "requests": json.dumps(requests)}


def ask(juju, number, asks):
    """Let a client replace its databag, and run its hook."""
    juju.with_relation(dataclasses.replace(juju.relation(number), remote_app_data=asks))
    juju.changed(number)


@pytest.mark.parametrize("form", [V0, {}, {"requested-secrets": '["password"]'}])
@pytest.mark.parametrize(
    "bad",
    [
        {"database": "postgres"},
        {"database": "shop", "requested-secrets": "none"},
        {"database": "bank"},
        {"version": "v1", "requests": "none"},
        {"database": "x" * 70_000},
        {},
    ],
    ids=["reserved", "secrets", "of another", "version", "too large", "empty"],
)
def test_a_client_of_version_0_reads_its_answer_in_the_form_that_it_had(related, form, bad):
    related.client("bank-app", {"database": "bank", **V0})
    number = related.client("shop-app", {"database": "shop", **form})
    before, told = related.relation(number).local_app_data, related.told(number)
    ask(related, number, bad)
    related.options(listen_port=7000)
    after = related.relation(number).local_app_data
    moved = {key: text.replace(BEFORE, MOVED) for key, text in before.items()}
    assert after == moved
    assert related.told(number) == {key: t.replace(BEFORE, MOVED) for key, t in told.items()}
    assert related.databases() == ["pgbouncer_auth", "bank", "shop"]


@pytest.mark.parametrize("bad", BAD_V1.values(), ids=BAD_V1)
def test_a_client_of_version_1_reads_its_answer_in_the_form_that_it_had(related, bad):
    related.client("bank-app", {"database": "bank", **V0})
    number = related.client("shop-app", v1([SHOP]))
    (before,) = json.loads(related.relation(number).local_app_data["requests"])
    ask(related, number, v1(bad))
    related.options(listen_port=7000)
    (answer,) = json.loads(related.relation(number).local_app_data["requests"])
    assert answer == before | {"endpoints": MOVED}
    assert related.secret(answer["secret-user"])["uris"].endswith(f"@{MOVED}/shop")


def answers(juju, number):
    local = juju.relation(number).local_app_data
    return {answer["request-id"]: answer for answer in json.loads(local["requests"])}


@pytest.mark.parametrize("form", [V0, {}])
def test_a_client_that_goes_back_to_version_0_can_log_in(related, form):
    number = related.client("shop-app", {"database": "shop", **form})
    ask(related, number, v1([SHOP]))
    assert not related.relation(number).local_app_data.get("password")
    ask(related, number, {"database": "shop", **form})
    told = related.told(number)
    assert related.server.roles[told["username"]].password == told["password"]


@pytest.mark.parametrize("note", ["я" * 20_000, "a" * 65_400], ids=["escaped", "long"])
def test_a_long_request_that_was_granted_ends_no_later_hook(related, note):
    requests = json.dumps([SHOP | {"note": note}], ensure_ascii=False, separators=(",", ":"))
    number = related.client("shop-app", {"version": "v1", "requests": requests})
    ask(related, number, v1([{**SHOP, "resource": "postgres"}]))
    related.options(listen_port=7000)
    assert answers(related, number)["aaaa"]["endpoints"] == MOVED


def test_an_answer_to_a_granted_request_repeats_no_refused_request(related):
    blog = {"resource": "blog", "request-id": "bbbb", "salt": "s2"}
    related.client("bank-app", {"database": "bank", **V0})
    number = related.client("shop-app", v1([SHOP, blog]))
    before = json.loads(related.relation(number).local_app_data["data"])
    ask(related, number, v1([SHOP, {**blog, "resource": "bank", "salt": "s3"}]))
    related.options(listen_port=7000)
    found = answers(related, number)
    assert [found[key]["endpoints"] for key in ("aaaa", "bbbb")] == [MOVED, MOVED]
    assert (found["bbbb"]["salt"], found["bbbb"]["resource"]) == ("s2", "blog")
    assert json.loads(related.relation(number).local_app_data["data"]) == before


def test_an_answer_whose_form_is_not_known_any_more_is_not_written(related):
    number = related.client("shop-app", {"database": "shop", **V0})
    bag = related.relation(number).local_app_data
    related.with_relation(
        dataclasses.replace(related.relation(number), local_app_data={**bag, "data": "["})
    )
    ask(related, number, {"database": "postgres"})
    related.options(listen_port=7000)
    assert related.relation(number).local_app_data["endpoints"] == BEFORE
    assert not related.relation(number).local_app_data.get("password")
    ask(related, number, {"database": "shop", **V0})
    assert related.relation(number).local_app_data["endpoints"] == MOVED


@pytest.mark.parametrize(
    "bad",
    [
        {"database": "bank", "roles": "charmed_read"},
        {"database": "postgres"},
        {"database": "shop", "extensions": "citext"},
        {"database": "x" * 70_000},
        {},
    ],
    ids=["of another", "reserved", "extensions", "too large", "empty"],
)
@pytest.mark.parametrize("endpoint", ["db", "db-admin"])
def test_an_answer_at_db_repeats_the_request_that_was_granted(related, endpoint, bad):
    related.options(**{"allowed-roles": "charmed_admin"})
    related.client("bank-app", {"database": "bank", **V0})
    asks = {"database": "shop", "roles": "charmed_dml", "extensions": ","}
    number = related.client("old-app", asks, endpoint=endpoint)
    before = related.relation(number)
    ask(related, number, bad)
    related.options(listen_port=7000, **{"allowed-roles": "charmed_admin"})
    after = related.relation(number)
    pairs = (
        (before.local_app_data, after.local_app_data),
        (before.local_unit_data, after.local_unit_data),
    )
    for had, has in pairs:
        assert (had["roles"], had["extensions"]) == ("charmed_dml", ",")
        master = had["master"].replace("port=6432", "port=7000")
        assert has == had | {"port": "7000", "master": master}
    ask(related, number, {**asks, "database": "store"})
    assert related.relation(number).local_unit_data["database"] == "store"
