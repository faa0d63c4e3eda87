import random

import pytest
from plans import plan

from domain.budget import (
    UnitAllotment,
    UnitBudget,
    next_process_limits,
    next_unit_limits,
    processes,
    reported_budget,
)
from domain.pools import Part, pools
from domain.process import UNLIMITED, Process, RunningProcess


def claim(told, share=None, held=None):
    share = told if share is None else share
    return UnitAllotment(
        told=told, budget=UnitBudget(share=share, held=share if held is None else held)
    )


# ---- among units -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("total", "claims", "shares"),
    [
        (100, [claim(0)], [100]),
        (100, [claim(0), claim(0), claim(0)], [34, 33, 33]),
        # A new unit has to wait until the others have less, and they until they have said so.
        (100, [claim(100), claim(0)], [50, 0]),
        (100, [claim(50, share=100), claim(0)], [50, 0]),
        (100, [claim(50, held=80), claim(0)], [50, 20]),
        (100, [claim(50), claim(20)], [50, 50]),
        (100, [claim(50), claim(20, share=0)], [50, 20]),
        # A unit has gone: its part is free.
        (100, [claim(50)], [100]),
        (100, [claim(34), claim(33)], [50, 50]),
        # The option was changed.
        (12, [claim(50), claim(50)], [6, 6]),
        (12, [claim(6, held=50), claim(6)], [6, 6]),
        (200, [claim(50), claim(50)], [100, 100]),
        # What a unit still has it may as well be told to have.
        (100, [claim(20, held=40), claim(50)], [50, 50]),
        (100, [claim(20, held=60), claim(20)], [50, 40]),
        # More units than connections.
        (2, [claim(0), claim(0), claim(0)], [1, 1, 0]),
    ],
)
def test_shares_go_to_whom_they_are_free_for(total, claims, shares):
    assert list(next_unit_limits(total, claims)) == shares


def test_what_units_that_leave_still_have_is_not_handed_out():
    assert next_unit_limits(100, [claim(50)], reserved=30) == (70,)


class Unit:
    """A unit that reads the plan, opens and gives up connections, and says so, when it likes."""

    def __init__(self):
        self.told, self.budget, self.limit, self.has = 0, UnitBudget(), 0, 0

    def read(self):
        self.limit = self.told
        self.budget = UnitBudget(share=self.limit, held=max(self.limit, self.has))

    def open(self, count):
        self.has = max(self.has, min(count, self.limit))

    def give_up(self, count):
        self.has = min(self.has, count)


def decide(units, total):
    claims = [UnitAllotment(told=unit.told, budget=unit.budget) for unit in units]
    for unit, part in zip(units, next_unit_limits(total, claims), strict=True):
        unit.told = part


@pytest.mark.parametrize("seed", range(50))
def test_units_never_exceed_the_total_in_any_order_of_their_messages(seed):
    chance, total = random.Random(seed), 20
    units = [Unit()]
    for _ in range(300):
        unit = chance.choice(units)
        what = chance.choice(("decide", "read", "open", "give up", "come or go"))
        if what == "decide":
            decide(units, total)
        elif what == "read":
            unit.read()
        elif what == "open":
            unit.open(chance.randint(0, total))
        elif what == "give up":
            unit.give_up(chance.randint(0, total))
        elif len(units) < chance.randint(1, 5):
            units.append(Unit())
        elif len(units) > 1:
            units.remove(unit)
        assert sum(max(one.has, one.limit) for one in units) <= total
    for _ in range(5):
        for unit in units:
            unit.give_up(unit.told)
            unit.read()
        decide(units, total)
    shares = [unit.told for unit in units]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


def test_a_unit_says_what_it_works_under_and_what_it_still_has():
    shared = plan(2, limit=20)
    assert reported_budget(shared, "pgb/0", [lease(0, 5)]) == UnitBudget(share=10, held=10)
    many = [lease(0, 9), lease(1, 0)]
    assert reported_budget(shared, "pgb/0", many[:1] * 2) == UnitBudget(share=10, held=18)
    assert reported_budget(shared, "pgb/0", many).held == UNLIMITED
    assert reported_budget(plan(limit=0), "pgb/0", many) == UnitBudget()


# ---- among processes ---------------------------------------------------------------------------
def limits(shared, unit="pgb/0", cpus=2):
    return [one.limit for one in processes(shared, unit, cpus)]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100, 101])
@pytest.mark.parametrize("units", [1, 2, 3])
@pytest.mark.parametrize("cpus", [1, 2, 16])
@pytest.mark.parametrize("readers", ["", "10.1.0.2:5432"])
@pytest.mark.parametrize("former", [None, 7000])
def test_all_processes_together_have_what_their_units_have(limit, units, cpus, readers, former):
    shared = plan(units, limit=limit, readers=readers, databases=("shop",), former_port=former)
    found = [one for n in range(units) for one in processes(shared, f"pgb/{n}", cpus)]
    assert sum(one.limit for one in found) == limit
    for one in found:
        ours = [pool for pool in pools(shared, Part(limit=one.limit)) if pool.database == "shop"]
        assert (
            sum(one.limit if pool.connections is None else pool.connections for pool in ours)
            == one.limit
        )
        assert all(pool.connections != 0 for pool in pools(shared, Part(limit=one.limit)))


def test_no_limit_is_no_limit_for_any_process():
    assert limits(plan(limit=0), cpus=3) == [0, 0, 0]
    assert limits(plan(limit=0), "pgb/7", cpus=1) == [0]


def test_a_unit_without_a_share_runs_nothing():
    assert limits(plan(2, limit=5), "pgb/7") == []
    assert limits(plan(2, limit=1), "pgb/1") == []


