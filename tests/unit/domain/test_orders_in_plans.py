"""Plans before and after each order of an operator."""

import pytest
from in_memory import deployed
from plans import plan
from samples import but

from domain import orders
from domain.facts import Peer
from domain.operations import (
    ALL,
    ClientSession,
    Holder,
    KillOrder,
    Operations,
    Pause,
    clients_to_kill,
)  # fmt: skip


def paused(*pauses, **changes):
    return plan(databases=("blog", "shop"), paused=pauses, **changes)


def refusal(order, *arguments):
    """Return the sentence with which an order is refused."""
    with pytest.raises(orders.OrderRefused) as refused:
        order(*arguments)
    return str(refused.value)


UNKNOWN = "there is no database 'wiki': there are blog, shop"


# ---- pauses ----------------------------------------------------------------------------------
LASTING, PASSING = Pause(database="shop", since=5), Pause(database="shop", since=5, until=90)
EVERY = Pause(database=ALL, since=6, until=80)


@pytest.mark.parametrize(
    ("before", "database", "timeout", "after"),
    [
        ((), "shop", 0, (Pause(database="shop", since=70),)),
        ((), "shop", 30, (Pause(database="shop", since=70, until=100),)),
        ((), ALL, 1, (Pause(database=ALL, since=70, until=71),)),
        ((LASTING,), "blog", 30, (LASTING, Pause(database="blog", since=70, until=100))),
        ((PASSING,), "blog", 0, (PASSING, Pause(database="blog", since=70))),
        # Only a pause that may be taken back stays out of a pause of all databases.
        ((LASTING,), ALL, 30, (LASTING, Pause(database=ALL, since=70, until=100))),
        ((PASSING,), ALL, 30, (Pause(database=ALL, since=70, until=100),)),
        ((LASTING,), "shop", 30, (LASTING,)),
        ((EVERY,), "shop", 30, (EVERY,)),
        ((EVERY,), ALL, 30, (EVERY,)),
    ],
)
def test_a_pause_is_added_to_those_that_stay(before, database, timeout, after):
    assert orders.pausing(paused(*before), database, 70.9, timeout) == paused(*after)


def test_a_database_that_does_not_exist_cannot_be_paused():
    assert refusal(orders.pausing, paused(), "wiki", 70.0, 0) == UNKNOWN
    none = "there is no database 'wiki': no application has a database yet"
    assert refusal(orders.pausing, plan(), "wiki", 70.0, 0) == none
    for known in (plan(), paused()):
        long = refusal(orders.pausing, known, "ü" + 70 * "x", 70.0, 0)
        assert long.startswith("there is no database '\\xfc" + 62 * "x" + "': ")


OF_BLOG = Pause(database="blog", since=9)


@pytest.mark.parametrize(
    ("before", "database", "after"),
    [
        ((LASTING, OF_BLOG), "shop", (OF_BLOG,)),
        ((LASTING, OF_BLOG), ALL, ()),
        ((LASTING, EVERY), ALL, ()),
        ((OF_BLOG,), "shop", (OF_BLOG,)),
        ((), ALL, ()),
    ],
)
def test_a_pause_ends_for_its_database_alone(before, database, after):
    assert orders.resuming(paused(*before), database) == paused(*after)


def test_a_database_is_not_resumed_during_a_pause_of_all_databases():
    assert refusal(orders.resuming, paused(LASTING, EVERY), "shop") == (
        "all databases are paused, so shop cannot be resumed alone: run resume without a database"
    )
    assert refusal(orders.resuming, paused(LASTING), "wiki") == UNKNOWN
    # A database whose application has left may still be paused.
    gone = paused(Pause(database="wiki"), LASTING)
    assert orders.resuming(gone, "wiki") == paused(LASTING)


def test_a_database_is_disabled_until_it_is_enabled():
    before = plan(databases=("blog", "shop"), disabled=("shop",))
    assert orders.disabling(before, "blog") == but(before, disabled=("blog", "shop"))
    assert orders.disabling(before, "shop") == before
    assert orders.enabling(before, "shop") == but(before, disabled=())
    assert orders.enabling(before, "blog") == before
    assert refusal(orders.disabling, before, "wiki") == UNKNOWN
    assert refusal(orders.enabling, before, "wiki") == UNKNOWN
    gone = but(before, disabled=("shop", "wiki"))
    assert orders.enabling(gone, "wiki") == before


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((ALL,), "all databases"),
        (("shop", ALL), "all databases"),
        (("shop",), "database shop"),
        (("shop", "blog"), "databases blog, shop"),
        ([f"db{number:02}" for number in range(21)], "databases " + ", ".join(
            f"db{number:02}" for number in range(20)
        ) + " and 1 more"),
    ],
)  # fmt: skip
def test_databases_are_named_in_their_order(names, expected):
    assert orders.named(names) == expected


def test_at_most_so_many_names_are_listed():
    assert orders.shortened(["c", "a", "b"], 3) == "a, b, c"
    assert orders.shortened(["c", "a", "b"], 2) == "a, b and 1 more"


