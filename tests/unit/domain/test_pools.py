import pydantic
import pytest
from plans import plan

from domain.endpoints import MOST_ENDPOINTS, Endpoint, address_in, endpoints_in, endpoints_text
from domain.plan import AUTH_ALIASES, Member, Serving, share
from domain.pools import Part, has_read_only_pools, pools, serving
from domain.settings import Settings


# ---- endpoints -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("", []),
        (" , ,", []),
        ("db:5433", [("db", 5433)]),
        ("db", [("db", 5432)]),
        ("db:", [("db", 5432)]),
        ("db.model.svc.cluster.local.", [("db.model.svc.cluster.local.", 5432)]),
        ("10.0.0.1:5432, 10.0.0.2", [("10.0.0.1", 5432), ("10.0.0.2", 5432)]),
        ("[2001:db8::1]:5433", [("2001:db8::1", 5433)]),
        ("[2001:db8::1]", [("2001:db8::1", 5432)]),
        ("2001:db8::1", [("2001:db8::1", 5432)]),
    ],
)
def test_endpoints_are_read(text, endpoints):
    assert [(one.host, one.port) for one in endpoints_in(text)] == endpoints


@pytest.mark.parametrize(
    "text",
    [
        "db:0", "db:65536", "db:port", "db:-1", ":5432", "[::1", "[::1]5432x", "[fe80::1%eth0]:1",
        "a b:1", "db' host='evil:1", "db;x", "db\nhost=evil", "é:1", "[12:34]:5", "-db:1",
    ],
)  # fmt: skip
def test_what_is_no_endpoint_is_named(text):
    with pytest.raises(ValueError, match="is no endpoint"):
        endpoints_in(f"fine:5432,{text}")


def test_endpoints_travel_as_they_came():
    text = "db:5432,[2001:db8::1]:5433"
    assert endpoints_text(endpoints_in(text)) == text


# ---- pools -----------------------------------------------------------------------------------
def test_without_a_server_there_are_no_pools():
    assert pools(plan(databases=("shop",)).without_upstream()) == ()


def test_every_database_leads_to_its_server_once():
    found = {pool.alias: pool for pool in pools(plan(databases=("shop", "blog", "shop")))}
    assert list(found) == [AUTH_ALIASES[0], "blog", "shop"]
    assert (found["shop"].hosts, found["shop"].port, found["shop"].database) == (
        ("10.1.0.1",), 5432, "shop",
    )  # fmt: skip
    assert found[AUTH_ALIASES[0]].database == "pgbouncer"
    assert found[AUTH_ALIASES[0]].connections == 2


def test_replicas_answer_under_a_name_of_their_own():
    found = {pool.alias: pool for pool in pools(plan(databases=("shop",), readers="r1,r2"))}
    assert found["shop_readonly"].hosts == ("r1", "r2")
    assert found["shop_readonly"].database == "shop"


@pytest.mark.parametrize(("limit", "there"), [(0, True), (7, False), (8, True)])
def test_replicas_take_four_connections_of_every_unit_or_there_is_no_limit(limit, there):
    assert has_read_only_pools(plan(units=2, limit=limit, readers="r1")) is there


@pytest.mark.parametrize(
    ("limit", "look_ups", "shop", "readers"), [(0, 2, None, None), (1, 1, 1, 1), (9, 2, 6, 3)]
)
def test_pools_that_lead_to_one_database_divide_what_a_process_may_have(
    limit, look_ups, shop, readers
):
    shared = plan(databases=("shop",), readers="r1", limit=100)
    found = {pool.alias: pool.connections for pool in pools(shared, Part(limit=limit))}
    assert found == {AUTH_ALIASES[0]: look_ups, "shop": shop, "shop_readonly": readers}


def test_the_database_in_which_passwords_are_looked_up_has_less_for_clients():
    shared = plan(databases=("pgbouncer", "shop"))
    found = {pool.alias: pool.connections for pool in pools(shared, Part(limit=9))}
    assert found == {AUTH_ALIASES[0]: 2, "pgbouncer": 7, "shop": None}


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_look_ups_are_in_transaction_mode_whatever_the_mode_of_clients(mode):
    shared = plan(databases=("shop",))
    shared = shared.model_copy(update={"settings": Settings(pool_mode=mode)})
    found = {pool.alias: pool.mode for pool in pools(shared)}
    assert found == {AUTH_ALIASES[0]: "transaction", "shop": None}


