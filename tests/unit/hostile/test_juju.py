"""Whatever strangers write, the hook ends well: whoever is honest is served, and the status names who is not."""

import dataclasses
import shutil

import pytest
from hostile.inputs import ANY_TEXT, HUGE, TEXT, a_sentence, damaged
from hostile.test_databags import LEDGER, LISTS, PLAN, REQUESTS, SERVING, STAKE, V0, plain
from hypothesis import example
from hypothesis import strategies as st
from on_juju import APP, BACKEND_PASSWORD, TOLD, Juju
from on_juju import V0 as SECRETS
from ops import testing
from profiles import given

from adapters.juju.secrets import _KEYS
from domain.endpoints import address_in
from domain.roles import ATTRIBUTES, GROUPS

SHOP = {"database": "shop", **SECRETS}
V1 = {"version": "v1", "requests": '[{"request-id": "a1", "resource": "shop"}]'}
OURS = PLAN.model_dump_json().replace("pgb/", f"{APP}/")
LEFT = {"plan": OURS, "ledger": LEDGER.model_dump_json(), "leader": "10.0.0.1"}


@pytest.fixture
def begin(tmp_path):
    """Copies of a unit, one for each example: what hooks have done before is the same for all."""
    ready = {}
    numbers = iter(range(1_000_000))

    def copy(name, prepare, **how):
        if name not in ready:
            ready[name] = prepare(Juju(tmp_path / name, **how))
        folder = tmp_path / f"{name}-{next(numbers)}"
        juju = ready[name].copy(folder)
        return juju, lambda: shutil.rmtree(folder)

    return copy


def all_is_said(juju):
    assert juju.state.unit_status.name in ("active", "blocked", "waiting")
    message = juju.state.unit_status.message
    assert a_sentence(message or "all is well")
    return f"{juju.state.unit_status.name} {message}".strip()


def with_consent(juju):
    juju.deploy().backend()
    roles = ",".join(sorted(ATTRIBUTES | GROUPS))
    juju.options(**{"allowed-roles": roles, "shared-databases": "shop,blog"})
    return juju


# ---- a client beside another -----------------------------------------------------------------
@given(
    V0 | damaged(REQUESTS).map(lambda text: {"version": "v1", "requests": text}),
    st.sampled_from((SHOP, V1)),
    times=0.25,
)
@example({"database": "it's"}, SHOP)
@example({"database": "\ud800"}, SHOP)
@example({"version": "v1", "requests": HUGE[3]}, V1)
@example({"database": HUGE[1]}, SHOP)
@example({"secret-mtls": "0", "database": "0"}, SHOP)
def test_a_hostile_client_is_named_and_an_honest_one_is_served(begin, mean, honest):
    juju, done = begin("consenting", with_consent)
    stranger = juju.client("mean-app", mean)
    shop = juju.client("shop-app", honest)
    told = juju.told(shop)
    assert "shop" in juju.databases()
    assert "password" in told or "secret-user" in told.get("requests", "")
    text = all_is_said(juju)
    assert text == "active" or text.startswith(f"blocked mean-app (relation {stranger})")
    if text != "active" and not text.endswith("Its password works"):
        assert not juju.relation(stranger).local_app_data
    juju.ends(stranger)
    assert (juju.status, juju.told(shop)) == ("active", told)
    done()


# ---- other units -----------------------------------------------------------------------------
ADDRESSES = st.sampled_from(("10.0.0.1", "2001:db8::1", "pgb-1.pgb")) | ANY_TEXT