# ---- numbers ---------------------------------------------------------------------------------
def test_orders_are_numbered_after_what_any_unit_has_carried_out():
    facts = but(
        deployed(units=1).leader.read(),
        peers=(
            Peer(
                name="pgbouncer/1",
                operations=Operations(restarts=21, lost_restart=25, reconnects=22, kills=23),
            ),
            Peer(name="pgbouncer/2", operations=Operations(restarts=99), leaving=True),
        ),
    )
    before = plan(databases=("shop",), restarts=3, reconnects=4, kills=KillOrder(number=5))
    assert orders.restarting(before, facts) == but(before, restarts=26)
    assert orders.reconnecting(before, facts) == but(before, reconnects=23)
    order = KillOrder(database="shop", user="relation_id_1", idle=60, oldest=2)
    assert orders.killing(before, order, facts) == but(before, kills=but(order, number=24))
    assert refusal(orders.killing, before, KillOrder(database="wiki"), facts) == (
        "there is no database 'wiki': there are shop"
    )


def test_numbers_of_orders_begin_again_after_the_largest():
    facts = deployed(units=1).leader.read()
    last = plan(restarts=2**31 - 1, reconnects=2**31 - 2)
    assert orders.restarting(last, facts).restarts == 1
    assert orders.reconnecting(last, facts).reconnects == 2**31 - 1


# ---- the end of a pause ----------------------------------------------------------------------
def reporting(*databases):
    """Return the facts of two members of which the second has reported these pauses."""
    facts = deployed(units=1).leader.read()
    return but(
        facts,
        unit="pgb/0",
        plan=plan(databases=("blog", "shop")),
        operations=Operations(paused=("shop",)),
        peers=(Peer(name="pgb/1", operations=Operations(paused=databases)),),
    )


@pytest.mark.parametrize(
    ("database", "reported", "waiting"),
    [
        ("shop", ("shop",), ()),
        ("shop", (ALL,), ()),
        ("shop", ("blog",), ("pgb/1",)),
        ("shop", (), ("pgb/1",)),
        ("blog", ("shop",), ("pgb/0", "pgb/1")),
        (ALL, (ALL,), ("pgb/0",)),
        (ALL, ("shop",), ("pgb/0", "pgb/1")),
    ],
)
def test_a_pause_waits_for_each_unit_that_has_not_reported_it(database, reported, waiting):
    facts = reporting(*reported)
    assert orders.waited_for(facts, Pause(database=database)) == waiting
    gone = but(facts, peers=())
    assert orders.waited_for(gone, Pause(database=database)) == tuple(
        name for name in waiting if name != "pgb/1"
    )


@pytest.mark.parametrize(
    ("pause", "now", "expected"),
    [
        # Every unit has reported a pause of `shop`.
        (Pause(database="shop", since=500, until=600), 700, "complete"),
        (Pause(database="blog", since=500, until=600), 599.9, "kept"),
        (Pause(database="blog", since=500, until=600), 600, "expired"),
        (Pause(database="blog", since=500, until=600), 260, "kept"),
        (Pause(database="blog", since=500, until=600), 259.9, "expired"),
        (Pause(database="blog", since=500), 700, "kept"),
        (Pause(database="blog", since=500), 1, "kept"),
    ],
)
def test_a_pause_that_is_not_complete_in_time_is_taken_back(pause, now, expected):
    lasting = Pause(database="wiki", since=1)
    before = paused(pause, lasting)
    kept = {"complete": (but(pause, until=0), lasting), "kept": (pause, lasting)}
    after, expired = orders.after_pauses(but(reporting("shop"), now=now), before)
    assert after == paused(*kept.get(expected, (lasting,)))
    assert expired == ((pause,) if expected == "expired" else ())


def test_without_a_client_that_holds_a_pause_up_none_is_found():
    facts = reporting("shop")
    assert orders.first_holder(facts) is None
    holder = Holder(database="shop", user="relation_id_1", address="10.0.0.9:4", since=7)
    held = but(facts, operations=Operations(holder=holder))
    assert orders.first_holder(held) == holder


# ---- clients to disconnect -------------------------------------------------------------------
def session(number, since, **changes):
    known = {"user": "ann", "alias": "shop", "address": "10.0.0.9:4"}
    return ClientSession(number=number, since=since, **known | changes)


SESSIONS = (
    session(1, 90),
    session(2, 40, linked=True),
    session(3, 60, alias="shop_readonly"),
    session(4, 50, user="bob"),
    session(5, 30, busy=True),
    session(6, 70, alias="blog", user="bob", linked=True),
    session(7, 20, linked=True, busy=True, alias="blog", user="bob"),
    session(8, 10, alias="wiki", user="eve"),
)
KEEPING = frozenset({("blog", "bob")})


@pytest.mark.parametrize(
    ("order", "numbers"),
    [
        (KillOrder(number=3), []),
        (KillOrder(user="bob"), [7, 4, 6]),
        (KillOrder(database="shop"), [5, 2, 4, 3, 1]),
        (KillOrder(database="shop", user="ann"), [5, 2, 3, 1]),
        (KillOrder(idle=30), [8, 4, 3, 6]),
        (KillOrder(idle=31), [8, 4, 3]),
        (KillOrder(oldest=2), [8, 4]),
        (KillOrder(oldest=9), [8, 4, 3, 6, 1]),
        (KillOrder(database="shop", idle=10, oldest=2), [4, 3]),
        (KillOrder(database="shop", idle=11), [4, 3]),
        (KillOrder(user="ann", idle=10), [3, 1]),
    ],
)
def test_clients_that_match_every_field_are_disconnected(order, numbers):
    aliases = frozenset({"shop", "shop_readonly"})
    found = clients_to_kill(order, SESSIONS, aliases, KEEPING, 100)
    assert [known.number for known in found] == numbers