@pytest.mark.parametrize(("length", "has_one"), [(54, True), (55, False), (63, False)])
def test_a_name_that_is_too_long_for_the_suffix_has_no_replicas(length, has_one):
    aliases = [pool.alias for pool in pools(plan(databases=("x" * length,), readers="r1"))]
    assert ("x" * length + "_readonly" in aliases) is has_one


def test_a_plan_of_an_earlier_release_opens_no_pool_for_any_name():
    found = pools(plan(databases=("shop",), any_database=True))
    assert [pool.alias for pool in found] == [AUTH_ALIASES[0], "shop"]


@pytest.mark.parametrize(
    ("server_lifetime", "lifetime"), [(3600, 2), (3, 2), (2, None), (0, None)]
)
def test_a_database_that_a_client_made_is_soon_without_connections(server_lifetime, lifetime):
    told = plan(databases=("shop", "test_shop"), short_lived=("test_shop",), readers="r1")
    settings = told.settings.model_copy(update={"server_lifetime": server_lifetime})
    found = pools(told.model_copy(update={"settings": settings}))
    assert {pool.alias: pool.lifetime for pool in found} == {
        AUTH_ALIASES[0]: None,
        "shop": None,
        "shop_readonly": None,
        "test_shop": lifetime,
        "test_shop_readonly": lifetime,
    }


def test_hosts_of_another_port_cannot_share_a_pool():
    shop = pools(plan(databases=("shop",), endpoints="a:1,b:2,c:1"))[1]
    assert (shop.hosts, shop.port) == (("a", "c"), 1)


# ---- budgets ---------------------------------------------------------------------------------
@pytest.mark.parametrize("total", range(12))
@pytest.mark.parametrize("parts", range(1, 6))
def test_shares_add_up_and_differ_by_one_at_most(total, parts):
    shares = [share(total, parts, index) for index in range(parts)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


# ---- serving ---------------------------------------------------------------------------------
def test_a_unit_serves_what_it_is_told_but_not_the_look_up_of_passwords():
    now = serving(plan(databases=("shop",), readers="r"), 2)
    served = ("shop", "shop_readonly")
    assert now == Serving(port=6432, databases=served, processors=2, revision=0)
    assert now.serves("shop", 6432)
    assert not now.serves("shop", 7000)
    assert not now.serves("blog", 6432)
    assert not serving(plan(any_database=True), 1).serves("blog", 6432)


def test_a_plan_without_a_server_serves_nothing_and_keeps_the_rest():
    told = plan(databases=("shop",), short_lived=("shop",))
    less = told.without_upstream()
    assert (less.upstream, less.databases, less.short_lived) == (None, (), ())
    assert (less.settings, less.members) == (told.settings, told.members)


def test_one_connection_is_enough_to_serve_by():
    assert plan(1, limit=1).serves_by("pgb/0")
    assert not plan(2, limit=1).serves_by("pgb/1")
    assert plan(2, limit=0).serves_by("pgb/7")


@pytest.mark.parametrize(
    "text",
    ["a..b", "x" * 64 + ".com", ".".join(["x" * 63] * 4), "[" + ":" * 300, "h" * 1000, "h:0"],
)
def test_an_address_that_no_look_up_takes_is_no_endpoint(text):
    assert address_in(text) == ""
    with pytest.raises(ValueError, match=r"is no endpoint$"):
        endpoints_in(text)


def test_the_longest_name_that_a_look_up_takes_is_an_address():
    longest = ".".join(["x" * 63] * 3 + ["x" * 61])
    assert address_in(longest) == longest
    assert address_in(longest + "x") == ""


def test_there_are_not_more_endpoints_than_can_be_asked():
    assert len(endpoints_in(",".join(["h"] * MOST_ENDPOINTS))) == MOST_ENDPOINTS
    with pytest.raises(ValueError, match=r"^there are 65 endpoints: 64 are the most$"):
        endpoints_in(",".join(["h"] * (MOST_ENDPOINTS + 1)))


@pytest.mark.parametrize("address", ["a b", "a\nb", "x,y", "fe80::1%eth0"])
def test_a_plan_sends_nobody_where_there_is_no_address(address):
    assert Member(name="pgb/0", address="").address == ""
    with pytest.raises(pydantic.ValidationError, match="error, no host"):
        Member(name="pgb/0", address=address)
    with pytest.raises(pydantic.ValidationError, match="error, no host"):
        Endpoint(host=address, port=5432)


def test_an_address_is_one_or_it_is_unknown():
    assert address_in("10.0.0.1") == "10.0.0.1"
    assert address_in("pgb-1.pgb") == "pgb-1.pgb"
    assert address_in("a b") == ""
