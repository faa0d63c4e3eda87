"""`pooler` is killed in the middle of what it does: the next command ends where an undisturbed one ends."""

import itertools

import psycopg
import pytest
from crash_cli import MortalPooler, differences, end_state, processes
from platform_under_test import value

# What is done, and what takes it back; {port} is the platform's, {next} the one after.
VERBS = {
    "relate": ("relate shop", "unrelate shop"),
    "another limit": ("config max_db_connections=40", "config max_db_connections=100"),
    "another port": ("config listen_port={next}", "config listen_port={port}"),
    "scale": ("scale 3", "scale 2"),
    "restart": ("restart", "restart"),
    "pause": ("pause", "resume"),
    "down and up": ("down", "up"),
}
# What these do, others do, too: only where there is time.
LATER = ("another limit", "restart")
DONE_ALREADY = "is not related"


def pytest_generate_tests(metafunc):
    if "name" in metafunc.fixturenames:
        some = [
            one for one in VERBS if one not in LATER or metafunc.config.getoption("--points") > 1
        ]
        metafunc.parametrize("name", some)


@pytest.fixture(scope="module")
def points(request):
    """At how many points of each verb."""
    return request.config.getoption("--points")


@pytest.fixture(scope="module")
def pooler():
    pooler = MortalPooler()
    try:
        pooler.effects_of_up = pooler.effects("up", "--units", "2", f"listen_port={pooler.port}")
        pooler.first = end_state(pooler)
        with pooler.client("demo") as connection:
            connection.execute("create table kept (number int)")
        yield pooler
    finally:
        pooler.close()


def chosen(effects, points):
    """Numbers of effects, spread evenly."""
    points = min(points, len(effects))
    return sorted({1 + (2 * one + 1) * len(effects) // (2 * points) for one in range(points)})


def test_a_verb_that_was_killed_ends_where_it_would_have_ended(pooler, points, name):
    demo, wrong = pooler.credentials("demo"), []
    undisturbed = []
    for verb in VERBS[name]:
        words = verb.format(port=pooler.port, next=pooler.port + 1).split()
        undisturbed.append((words, pooler.effects(*words), end_state(pooler)))
    for numbers in itertools.zip_longest(
        *(chosen(effects, points) for _, effects, _ in undisturbed), fillvalue=1
    ):
        for number, (words, _, after), (_, _, before) in zip(
            numbers, undisturbed, reversed(undisturbed), strict=True
        ):
            where = f"{words} died before {number}, {pooler.dies(number, *words)}"
            if number % 2 and words[0] != "down":
                pooler("up")
                found = end_state(pooler)
                if (apart := differences(found, after)) and differences(found, before):
                    wrong.append(f"{where}, then `up`: {apart}")
            done(pooler, words, where)
            if apart := differences(end_state(pooler), after):
                wrong.append(f"{where}: {apart}")
        goes_on(pooler, demo)
    assert not wrong, "\n".join(wrong)


def done(pooler, words, where):
    again = pooler.run(*words)
    assert again.returncode == 0 or DONE_ALREADY in again.stderr, (
        f"{where}: {again.stdout}{again.stderr}"
    )


def goes_on(pooler, told):
    """Who was told once how to connect still can, on every unit, and finds what was written."""
    login = {key: told[key] for key in ("password",)} | {
        "user": told["username"], "dbname": told["database"], "connect_timeout": 5, "autocommit": True,
    }  # fmt: skip
    for unit in pooler.state()["model"]["units"].values():
        with psycopg.connect(host=unit["address"], port=pooler.port, **login) as connection:
            before = value(connection, "select count(*) from kept")
            connection.execute("insert into kept values (1)")
            assert value(connection, "select count(*) from kept") == before + 1


def test_a_first_up_that_was_killed_ends_where_it_would_have_ended(pooler, points, fresh):
    for number in chosen(pooler.effects_of_up, points):
        where = fresh.dies(number, "up", "--units", "2", f"listen_port={fresh.port}")
        fresh.up()
        assert not differences(end_state(fresh), pooler.first), f"died before {number}, {where}"
        fresh.delete()


def test_a_down_that_was_killed_is_no_trap(fresh, points):
    """PostgreSQL's data goes last of all that can be gone on with: half of it would start no more."""
    fresh.up()
    for number in range(300, 1500, 1500 // points):
        where = fresh.dies(number, "down", "--delete", "--yes")
        assert where, f"it was done before effect {number}"
        fresh.up()
        with fresh.client("demo") as connection:
            assert value(connection, "select 42") == 42, f"died before {number}, {where}"
    assert fresh.dies(number, "down", "--delete", "--yes")
    fresh.delete()
    assert not fresh.home.exists()
    assert not processes(fresh.home)
