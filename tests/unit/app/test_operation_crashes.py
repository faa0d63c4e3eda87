"""An order that is killed after any effect is done when it is given again, and else not at all."""

import pytest
from crash_core import States, run, twin
from crash_ends import brought_to_rest as settled
from crash_ends import seen
from in_memory import related

from domain.operations import KillOrder

pytestmark = pytest.mark.long

LEADER, FOLLOWER = "pgbouncer/0", "pgbouncer/1"


def served(cpus=1):
    platform = related(units=2, cpus=cpus)
    platform.relate("shop-app", "shop")
    platform.settle()
    return platform


def paused():
    platform = served()
    platform.leader.pause("shop")
    platform.settle()
    return platform


def ordered(order, cpus=1):
    """Return a platform whose follower has not followed an order yet."""

    def begin():
        platform = served(cpus)
        order(platform.leader)
        return platform

    return begin


def brought_to_rest(platform):
    """Run hooks until every process has restarted in its turn."""
    for _ in range(3):
        settled(platform)


ROWS = {
    "pause": (served, LEADER, lambda unit: unit.pause()),
    "pause of a database": (served, LEADER, lambda unit: unit.pause("shop", 60)),
    "all of a database": (paused, LEADER, lambda unit: unit.pause()),
    "resume": (paused, LEADER, lambda unit: unit.resume()),
    "disable": (served, LEADER, lambda unit: unit.disable("shop")),
    "reconnect": (served, LEADER, lambda unit: unit.reconnect()),
    "restart": (lambda: served(cpus=2), LEADER, lambda unit: unit.restart()),
    "kill": (served, LEADER, lambda unit: unit.kill(KillOrder(database="shop"))),
    "pause of a follower": (
        ordered(lambda unit: unit.pause()), FOLLOWER, lambda unit: unit.peers_changed(),
    ),
    "restart of a follower": (
        ordered(lambda unit: unit.restart(), cpus=2), FOLLOWER, lambda unit: unit.peers_changed(),
    ),
}  # fmt: skip


def consoles(platform):
    return {
        name: {index: set(unit.pooler.consoles.paused.get(index, ())) for index in (0, 1)}
        for name, unit in platform.units.items()
    }


def end(platform):
    """Return the state at rest; an order that was killed may have used up a number."""
    state = seen(platform)
    numbered = [unit["operations"] for unit in state["model"]["units"].values()]
    numbered += [state["model"]["plan"], *(record for _, _, record, _ in state["poolers"])]
    for values in numbered:
        for order in ("kills", "reconnects"):
            values.pop(order)
    return state, consoles(platform)


@pytest.mark.parametrize("row", ROWS)
def test_an_order_that_is_killed_and_given_again_has_the_same_end(row):
    begin, name, order = ROWS[row]
    platform = begin()
    left, given_again = States(), States()
    whole, untouched = twin(platform), twin(platform)
    effects = run(whole, name, order)
    given_again.are_new(whole)
    brought_to_rest(whole)
    brought_to_rest(untouched)
    assert effects
    ends = [end(whole)]
    if row == "restart":
        # The processes of the leader have the number of an order that was killed, so the next has a new number.
        run(whole, name, order)
        brought_to_rest(whole)
        ends.append(end(whole))
    for last in range(effects + 1):
        killed = twin(platform)
        assert run(killed, name, order, last) is None, last
        if not left.are_new(killed):
            continue
        forgotten = twin(killed)
        run(killed, name, order)
        if given_again.are_new(killed):
            brought_to_rest(killed)
            assert end(killed) in ends, last
        # The operator does not give the order again.
        brought_to_rest(forgotten)
        assert consoles(forgotten) == consoles(untouched), last
        assert forgotten.model.plan.paused_databases == untouched.model.plan.paused_databases
