"""How do options and overrides get from the operator to each process?"""

import pytest
from in_memory import related, settings_of
from plans import plan
from samples import AUTH

from domain.capabilities import PgBouncerRuntime, Version
from domain.console import first_line_not_applied
from domain.instances import Layout, pooler_config
from domain.overrides import overrides_in
from domain.planning import plan as decide
from domain.pools import WHOLE, Part, PoolSizes, part_of, pool_sizes, pool_users, pools
from domain.process import Process
from domain.settings import Settings
from domain.status import assess

NOW = Version(1, 24, 1)


def tuned(text="", *, known=(), readers="", databases=("shop", "blog"), **options):
    """A plan without a limit, with these options and overrides."""
    settings = Settings.model_validate({"max_db_connections": 0, "overrides": text, **options})
    shared = plan(1, limit=0, readers=readers, databases=databases)
    return shared.model_copy(update={"settings": settings, "known_users": known})


def config(shared, *, version=NOW, cpus=2, run=None):
    layout = Layout(root="/var/lib/pgbouncer")
    program = PgBouncerRuntime(version=version, cpus=cpus)
    return pooler_config(shared, "pgb/0", program, layout, AUTH, run)


def written(shared, **how):
    return dict(config(shared, **how).instances[0].settings)


# ---- parts -----------------------------------------------------------------------------------
@pytest.mark.parametrize("total", [0, 1, 2, 7, 100, 101])
@pytest.mark.parametrize(("units", "processes"), [(1, 1), (2, 1), (3, 4), (5, 16)])
def test_parts_add_up_to_the_whole_and_differ_by_two_at_most(total, units, processes):
    parts = [
        Part(unit=unit, units=units, process=process, processes=processes).of(total)
        for unit in range(units)
        for process in range(processes)
    ]
    assert sum(parts) == total
    assert max(parts) - min(parts) <= 2


@pytest.mark.parametrize(
    ("limit", "total", "connections"), [(0, 0, 1), (0, 9, 9), (5, 9, 5), (5, 3, 3), (5, 0, 1)]
)
def test_a_part_of_connections_is_one_at_least_and_within_the_limit(limit, total, connections):
    assert Part(limit=limit).connections(total) == connections


def test_a_stranger_to_the_plan_comes_last():
    shared = plan(3)
    assert part_of(shared, "pgb/1", 0, 2, 5) == Part(unit=1, units=3, processes=2, limit=5)
    assert part_of(shared, "pgb/9", 0, 2, 5).unit == 2
    assert part_of(plan(0), "pgb/9", 0, 2, 5) == Part(processes=2, limit=5)


def test_a_process_that_runs_before_its_siblings_has_its_own_part():
    shared = tuned(default_pool_size=7)
    second = (Process(index=1, port=6432, limit=0),)
    assert written(shared)["default_pool_size"] == "4"
    assert written(shared, run=second)["default_pool_size"] == "3"


# ---- sizes -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "limit", "sizes"),
    [
        # Left alone: whatever the limit allows.
        ({}, 10, (10, 0, 0)),
        ({}, 0, (20, 0, 0)),
        ({}, 2**31 - 1, (262143, 0, 0)),
        # Told: shared by two processes, of which this is the first.
        ({"default_pool_size": 7}, 10, (4, 0, 0)),
        ({"default_pool_size": 7}, 0, (4, 0, 0)),
        ({"default_pool_size": 1}, 10, (1, 0, 0)),
        ({"default_pool_size": 99}, 10, (10, 0, 0)),
        ({"min_pool_size": 3}, 10, (10, 2, 0)),
        ({"min_pool_size": 99}, 10, (10, 10, 0)),
        ({"default_pool_size": 4, "min_pool_size": 99}, 10, (2, 2, 0)),
        # A reserve takes what the limit leaves.
        ({"reserve_pool_size": 6}, 10, (10, 0, 0)),
        ({"reserve_pool_size": 6}, 0, (20, 0, 3)),
        ({"default_pool_size": 8, "reserve_pool_size": 6}, 10, (4, 0, 3)),
        ({"default_pool_size": 18, "reserve_pool_size": 6}, 10, (9, 0, 1)),
    ],
)
def test_sizes_are_shared_and_stay_within_the_limit(options, limit, sizes):
    found = pool_sizes(Settings(**options), Part(processes=2, limit=limit))
    default, minimum, reserve = sizes
    assert found == PoolSizes(default=default, minimum=minimum, reserve=reserve)


def test_a_number_too_small_for_all_leaves_some_without():
    parts = [Part(process=process, processes=3, limit=5) for process in range(3)]
    settings = Settings(default_pool_size=1, min_pool_size=1, reserve_pool_size=1)
    found = [pool_sizes(settings, part) for part in parts]
    assert [one.default for one in found] == [1, 1, 1]
    assert [one.minimum for one in found] == [1, 0, 0]
    assert [one.reserve for one in found] == [1, 0, 0]


