"""What an operator asks, as changes of the plan, and what keeps a pause from being complete."""

import pytest
from in_memory import deployed
from plans import plan

from domain import orders
from domain.operations import ALL, Holder, Pause

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
