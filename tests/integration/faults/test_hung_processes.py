"""A PgBouncer process that hangs in its container is replaced: a real Pebble, with a real PgBouncer in it."""

import contextlib
import os
import signal
import socket
import struct
import time

import pytest
from container_unit import FAILED, RECOVERED, told, with_line

from domain.capabilities import Version
from pooler import binaries

# A container's file system can be mounted by root only.
pytestmark = pytest.mark.root


def hang_by_packet(unit):
    """The packet of CVE-2026-107349, which a PgBouncer that has it reads for ever."""
    words = b"user\0x\0database\0x\0options\0-c=\0\0"
    startup = struct.pack("!ii", 8 + len(words), 3 << 16) + words
    with socket.create_connection(("127.0.0.1", unit.port), 5) as client:
        client.sendall(startup)
        client.settimeout(1)
        with contextlib.suppress(TimeoutError):
            client.recv(1)


@pytest.mark.parametrize("programs", [binaries.OLDER_SUITE], indirect=True)
def test_a_process_that_spins_is_replaced_again_and_again(unit, workload):
    """Pebble acts on a check that begins to fail, and on none that goes on failing."""
    assert unit.program.version < Version(1, 26, 1), "the packet has to hang this PgBouncer"
    unit.apply(with_line(unit.config(), "ignore_startup_parameters", "extra_float_digits"))
    workload.wait(unit.answers, 5)
    for _ in range(2):
        (pid,) = workload.processes()
        begin = time.monotonic()
        hang_by_packet(unit)
        # A second attack comes before any check has succeeded.
        workload.wait(lambda: workload.processes() not in ([], [pid]), 20)  # noqa: B023 — called in this turn of the loop only
        assert time.monotonic() - begin < 16
        workload.wait(lambda: not unit.refuses(), 5)
    workload.wait(lambda: unit.pooler.read().unresponsive == frozenset(), 15)
    assert {FAILED, RECOVERED} <= told(unit, "pgbouncer-0")


def test_without_perl_a_process_that_hangs_is_replaced_too(unit, workload):
    workload.inside("mount", "--bind", "/dev/null", f"{workload.home}/root/usr/bin/perl")
    unit.apply(unit.config())
    workload.wait(unit.answers, 5)
    time.sleep(8)
    assert unit.pooler.read().unresponsive == frozenset()
    (pid,) = workload.processes()
    os.kill(pid, signal.SIGSTOP)
    workload.wait(lambda: workload.processes() not in ([], [pid]), 20)
    workload.wait(lambda: not unit.refuses(), 5)
    assert unit.answers()


def test_a_process_that_hangs_is_killed_as_soon_as_it_is_told_to_stop(unit, workload):
    unit.apply(unit.config())
    workload.wait(unit.answers, 5)
    (pid,) = workload.processes()
    os.kill(pid, signal.SIGSTOP)
    begin = time.monotonic()
    unit.container.pebble.stop_services(["pgbouncer-0"], timeout=0)
    workload.wait(lambda: not workload.processes(), 10)
    assert time.monotonic() - begin < 6
    workload.wait(lambda: unit.pooler.read().ending == frozenset(), 3)


def test_a_process_that_stops_answering_while_it_ends_is_killed_in_time(unit, workload):
    unit.apply(unit.config())
    workload.wait(unit.answers, 5)
    with contextlib.closing(unit.client()) as client:
        client.execute("select 1")
        begin = time.monotonic()
        unit.container.pebble.stop_services(["pgbouncer-0"], timeout=0)
        time.sleep(4)
        (pid,) = workload.processes()
        os.kill(pid, signal.SIGSTOP)
        workload.wait(lambda: not workload.processes(), 22)
        assert 20 < time.monotonic() - begin < 25, "Pebble would have killed drain.sh alone"


def test_a_process_that_was_left_by_its_script_is_replaced(unit, workload):
    unit.apply(unit.config())
    workload.wait(unit.answers, 5)
    (left,) = workload.processes()
    with open(f"/proc/{left}/stat") as file:
        script = int(file.read().rpartition(")")[2].split()[1])
    os.kill(script, signal.SIGKILL)
    # Go waits for the output of its child's children, for nine tenths of the kill-delay.
    workload.wait(lambda: workload.processes() not in ([], [left]), 40)
    workload.wait(lambda: not unit.refuses(), 5)
    assert unit.answers()
    assert len(workload.processes()) == 1
