"""Whole pools and users of a process, and whole reports of what a unit serves."""

import pytest
from plans import plan
from samples import but

from domain.operations import ALL
from domain.plan import Member, Plan, Serving
from domain.pools import (
    Part,
    Pool,
    PoolSizes,
    PoolUser,
    aliases_of,
    part_of,
    pool_sizes,
    pool_users,
    pools,
    serving,
)
from domain.settings import Settings, settings_from

PEM, OTHER = (
    f"-----BEGIN CERTIFICATE-----\n{letters}\n-----END CERTIFICATE-----"
    for letters in ("AAAA", "AAAB")
)
OVERRIDES = """{
  "databases": {"blog": {"pool_mode": "statement", "pool_size": 9, "max_connections": 12}},
  "users": {
    "ann": {"pool_mode": "session", "pool_size": 8, "max_connections": 21},
    "relation_id_4": {"pool_size": 5},
    "relation_id_6__2": {"max_connections": 3}
  }
}"""


def overridden(**changes):
    options = {"overrides": OVERRIDES, "max_db_connections": 100}
    settings, problems = settings_from(options)
    assert problems == ()
    known = plan(
        databases=("shop", "pgbouncer", "blog"),
        readers="10.1.0.3:5435,10.1.0.4:5436,10.1.0.5:5435",
        endpoints="10.1.0.1:5433,10.1.0.2:5433",
        short_lived=("shop",),
    )
    return but(known, settings=settings, **changes)


# The second process of the first of two units.
PART = Part(unit=0, units=2, process=1, processes=2, limit=25)
SERVER = {"hosts": ("10.1.0.1", "10.1.0.2"), "port": 5433}
REPLICAS = {"hosts": ("10.1.0.3", "10.1.0.5"), "port": 5435}


def look_up(alias, user, connections=2):
    return Pool(
        alias=alias, database="pgbouncer", connections=connections, size=connections,
        mode="transaction", standing=1, user=user, **SERVER,
    )  # fmt: skip


def test_the_pools_of_a_process_are_whole():
    blog = {"database": "blog", "size": 2, "mode": "statement"}
    assert pools(overridden(), PART) == (
        look_up("pgbouncer_auth", "auth"),
        Pool(alias="blog", connections=2, **blog, **SERVER),
        Pool(alias="blog_readonly", connections=1, **blog, **REPLICAS),
        Pool(alias="pgbouncer", database="pgbouncer", connections=15, **SERVER),
        Pool(alias="pgbouncer_readonly", database="pgbouncer", connections=8, **REPLICAS),
        Pool(alias="shop", database="shop", connections=17, lifetime=2, **SERVER),
        Pool(alias="shop_readonly", database="shop", connections=8, lifetime=2, **REPLICAS),
    )


def test_a_process_without_read_only_pools_has_all_connections_for_writes():
    known = overridden(databases=("blog", "shop"))
    known = but(known, upstream=but(known.upstream, former_auth_user="former"))
    assert pools(known, but(PART, readers=False, limit=1)) == (
        look_up("pgbouncer_auth", "auth", 1),
        look_up("pgbouncer_auth_2", "former", 1),
        Pool(alias="blog", database="blog", size=1, mode="statement", **SERVER),
        Pool(alias="shop", database="shop", lifetime=2, **SERVER),
    )


def test_the_other_name_of_look_ups_is_that_of_the_former_auth_user():
    known = plan()
    upstream = but(known.upstream, auth_alias="pgbouncer_auth_2", former_auth_user="former")
    found = pools(but(known, upstream=upstream))
    assert [(pool.alias, pool.user) for pool in found] == [
        ("pgbouncer_auth_2", "auth"), ("pgbouncer_auth", "former")
    ]  # fmt: skip
    (plain, _) = (pool.without_standing_connections() for pool in found)
    assert plain == but(found[0], standing=None, user="")


def test_users_with_an_override_have_it_under_both_of_their_names():
    known = overridden(known_users=("former", "relation_id_9"))
    assert pool_users(known, PART) == (
        PoolUser(name="ann", connections=5, size=2, mode="session"),
        PoolUser(name="former"),
        PoolUser(name="relation_id_4", size=1),
        PoolUser(name="relation_id_4__2", size=1),
        PoolUser(name="relation_id_6", connections=1),
        PoolUser(name="relation_id_6__2", connections=1),
        PoolUser(name="relation_id_9"),
        PoolUser(name="relation_id_9__2"),
    )
    assert pool_users(plan(), PART) == ()


