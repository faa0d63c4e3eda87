"""How long a hook may wait, for all adapters together."""

import pytest

from adapters.connections.waiting import WaitingBudget


class Clock:
    """A clock that only sleeping, and a test, moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def budget(clock):
    return WaitingBudget(2.0, clock=clock, sleep=clock.sleep)


def test_all_waiting_of_a_hook_together_is_limited(budget):
    assert budget.pause(0.5)
    assert budget.left() == 1.5
    assert [budget.pause(0.5) for _ in range(5)] == [True, True, True, False, False]
    assert budget.left() == 0.0


def test_work_between_two_waits_costs_nothing(budget, clock):
    clock.now += 60
    assert budget.left() == 2.0
    assert budget.pause(0.5)


def test_a_wait_may_take_no_more_than_what_is_left(budget, clock):
    with budget.spent(at_most=1.0) as seconds:
        assert seconds == 1.0
        clock.now += 1.5
    with budget.spent(at_most=1.0) as seconds:
        assert seconds == 0.5
        clock.now += 9
    with budget.spent(at_most=1.0) as seconds:
        assert seconds == 0.0
    assert budget.left() == 0.0


def test_what_a_block_needs_without_waiting_is_not_subtracted(budget, clock):
    for took in (0.1, 0.25, 0.75):
        with budget.spent(at_most=1.0, work=0.25):
            clock.now += took
    assert budget.left() == 1.5


def test_a_wait_that_has_been_can_be_counted_afterwards(budget):
    budget.subtract(1.5)
    assert budget.left() == 0.5
    budget.subtract(1.5)
    assert budget.left() == 0.0


def test_a_wait_that_ends_in_an_error_is_counted(budget, clock):
    def fails():
        with budget.spent(at_most=1.0, work=0.5):
            clock.now += 0.75
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fails()
    assert budget.left() == 1.25
