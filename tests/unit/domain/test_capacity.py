import pytest
from in_memory import related, worst
from plans import plan

from domain.capacity import demand
from domain.pools import Member
from domain.status import Level, Sentence, assess


def demanded(users=1, *, units=2, processors=2, limit=100, databases=("shop",), **options):
    members = tuple(
        Member(name=f"pgb/{n}", address=f"10.0.0.{n}", processors=processors, share=limit // units)
        for n in range(units)
    )
    made = plan(units, limit=limit, databases=databases)
    settings = made.settings.model_copy(update=options)
    return demand(made.model_copy(update={"members": members, "settings": settings}), users)


def test_each_database_may_take_the_limit_and_each_process_looks_up():
    found = demanded(databases=("shop", "blog"))
    assert (found.total, found.look_ups) == (208, 8)


def test_a_process_with_a_small_limit_looks_up_with_fewer_connections():
    assert demanded(units=1, limit=1, processors=1).look_ups == 1


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({}, 3 * 20 * 4 + 8),
        ({"default_pool_size": 10}, 3 * 10 + 8),
        ({"default_pool_size": 10, "reserve_pool_size": 5}, 3 * 15 + 8),
    ],
)
def test_without_a_limit_each_user_may_fill_its_pools(options, total):
    assert demanded(3, limit=0, **options).total == total


@pytest.mark.parametrize(("capacity", "limit"), [(97, 46), (8, 2), (5, 0), (1, 0)])
def test_the_largest_limit_leaves_connections_for_look_ups(capacity, limit):
    found = demanded(databases=("shop", "blog"), units=1, processors=2, limit=100)
    assert (found.look_ups, found.largest_limit(capacity)) == (4, limit)


def test_without_a_client_nothing_is_demanded_but_look_ups():
    assert demanded(0, databases=()).largest_limit(97) == 89


def sentence(capacity):
    platform = related(units=2, cpus=1)
    platform.server.capacity = capacity
    platform.relate("shop", "shop")
    return worst(platform.leader)


@pytest.mark.parametrize(
    ("capacity", "said"),
    [
        (104, ""),
        (
            97,
            "the pools may open 104 connections and PostgreSQL accepts 97:"
            " lower max_db_connections to 93, or raise max_connections of PostgreSQL",
        ),
        (
            5,
            "the pools may open 104 connections and PostgreSQL accepts 5:"
            " raise max_connections of PostgreSQL",
        ),
    ],
)
def test_a_demand_above_what_postgresql_accepts_is_told(capacity, said):
    assert sentence(capacity) == Sentence(level=Level.ACTIVE, text=said)


def test_what_a_release_before_did_not_record_is_not_told():
    platform = related()
    ledger = platform.model.ledger.model_copy(update={"capacity": 0})
    facts = platform.leader.read().model_copy(update={"ledger": ledger})
    assert assess(facts) == (Sentence(level=Level.ACTIVE),)


def test_while_no_server_is_known_no_demand_is_told():
    platform = related()
    ledger = platform.model.ledger.model_copy(update={"capacity": 1})
    bare = platform.model.plan.without_upstream()
    facts = platform.leader.read().model_copy(update={"ledger": ledger, "plan": bare})
    assert not [one for one in assess(facts) if "connections" in one.text]