@pytest.mark.parametrize(
    ("options", "limit", "expected"),
    [
        ({}, 25, (25, 0, 0)),
        ({}, 0, (20, 0, 0)),
        ({}, 2**18, (2**18 - 1, 0, 0)),
        ({"default_pool_size": 22}, 25, (5, 0, 0)),
        ({"default_pool_size": 1}, 25, (1, 0, 0)),
        ({"default_pool_size": 200}, 25, (25, 0, 0)),
        ({"default_pool_size": 22, "min_pool_size": 13, "reserve_pool_size": 14}, 25, (5, 3, 3)),
        ({"default_pool_size": 9, "min_pool_size": 30, "reserve_pool_size": 14}, 4, (2, 2, 2)),
        ({"default_pool_size": 9, "min_pool_size": 30, "reserve_pool_size": 14}, 0, (2, 2, 3)),
    ],
)
def test_sizes_of_pools_are_parts_of_the_options(options, limit, expected):
    default, minimum, reserve = expected
    sizes = PoolSizes(default=default, minimum=minimum, reserve=reserve)
    assert pool_sizes(Settings(**options), but(PART, limit=limit)) == sizes


@pytest.mark.parametrize(
    ("names", "unit", "expected"),
    [
        (("p/0", "p/1", "p/2"), "p/1", (1, 3)),
        (("p/0", "p/1", "p/2"), "p/7", (2, 3)),
        (("p/3",), "p/3", (0, 1)),
        ((), "p/3", (0, 1)),
    ],
)
def test_a_unit_has_its_place_among_the_members(names, unit, expected):
    members = tuple(Member(name=name, address="10.0.0.1") for name in names)
    known = Plan(settings=Settings(), members=members)
    place, units = expected
    part = Part(unit=place, units=units, process=4, processes=6, limit=9, readers=False)
    assert part_of(known, unit, 4, 6, 9, readers=False) == part
    assert part_of(known, unit, 4, 6, 9) == but(part, readers=True)


def test_all_parts_add_up_to_the_number():
    parts = [
        Part(unit=unit, units=3, process=process, processes=2)
        for unit in range(3)
        for process in range(2)
    ]
    assert [part.of(11) for part in parts] == [2, 2, 2, 2, 2, 1]
    assert [part.connections(3) for part in parts] == [1, 1, 1, 1, 1, 1]


def test_databases_are_reached_by_their_names_and_those_for_reads():
    long = "x" * 55
    known = plan(databases=("shop", long), readers="10.1.0.3:5435")
    assert aliases_of(known, ("shop", long)) == {"shop", "shop_readonly", long}
    assert aliases_of(known, (ALL,)) == {ALL}
    assert aliases_of(plan(), ("shop",)) == {"shop"}


# ---- reports ---------------------------------------------------------------------------------
def test_a_unit_reports_every_pool_for_clients():
    known = overridden(revision=7)
    names = ("blog", "blog_readonly", "pgbouncer", "pgbouncer_readonly", "shop", "shop_readonly")
    report = Serving(port=6432, databases=names, processors=3, revision=7)
    assert serving(known, 3) == report
    assert serving(known, 3, readers=False) == but(report, databases=names[::2])


def test_a_report_changes_in_what_a_unit_serves_and_nothing_else():
    report = Serving(port=6432, databases=("shop",), processors=3, revision=7)
    encrypted = report.encrypted((PEM,))
    assert encrypted == but(report, tls=True, authorities=(PEM,))
    assert encrypted.announcing((OTHER, PEM)) == but(encrypted, authorities=(PEM, OTHER))
    assert report.admitting(("ann",)) == but(report, certificate_users=("ann",))
    assert report.with_credentials(4, "auth") == but(report, credentials=4, auth_user="auth")
    assert [
        report.serves(database, port)
        for database, port in (("shop", 6432), ("shop", 7000), ("blog", 6432))
    ] == [True, False, False]


def test_a_plan_changes_in_what_is_asked_and_nothing_else():
    known = overridden(revision=7)
    assert known.without_upstream() == but(known, upstream=None, databases=(), short_lived=())
    settings = Settings(listen_port=7000)
    assert known.supporting(settings, ("ann",), ("blog",)) == but(
        known, settings=settings, known_users=("ann",), short_lived=("blog",)
    )
    assert known.disabling(["shop", "blog", "shop"]) == but(known, disabled=("blog", "shop"))
    assert [known.share_of(name) for name in ("pgb/0", "pgb/1", "pgb/2")] == [50, 50, 0]
    odd = plan(limit=101)
    assert [odd.share_of(name) for name in ("pgb/0", "pgb/1")] == [51, 50]
    assert (odd.serves_by("pgb/1"), odd.serves_by("pgb/2")) == (True, False)
    assert plan(limit=0).serves_by("pgb/2") is True
    changing = but(known, former_port=7000)
    assert (known.ports, changing.ports) == ((6432,), (6432, 7000))
    member = Member(name="pgb/9", address="", restarts=2)
    turns = but(known, members=(member,), restarts=5)
    assert (turns.restarts_of("pgb/9"), turns.restarts_of("pgb/0")) == (2, 5)