def test_there_are_fewer_processes_where_the_share_is_too_small_for_all():
    assert limits(plan(1, limit=1), cpus=16) == [1]
    assert limits(plan(1, limit=3), cpus=16) == [3]
    assert limits(plan(1, limit=7), cpus=16) == [3, 2, 2]
    # With replicas each process has two kinds of pools.
    readers = {"readers": "10.1.0.2:5432", "databases": ("shop",)}
    assert limits(plan(1, limit=7, **readers), cpus=16) == [7]
    assert limits(plan(1, limit=8, **readers), cpus=16) == [4, 4]


def test_each_port_has_equally_many_processes_and_the_old_port_may_close():
    two = processes(plan(1, limit=9, former_port=7000, process_set=1), "pgb/0", 2)
    assert [(one.index, one.port, one.limit) for one in two] == [
        (16, 6432, 3), (17, 6432, 2), (0, 7000, 2), (1, 7000, 2),
    ]  # fmt: skip
    fewer = processes(plan(1, limit=3, former_port=7000, process_set=1), "pgb/0", 2)
    assert [(one.index, one.port, one.limit) for one in fewer] == [(16, 6432, 2), (0, 7000, 1)]
    least = processes(plan(1, limit=2, former_port=7000, process_set=1), "pgb/0", 2)
    assert [(one.index, one.port, one.limit) for one in least] == [(16, 6432, 1), (0, 7000, 1)]
    one = processes(plan(1, limit=1, former_port=7000, process_set=1), "pgb/0", 2)
    assert [(one.index, one.port) for one in one] == [(16, 6432)]


def wanted(*limits, readers=False):
    return [
        Process(index=n, port=6432, limit=limit, readers=readers) for n, limit in enumerate(limits)
    ]


def lease(index, limit, held=0, *, readers=False):
    return RunningProcess(index=index, port=6432, limit=limit, held=held, readers=readers)


@pytest.mark.parametrize(
    ("processes", "total", "leases", "allowed"),
    [
        (wanted(5, 5), 10, [], {0: 5, 1: 5}),
        # The first gives up, and the second starts when it has.
        (wanted(5, 5), 10, [lease(0, 10)], {0: 5}),
        (wanted(5, 5), 10, [lease(0, 5, 10)], {0: 5}),
        (wanted(5, 5), 10, [lease(0, 5, 8)], {0: 5, 1: 2}),
        (wanted(5, 5), 10, [lease(0, 5), lease(1, 2)], {0: 5, 1: 5}),
        # Those that end still count.
        (wanted(10), 10, [lease(0, 5), lease(9, 5)], {0: 5}),
        (wanted(10), 10, [lease(0, 5)], {0: 10}),
        # The share has become smaller: nobody grows until it is kept.
        (wanted(2, 2), 4, [lease(0, 5), lease(1, 1)], {0: 2, 1: 1}),
        # There was no limit.
        (wanted(5, 5), 10, [lease(0, 0)], {0: 5}),
        # There is none any more.
        (wanted(0, 0), UNLIMITED, [lease(0, 5, 9)], {0: 0, 1: 0}),
        (wanted(0, 0), UNLIMITED, [lease(0, 0)], {0: 0, 1: 0}),
        # There will be none when the others know.
        (wanted(0, 0), 10, [lease(0, 5, 9)], {0: 10}),
        (wanted(0, 0), 10, [lease(0, 5), lease(1, 5)], {0: 5, 1: 5}),
        (wanted(20), 10, [lease(0, 10)], {0: 10}),
    ],
)
def test_a_process_gets_what_the_others_have_given_up(processes, total, leases, allowed):
    found = next_process_limits(processes, total, leases)
    assert {one.index: one.limit for one in found} == allowed


def with_readers(limit, had, total=12):
    (found,) = next_process_limits(wanted(limit, readers=True), total, had)
    return found.limit, found.readers


def test_new_pools_for_readers_wait_until_other_pools_gave_up_connections():
    assert with_readers(12, [lease(0, 12)]) == (8, False)
    assert with_readers(12, [lease(0, 8, 9)]) == (8, False)
    assert with_readers(12, [lease(0, 8)]) == (12, True)
    # They stay as long as they are wanted, whatever the limit becomes.
    assert with_readers(12, [lease(0, 12, readers=True)]) == (12, True)
    assert with_readers(3, [lease(0, 12, readers=True)]) == (3, True)
    # A new process has both at once, and one without a limit.
    assert with_readers(12, []) == (12, True)
    assert with_readers(0, [lease(0, 0)], UNLIMITED) == (0, True)
    # One connection is not enough for both.
    assert with_readers(2, [], 1) == (1, False)
    assert with_readers(2, [lease(0, 2)], 2) == (1, False)
    assert with_readers(2, [lease(0, 1)], 2) == (2, True)


@pytest.mark.parametrize("limit", [2, 3, 6, 12])
@pytest.mark.parametrize("had", range(0, 14, 2))
@pytest.mark.parametrize("other", [0, 1, 5, 12])
def test_all_pools_of_a_process_never_have_too_many_on_the_way_to_readers(limit, had, other):
    shared = plan(1, limit=limit, readers="10.1.0.2:5432", databases=("shop",))
    leases = [lease(index, held) for index, held in enumerate((had, other)) if held]
    for one in next_process_limits(wanted(limit, readers=True), limit, leases):
        part = Part(limit=one.limit, readers=one.readers)
        ours = [pool for pool in pools(shared, part) if pool.database == "shop"]
        writes = one.limit if ours[0].connections is None else ours[0].connections
        reads = sum(pool.connections for pool in ours[1:])
        # What was open stays open until it is given up.
        assert max(writes, had if reads else 0) + reads <= one.limit
        assert one.limit <= max(had, limit - other)
