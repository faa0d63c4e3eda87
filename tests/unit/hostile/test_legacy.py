"""Whatever clients at `db` and `db-admin` write, the hook ends well, and other clients are served."""

import shutil

import pytest
from hostile.inputs import ANY_TEXT, HUGE, NAMES, TEXT, a_sentence, damaged
from hypothesis import example
from hypothesis import strategies as st
from on_juju import V0, Juju
from profiles import given

from adapters.juju import databags, legacy
from adapters.pgbouncer import rendering
from domain.endpoints import endpoints_in
from domain.roles import ROLES
from domain.users import Login, Offer

ENDPOINTS = st.sampled_from(("db", "db-admin"))
KEYS = ("database", "roles", "extensions", "egress-subnets", "master", "user", "password")
DATABAG = st.dictionaries(st.sampled_from(KEYS) | TEXT, NAMES | ANY_TEXT, max_size=4)
VERSIONS = st.sampled_from(("", "14.12", "16.4")) | TEXT


@given(ENDPOINTS, st.lists(DATABAG, max_size=3), VERSIONS)
@example("db", [{"database": "shop", "extensions": HUGE[1]}], "")
@example("db", [{"database": "shop", "extensions": "\ud800,é:x, ,"}], "")
@example("db", [{"database": "shop", "extensions": "a," * 5000}], "")
@example("db", [{"database": "shop", "roles": "\ud800"}], "")
@example("db-admin", [{"database": "\ud800"}], "9" * 400)
def test_a_request_is_understood_or_refused_in_a_sentence(endpoint, remote, version):
    found = legacy.asked(7, "mean-app", endpoint, remote, version, None)
    assert len(found.clients) + len(found.refusals) <= 1
    for refusal in found.refusals:
        assert a_sentence(refusal.reason)
    for client in found.clients:
        assert rendering.alias(client.request.database)
        assert ROLES.issuperset(client.request.roles)
        # What is repeated to the client is what the client wrote.
        asked = legacy.request_in(remote)
        assert asked["database"] == client.request.database
        assert all(text.encode() is not None for text in asked.values())


@given(st.dictionaries(st.just("mean-app/0") | st.just("mean-app/1"), DATABAG))
@example({"mean-app/0": {"egress-subnets": HUGE[6]}})
@example({"mean-app/0": {"egress-subnets": "10.0.0.0/8, \ud800,a b,\n"}})
def test_only_texts_that_may_be_networks_are_repeated(units):
    found = legacy.allowed(units)
    assert found["allowed-units"].split() == sorted(units)
    networks = found["allowed-subnets"].split(",")
    assert networks == sorted(set(networks))
    assert all(network.isascii() and " " not in network for network in networks)


GOOD = {
    "username": "relation_id_7",
    "secret": "secret:a",
    "offer": {"database": "shop", "endpoints": "pool:6432", "read_only_endpoints": "pool:6432",
              "read_only_alias": "shop_readonly", "version": "16.4"},
}  # fmt: skip
LOGIN = Login(username="relation_id_7", password="letters")


@given(damaged({"clients": [GOOD]}) | ANY_TEXT)
@example(
    '{"clients":[{"username":"relation_id_7","secret":"","offer":{"database":"a","endpoints":""}}]}'
)
def test_offers_that_were_read_can_be_repeated(text):
    found = databags.read_peer_value({"legacy": text}, "legacy", legacy.PublishedOffers)
    for known in found.clients if found else ():
        fields = legacy.connection("mean-app", known.offer, LOGIN)
        assert fields["master"].startswith("host=")


HOSTS = st.sampled_from(("pool", "10.0.0.1", "[fd00::1]", "pool-service.dev.svc.cluster.local"))


@given(HOSTS, st.integers(1, 65535), NAMES)
def test_a_connection_string_is_split_at_single_spaces(host, port, database):
    offer = Offer(database=database, endpoints=f"{host}:{port},other:1")
    fields = legacy.connection("app", offer, LOGIN)
    pairs = dict(pair.split("=", 1) for pair in fields["master"].split(" "))
    (first, _) = endpoints_in(offer.endpoints)
    assert (pairs["host"], pairs["port"], pairs["dbname"]) == (first.host, str(port), database)
    assert (pairs["user"], pairs["password"]) == ("relation_id_7", "letters")
    assert "'" not in fields["master"]


@pytest.fixture
def begin(tmp_path):
    """Return a function that copies a unit that serves a client at `db`."""
    ready = Juju(tmp_path / "ready").deploy().backend()
    ready.client("shop-app", {"database": "shop"}, endpoint="db")
    numbers = iter(range(1_000_000))

    def copy():
        folder = tmp_path / f"copy-{next(numbers)}"
        return ready.copy(folder), lambda: shutil.rmtree(folder)

    return copy


@given(ENDPOINTS, DATABAG, DATABAG, times=0.25)
@example("db", {"database": "it's"}, {})
@example("db", {}, {"database": "\ud800", "egress-subnets": "\ud800"})
@example("db-admin", {"database": HUGE[1]}, {"egress-subnets": HUGE[6]})
@example("db", {"database": "blog"}, {"egress-subnets": "10.0.0.0/8,\ud800"})
@example("db", {"database": "blog", "extensions": HUGE[8]}, {})
def test_a_hostile_client_is_named_and_honest_clients_are_served(begin, endpoint, app, unit):
    juju, done = begin()
    stranger = juju.client("mean-app", app, endpoint=endpoint, unit_asks=unit)
    honest = juju.client("blog-app", {"database": "honest", **V0})
    status = juju.status
    assert a_sentence(status)
    assert status.startswith(
        ("active shop-app (relation 11) ", f"blocked mean-app (relation {stranger})")
    )
    assert juju.told(honest)["username"] == f"relation_id_{honest}"
    assert juju.relation(11).local_unit_data["user"] == "relation_id_11"
    done()