# ---- times -----------------------------------------------------------------------------------
def test_times_left_alone_are_those_of_pgbouncer():
    found = written(tuned())
    assert {name: found[name] for name in TIMES} == TIMES


TIMES = {
    "query_wait_timeout": "120",
    "query_timeout": "0",
    "idle_transaction_timeout": "0",
    "client_idle_timeout": "0",
    "server_idle_timeout": "600",
    "server_lifetime": "3600",
}


@pytest.mark.parametrize("name", TIMES)
def test_a_time_is_written_as_it_was_given(name):
    assert written(tuned(**{name: 77}))[name] == "77"


@pytest.mark.parametrize(
    ("shown", "refused"),
    [
        ("2.14748e+09", ""),
        ("3600", "server_lifetime = 2147483647"),
        ("", "server_lifetime = 2147483647"),
    ],
)
def test_a_long_time_is_recognised_though_pgbouncer_rounds_it(shown, refused):
    (instance,) = config(tuned(server_lifetime=2**31 - 1), cpus=1).instances
    aliases = [pool.alias for pool in instance.pools]
    assert first_line_not_applied(instance, {"server_lifetime": shown}, aliases) == refused


@pytest.mark.parametrize("wait", [0, 1, 61, 2**31 - 1])
def test_no_option_lets_a_login_take_more_than_a_minute(wait):
    found = written(tuned(query_wait_timeout=wait))
    assert (found["client_login_timeout"], found["query_wait_timeout"]) == ("60", str(wait))


def test_a_packet_is_as_large_as_the_option_says():
    assert written(tuned())["max_packet_size"] == str(64 * 2**20)
    assert written(tuned(max_packet_size=2**20))["max_packet_size"] == str(2**20)


@pytest.mark.parametrize(
    ("version", "limit"), [(Version(1, 23, 1), None), (Version(1, 24), "7500"), (NOW, "7500")]
)
def test_no_user_or_database_takes_every_place_of_a_process(version, limit):
    found = written(tuned(), version=version)
    for name in ("max_user_client_connections", "max_db_client_connections"):
        assert found.get(name) == limit


@pytest.mark.parametrize("version", [Version(1, 21), NOW, Version(1, 26, 1)])
def test_startup_settings_have_the_same_answer_in_both_spellings(version):
    found = written(tuned(), version=version)
    # The trailing comma holds CVE-2026-107349; `options` must not be dropped.
    assert found["ignore_startup_parameters"] == "extra_float_digits,"


def test_a_server_that_was_away_is_tried_again_soon():
    found = written(tuned())
    assert (found["server_login_retry"], found["server_connect_timeout"]) == ("1", "5")


# ---- overrides -------------------------------------------------------------------------------
def lines(shared, part=WHOLE):
    found = pools(shared, part)
    return {pool.alias: (pool.mode, pool.size, pool.connections) for pool in found}


SHOP = '{"databases": {"shop": {"pool_mode": "statement", "pool_size": 8, "max_connections": 9}}}'


def test_a_database_has_what_is_its_own_and_the_others_do_not():
    assert lines(tuned(SHOP)) == {
        "pgbouncer_auth": ("transaction", 2, 2),
        "blog": (None, None, None),
        "shop": ("statement", 8, 9),
    }


def test_its_read_only_pool_has_a_share_of_it():
    assert lines(tuned(SHOP, readers="r1", databases=("shop",))) == {
        "pgbouncer_auth": ("transaction", 2, 2),
        "shop": ("statement", 8, 6),
        "shop_readonly": ("statement", 8, 3),
    }


@pytest.mark.parametrize(
    ("limit", "processes", "shop"),
    [
        (5, 1, ("statement", 5, None)),
        (9, 1, ("statement", 8, None)),
        (20, 1, ("statement", 8, 9)),
        (20, 2, ("statement", 4, 5)),
        (20, 16, ("statement", 1, 1)),
    ],
)
def test_the_smaller_limit_wins(limit, processes, shop):
    found = lines(tuned(SHOP), Part(processes=processes, limit=limit))
    assert found["shop"] == shop
    assert found["blog"] == (None, None, None)


def test_a_database_that_nobody_uses_gets_no_line():
    assert set(lines(tuned(SHOP, databases=()))) == {"pgbouncer_auth"}


USERS = (
    '{"users": {"relation_id_7": {"pool_mode": "session", "max_connections": 5},'
    ' "relation_id_8": {"pool_size": 4}}}'
)


def users(shared, part=WHOLE):
    return [(one.name, one.mode, one.size, one.connections) for one in pool_users(shared, part)]


