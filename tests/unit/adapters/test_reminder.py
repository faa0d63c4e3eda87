"""A Pebble check as the timer of a unit."""

import time
from types import SimpleNamespace

import ops
import pytest

from adapters.pebble.names import ASK_AGAIN
from adapters.pebble.reminder import AGAIN, DELAYS, PebbleReminder


class Pebble:
    """A Pebble with checks that fail when a test says so."""

    def __init__(self):
        self.pebble = self
        self.plan, self.running, self.notices = ops.pebble.Plan(""), set(), []
        self.data = {}
        self.error, self.cannot_notify = None, False

    def _may(self):
        if self.error:
            raise self.error

    def get_plan(self):
        self._may()
        return self.plan

    def add_layer(self, label, layer, *, combine):
        self.plan = ops.pebble.Plan(layer.to_yaml())
        assert combine
        (check,) = layer.checks.values()
        assert check.startup is ops.pebble.CheckStartup.DISABLED

    def start_checks(self, names):
        self.running |= set(names)

    def stop_checks(self, names):
        self._may()
        self.running -= set(names)

    def get_checks(self, names):
        status = ops.pebble.CheckStatus
        return [
            ops.pebble.CheckInfo(
                name, None, status.UP if name in self.running else status.INACTIVE
            )
            for name in names
            if name in self.plan.checks
        ]

    def get_notices(self, keys):
        if self.cannot_notify:
            raise self.error
        return [SimpleNamespace(last_data=self.data)] if self.notices else []

    def notify(self, kind, key, data):
        self.data = data
        self.notices.append(key)

    @property
    def delay(self):
        """Seconds from now until the check fails; None if it does not run."""
        return float(self.plan.checks[ASK_AGAIN].period[:-1]) if self.running else None


@pytest.fixture
def container():
    return Pebble()


@pytest.fixture
def reminder(container):
    return PebbleReminder(container)


def test_each_delay_is_longer_than_the_one_before_up_to_half_a_minute(container, reminder):
    found = []
    for _ in range(8):
        assert reminder.remind("waiting for shop")
        found.append(container.delay)
        reminder.stop()
    assert found == [1, 2, 4, 8, 16, 30, 30, 30]
    assert container.delay is None


def test_a_hook_that_comes_before_the_reminder_does_not_delay_it(container, reminder):
    reminder.remind("waiting for shop")
    for _ in range(5):
        assert reminder.remind("waiting for shop")
    assert container.delay == DELAYS[0]


def test_any_progress_makes_the_delay_short_again(container, reminder):
    for _ in range(4):
        reminder.remind("waiting for shop and till")
        reminder.stop()
    reminder.remind("waiting for till")
    assert container.delay == DELAYS[0]


def test_a_reminder_without_any_progress_ends_after_some_minutes(container, reminder, monkeypatch):
    began = time.time()
    reminder.remind("waiting for shop")
    reminder.stop()
    monkeypatch.setattr(time, "time", lambda: began + 301)
    assert reminder.remind("waiting for shop")
    assert container.delay is None
    monkeypatch.setattr(time, "time", lambda: began + 3600)
    reminder.remind("waiting for shop")
    assert container.delay == DELAYS[0]


def test_a_pebble_that_cannot_start_a_check_reminds_at_once(container, reminder, monkeypatch):
    container.error = ops.pebble.APIError({}, 400, "Bad Request", "unknown field startup")
    assert reminder.remind("waiting for shop")
    assert reminder.remind("waiting for shop")
    assert container.notices == [AGAIN] * 2
    reminder.stop()
    began = time.time()
    monkeypatch.setattr(time, "time", lambda: began + 301)
    assert reminder.remind("waiting for shop")
    assert container.notices == [AGAIN] * 2, "it would be asked for ever"


def test_a_pebble_that_does_not_answer_reminds_of_nothing(container, reminder):
    container.error = ops.pebble.ConnectionError("gone")
    assert not reminder.remind("waiting for shop")
    container.error = ops.pebble.APIError({}, 500, "Internal", "oops")
    container.cannot_notify = True
    assert not reminder.remind("waiting for shop")
    reminder.stop()
