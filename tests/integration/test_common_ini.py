"""The configuration of a process and the file that it includes are both in force: with each PgBouncer.

Both files have lines of [pgbouncer]. At each header of that section PgBouncer sets all parameters to their
defaults again, so only the included file has the header.
"""

import pytest

from adapters.pebble.layer import COMMON
from adapters.pebble.pooler import LAYOUT
from adapters.pgbouncer.rendering import PER_PROCESS
from pooler import binaries

pytestmark = [
    # A container's file system can be mounted by root only.
    pytest.mark.root,
    pytest.mark.parametrize(
        "programs", [binaries.SUITE, binaries.OLDER_SUITE], indirect=True, scope="module"
    ),
]

# Of these options, the last two become lines of each process, and the rest lines of the common file.
BEFORE = {
    "pool_mode": "transaction",
    "query_wait_timeout": 77,
    "server_idle_timeout": 78,
    "max_db_connections": 8,
    "default_pool_size": 3,
}
AFTER = BEFORE | {"query_wait_timeout": 87, "max_db_connections": 12, "default_pool_size": 5}


def parameters(text):
    """Return the names of the parameters that a file sets."""
    sections = text.split("\n[")
    return {line.partition(" = ")[0] for line in sections[-1].splitlines() if " = " in line}


def in_force(unit, config):
    """Return by process the parameters with another value than in the configuration: both values."""
    different = {}
    for instance in config.instances:
        shown = unit.shown(instance.index)
        values = ((name, shown.get(name), value) for name, value in instance.settings)
        different[instance.index] = [line for line in values if number(line[1]) != number(line[2])]
    return different


def number(value):
    """Return the value as a number if it is a number: PgBouncer may print 77 as 77.0."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def test_values_of_both_files_are_in_force_after_start_and_reload(unit, workload):
    config = unit.config(cpus=2, **BEFORE)
    assert [step.action for step in unit.apply(config)] == ["start", "start"]
    workload.wait(unit.answers, 5)
    common = workload.path(COMMON).read_text()
    own = workload.path(LAYOUT.ini(1)).read_text()
    assert parameters(common) >= {"pool_mode", "query_wait_timeout", "server_idle_timeout"}
    assert PER_PROCESS >= parameters(own) >= {"max_db_connections", "default_pool_size"}
    assert in_force(unit, config) == {0: [], 1: []}
    pids = workload.processes()

    config = unit.config(cpus=2, **AFTER)
    assert [step.action for step in unit.apply(config)] == ["reload", "reload"]
    assert workload.processes() == pids
    assert in_force(unit, config) == {0: [], 1: []}
    assert float(unit.shown(1)["query_wait_timeout"]) == 87
    assert float(unit.shown(1)["server_idle_timeout"]) == 78
