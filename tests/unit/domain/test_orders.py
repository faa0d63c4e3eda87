"""What an operator asks, as changes of the plan, and what keeps a pause from being complete."""

import pytest
from in_memory import deployed
from plans import plan
from samples import but

from domain import orders
from domain.operations import ALL, Holder, KillOrder, Operations, Pause

HOLDER = Holder(
    unit="pgb/1", process=1, database="shop", user="relation_id_1", address="10.0.0.9:40000", since=70
)  # fmt: skip


def test_a_database_that_is_enabled_leaves_other_databases_disabled():
    before = plan(databases=("blog", "shop"), disabled=("blog", "shop"))
    assert orders.enabling(before, "blog").disabled == ("shop",)


def test_processes_do_not_restart_while_clients_wait_for_the_end_of_a_pause():
    paused = plan(paused=(Pause(database=ALL, since=1),))
    with pytest.raises(orders.OrderRefused) as refused:
        orders.restarting(paused, deployed(units=1).leader.read())
    assert str(refused.value) == (
        "clients wait because of a pause, and would lose their connections: run resume first"
    )


@pytest.mark.parametrize(
    ("waiting", "told"),
    [
        ((), "a unit did not report in time"),
        (("pgb/2", "pgb/1"), "pgb/1, pgb/2 did not report in time"),
    ],
)
def test_without_a_client_the_units_that_did_not_report_are_named(waiting, told):
    assert orders.held_by(None, 100, waiting) == told


@pytest.mark.parametrize(("now", "seconds"), [(100.9, 30), (70, 0), (60, 0)])
def test_the_client_that_holds_a_pause_up_is_named_with_its_idle_seconds(now, seconds):
    assert orders.held_by(HOLDER, now, ()) == (
        "client 10.0.0.9:40000 (user relation_id_1, database shop) keeps a server connection of"
        f" process 1 of pgb/1; its last request began {seconds} s ago"
    )


def after(recorded, reported):
    """Return the facts of a unit whose processes and whose report have orders with these numbers."""
    facts = deployed(units=1).leader.read()
    record = facts.container.applied
    if recorded is None:
        record = None
    else:
        processes = tuple(but(process, restarts=recorded) for process in record.instances)
        record = but(record, instances=processes, reconnects=recorded, kills=recorded)
    return but(
        facts,
        container=but(facts.container, applied=record),
        operations=Operations(restarts=reported, reconnects=reported, kills=reported),
    )


@pytest.mark.parametrize(
    ("recorded", "reported", "number"),
    [(None, 1, 4), (None, 8, 9), (7, 1, 8), (7, 8, 9), (1, 1, 4)],
)
def test_an_order_has_a_number_after_all_that_the_unit_carried_out(recorded, reported, number):
    facts = after(recorded, reported)
    before = plan(restarts=3, reconnects=3, kills=KillOrder(number=3))
    assert orders.restarting(before, facts).restarts == number
    assert orders.reconnecting(before, facts).reconnects == number
    assert orders.killing(before, KillOrder(user="relation_id_1"), facts).kills == KillOrder(
        number=number, user="relation_id_1"
    )


def test_names_beyond_twenty_are_counted():
    names = [f"db{number:02}" for number in range(22)]
    assert orders.shortened(reversed(names[:20])) == ", ".join(names[:20])
    assert orders.shortened(names) == ", ".join(names[:20]) + " and 2 more"


def test_without_a_plan_a_pause_waits_for_no_unit():
    facts = but(deployed(units=1).leader.read(), plan=None)
    assert orders.waited_for(facts, Pause(database=ALL)) == ()


def test_the_client_that_has_kept_its_connection_longest_is_found():
    facts = deployed(units=3).leader.read()
    first, second = facts.peers
    peers = (
        but(first, operations=Operations(holder=HOLDER)),
        but(second, operations=Operations(holder=but(HOLDER, since=80))),
    )
    later = Operations(holder=but(HOLDER, since=90))
    assert orders.first_holder(but(facts, operations=later, peers=peers)) == HOLDER