@given(ADDRESSES, damaged(*plain(SERVING)) | TEXT, damaged(*plain(STAKE)) | TEXT, times=0.25)
@example("a\nb", '{"port": 6432, "processors": 2}', "")
@example("10.0.0.1", '{"port": 6432, "processors": 1' + "0" * 400 + "}", "")
@example("10.0.0.1", "", '{"held": -1000}')
def test_a_unit_that_talks_nonsense_does_not_stop_the_leader(begin, address, serving, stake):
    juju, done = begin("leader", lambda one: one.deploy().backend(), others=(1,))
    juju.client("shop-app", SHOP)
    peers = juju.relation("pgb-peers")
    data = {1: {"address": address, "serving": serving, "stake": stake}}
    juju.with_relation(dataclasses.replace(peers, peers_data=data))
    juju.emit(juju.context.on.relation_changed(juju.relation("pgb-peers"), remote_unit=1))
    all_is_said(juju)
    members = {one["name"]: one for one in juju.plan()["members"]}
    assert members[f"{APP}/1"]["address"] == address_in(address)
    assert "shop" in juju.databases()
    # Together they never have more than there are.
    assert sum(one["share"] for one in members.values()) <= 100
    done()


def with_secrets(juju):
    content = {key: f"{key}-of-ours" for key in _KEYS.values()}
    juju.change(secrets={testing.Secret(content, label=f"pgb-peers.{APP}.app", owner="app")})
    return juju.deploy().backend()


@given(st.sampled_from(list(LEFT)), damaged(*plain(PLAN, LEDGER)) | ANY_TEXT, times=0.25)
@example("plan", PLAN.model_dump_json().replace("10.0.0.1", "a\\nb"))
@example("plan", PLAN.model_dump_json().replace('"auth"', '"a\\nb"'))
def test_a_unit_runs_by_a_plan_that_it_can_read_and_by_no_other(begin, key, text):
    juju, done = begin("follower", with_secrets, leader=False, others=(1,))
    peers = juju.relation("pgb-peers")
    shared = LEFT | {key: text.replace("pgb/", f"{APP}/")}
    juju.with_relation(dataclasses.replace(peers, local_app_data=shared))
    juju.changed("pgb-peers")
    all_is_said(juju)
    if key != "plan":
        assert sorted(juju.databases()) == ["pgbouncer_auth", "shop", "shop_readonly"]
    done()


# ---- PostgreSQL's charm ----------------------------------------------------------------------
SECRET = {"username": "relation_id_7", "password": BACKEND_PASSWORD}
LOGIN = st.dictionaries(st.sampled_from(("username", "password", "tls")), ANY_TEXT, max_size=2)


@given(st.dictionaries(st.sampled_from(list(TOLD)) | TEXT, LISTS | ANY_TEXT), LOGIN, times=0.4)
@example({}, {"username": "a\nb"})
@example({}, {"username": "a "})
@example({}, {"password": "\ud800"})
@example({"database": "a\nb"}, {})
@example({"endpoints": "a..b:5432"}, {})
@example({"endpoints": ",".join(["h"] * 100_000)}, {})
@example({"read-only-endpoints": "[" + ":" * 100_000}, {})
@example({"version": "\x1b[2J"}, {})
@example({}, {"tls": "TRUE"})
def test_a_backend_is_used_or_the_status_says_what_is_wrong_with_it(begin, told, login):
    juju, done = begin("deployed", Juju.deploy)
    secret = testing.Secret(SECRET | login, id=TOLD["secret-user"], owner=None)
    juju.change(secrets={*juju.state.secrets, secret})
    juju.backend(TOLD | told, granted=False)
    text = all_is_said(juju)
    if not text.startswith("active"):
        assert text.startswith("blocked backend-database: ")
        assert juju.databases() == []
    assert BACKEND_PASSWORD not in text
    done()


def test_a_backend_that_was_of_use_stays_while_it_talks_nonsense(begin):
    juju, _ = begin("serving", lambda one: one.deploy().backend())
    shop = juju.client("shop-app", SHOP)
    relation, told = juju.relation("backend-database"), juju.told(shop)
    juju.with_relation(dataclasses.replace(relation, remote_app_data={"endpoints": HUGE[5]}))
    juju.backend_changed()
    all_is_said(juju)
    assert (juju.told(shop), juju.databases()) == (told, ["pgbouncer_auth", "shop"])
