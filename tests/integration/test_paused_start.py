"""A process that is killed during a pause: drain.sh under a real Pebble, with a real PgBouncer."""

import os
import signal

import ops
import pytest

from adapters.pebble import pooler as pebble
from adapters.pgbouncer.console import PsycopgConsoles
from logins import CONSOLE_AUTH

# A container's file system can be mounted by root only.
pytestmark = pytest.mark.root


def test_a_process_that_starts_during_a_pause_is_paused_and_tells_the_charm(unit, workload):
    """A check that fails runs a hook of the charm, which ends the pause of the databases that are not paused."""
    unit.apply(unit.config())

    def fails():
        return unit.container.get_check("pgbouncer-0").status is not ops.pebble.CheckStatus.UP

    workload.wait(lambda: not fails(), 5)
    unit.apply(unit.config().model_copy(update={"paused": ("",)}))
    os.kill(workload.processes()[0], signal.SIGKILL)
    workload.wait(fails, 40)
    assert paused(unit) == {""}
    workload.wait(lambda: not fails(), 40)
    assert paused(unit) == {""}


def paused(unit):
    with PsycopgConsoles(pebble.socket_directory).open(0, unit.port, CONSOLE_AUTH) as console:
        return console.paused()
