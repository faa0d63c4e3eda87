"""The checks of the Pebble layer, and what Juju hears of them: real Pebble, real PgBouncer."""

import socket
import time

import ops
import pytest
from container_unit import FAILED, RECOVERED, told
from ports import free_port

from adapters.pebble.layer import BACKEND_CHECK
from adapters.pebble.names import ASK_AGAIN
from adapters.pebble.pooler import LABEL
from adapters.pebble.reminder import PebbleReminder

# A container's file system can be mounted by root only.
pytestmark = pytest.mark.root


def speed_up_checks(unit):
    """Let the checks run five times a second; nothing else of them changes."""
    checks = {name: {"override": "merge", "period": "200ms"} for name in (LABEL, BACKEND_CHECK)}
    unit.container.add_layer("fast-checks", {"checks": checks})


def test_clients_are_sent_here_while_the_port_answers(unit, workload):
    unit.apply(unit.config())
    speed_up_checks(unit)
    workload.wait(lambda: workload.health("ready") == 200, 5)
    unit.container.stop("pgbouncer-0")
    workload.wait(lambda: workload.health("ready") == 502, 5)
    assert workload.health("alive") == 200, "the container would be restarted"
    unit.container.start("pgbouncer-0")
    workload.wait(lambda: workload.health("ready") == 200, 5)
    workload.wait(lambda: told(unit, LABEL) >= {FAILED, RECOVERED}, 5)


def test_a_restart_of_postgresql_is_reported_and_does_not_restart_pgbouncer(unit, workload):
    port = free_port()
    unit.apply(unit.config(backend=port))
    speed_up_checks(unit)
    workload.wait(lambda: FAILED in told(unit, BACKEND_CHECK), 5)
    assert RECOVERED not in told(unit, BACKEND_CHECK)
    assert workload.health("ready") == workload.health("alive") == 200
    with socket.create_server(("127.0.0.1", port)):
        workload.wait(lambda: RECOVERED in told(unit, BACKEND_CHECK), 5)


def test_a_reminder_fails_once_after_a_delay_that_grows(unit, workload):
    reminder = PebbleReminder(unit.container)
    for delay in (1, 2):
        begin = time.monotonic()
        assert reminder.remind("waiting for shop")
        assert reminder.remind("waiting for shop"), "a second event does not change the delay"
        workload.wait(lambda: is_down(unit, ASK_AGAIN), delay + 2)
        assert time.monotonic() - begin > delay - 0.2
        assert FAILED in told(unit, ASK_AGAIN)
        assert workload.health("ready") == workload.health("alive") == 200
        reminder.stop()
        # Pebble starts enabled services and checks whenever a layer changes.
        unit.apply(unit.config(query_wait_timeout=10 + delay))
        assert not is_down(unit, ASK_AGAIN)
    begin = time.monotonic()
    assert reminder.remind("waiting for another client")
    workload.wait(lambda: is_down(unit, ASK_AGAIN), 3)
    assert time.monotonic() - begin < 2, "the delays begin again"


def is_down(unit, check):
    found = unit.container.get_checks(check).get(check)
    return bool(found) and found.status is ops.pebble.CheckStatus.DOWN