def test_a_user_has_what_is_its_own():
    both = users(tuned(USERS))
    assert [user for user in both if not user[0].endswith("__2")] == [
        ("relation_id_7", "session", None, 5),
        ("relation_id_8", None, 4, None),
    ]
    part = users(tuned(USERS), Part(processes=4, process=3, limit=3))
    assert [user for user in part if not user[0].endswith("__2")] == [
        ("relation_id_7", "session", None, 1),
        ("relation_id_8", None, 1, None),
    ]


def test_a_client_has_what_is_its_own_by_both_of_its_names():
    found = {name: rest for name, *rest in users(tuned(USERS))}
    assert found["relation_id_7__2"] == found["relation_id_7"]
    assert found["relation_id_8__2"] == found["relation_id_8"]
    named = USERS.replace("relation_id_8", "relation_id_7__2")
    own = {name: rest for name, *rest in users(tuned(named))}
    assert own == {
        "relation_id_7": ["session", None, 5],
        "relation_id_7__2": [None, 4, None],
    }
    other = USERS.replace("relation_id_7", "admin")
    assert "admin__2" not in {name for name, *_ in users(tuned(other))}


def test_a_user_that_had_something_is_told_that_it_has_nothing():
    assert users(tuned(known=("relation_id_3",))) == [
        ("relation_id_3", None, None, None),
        ("relation_id_3__2", None, None, None),
    ]
    assert config(tuned(known=("relation_id_3",))).instances[0].users[0].name == "relation_id_3"


@pytest.mark.parametrize(("version", "told"), [(Version(1, 22), 0), (Version(1, 23), 2), (NOW, 2)])
def test_only_a_pgbouncer_that_knows_settings_of_users_is_told_of_them(version, told):
    (instance,) = config(tuned(known=("relation_id_3",)), version=version, cpus=1).instances
    assert len(instance.users) == told


def test_whoever_had_something_is_remembered():
    facts = related(units=1).leader.read()
    wanted = Settings(overrides=overrides_in(USERS))
    first = decide(facts.model_copy(update={"settings": wanted}))
    assert first.known_users == ("relation_id_7", "relation_id_8")
    again = decide(facts.model_copy(update={"settings": Settings(), "plan": first}))
    assert again.known_users == first.known_users
    assert type(again).model_validate_json(first.model_dump_json()) == first


# ---- an older PgBouncer ----------------------------------------------------------------------
ALL = SHOP[:-1] + ", " + USERS[1:]


def test_what_it_lacks_is_not_written_and_all_else_is():
    old = config(tuned(ALL, known=("relation_id_3",)), version=Version(1, 21)).instances[0]
    assert old.users == ()
    assert {(pool.alias, pool.mode, pool.size) for pool in old.pools} == {
        ("pgbouncer_auth", "transaction", 2), ("blog", None, None), ("shop", "statement", 4),
    }  # fmt: skip


@pytest.mark.parametrize(("version", "lifetime"), [(Version(1, 22), None), (NOW, 2)])
def test_a_database_has_its_own_lifetime_where_pgbouncer_can(version, lifetime):
    shared = tuned().model_copy(update={"short_lived": ("shop",)})
    (instance,) = config(shared, version=version, cpus=1).instances
    found = {pool.alias: pool.lifetime for pool in instance.pools}
    assert found == {"pgbouncer_auth": None, "blog": None, "shop": lifetime}


@pytest.mark.parametrize(
    ("version", "count"),
    [(Version(1, 21), 1), (Version(1, 22), 1), (Version(1, 23), 0), (None, 0)],
)
def test_the_status_says_what_it_lacks(version, count):
    facts = related(units=1).leader.read()
    settings = Settings(overrides=overrides_in(ALL))
    facts = facts.model_copy(
        update={
            "plan": facts.plan.model_copy(update={"settings": settings}),
            "container": facts.container.model_copy(
                update={"program": version and PgBouncerRuntime(version=version)}
            ),
        }
    )
    said = [one.text for one in assess(facts) if "overrides" in one.text]
    assert len(said) == count
    assert all("or later: 1.2" in text for text in said)


# ---- from the option to the file --------------------------------------------------------------
def test_options_reach_every_process():
    platform = related(units=1)
    platform.model.options = {"query_wait_timeout": 30, "server_lifetime": 0, "overrides": USERS}
    platform.leader.config_changed()
    found = settings_of(platform.leader)
    assert (found["query_wait_timeout"], found["server_lifetime"]) == ("30", "0")
    assert [one.name for one in platform.leader.pooler.config.instances[0].users] == [
        "relation_id_7",
        "relation_id_7__2",
        "relation_id_8",
        "relation_id_8__2",
    ]
