"""How long `status` takes while PostgreSQL hangs or does not run, and what it says."""

import contextlib
import json
import os
import pathlib
import signal
import time

import pytest
from crash_cli import until
from platform_under_test import Pooler, lives

# How long `status` of 20 units may wait for PostgreSQL. Alone on a machine it takes 1.2 s with a PostgreSQL that
# answers, so that it never takes more than 3 s.
STATUS_WAITS = 1.8


def postmaster(pooler):
    return int((pooler.home / "postgresql/postmaster.pid").read_text().split()[0])


def children(pid):
    return [
        int(child)
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    ]


@contextlib.contextmanager
def stopped(pids):
    """Keep processes from running for a while."""
    try:
        send(pids, signal.SIGSTOP)
        yield
    finally:
        send(pids, signal.SIGCONT)


def send(pids, number):
    for pid in pids:
        # A process of PostgreSQL may have ended meanwhile.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def shown(pooler, *words):
    """Return what a verb prints as JSON, whatever its exit code."""
    return json.loads(pooler.run(*words, "--json").stdout)


@pytest.fixture(scope="module")
def many():
    """Twenty units, and how many seconds `status` takes while PostgreSQL answers."""
    with contextlib.closing(Pooler()) as pooler:
        pooler.up("--units", "20")
        begin = time.monotonic()
        pooler("status")
        pooler.well = time.monotonic() - begin
        yield pooler


def seconds_of_status(pooler):
    """Return the status of units without PostgreSQL, and how much longer it took than with PostgreSQL."""
    begin = time.monotonic()
    view = shown(pooler, "status")
    return view, time.monotonic() - begin - pooler.well


def test_status_waits_less_than_two_seconds_for_a_postgresql_that_hangs(many):
    pid = postmaster(many)
    with stopped(children(pid)):
        view, longer = seconds_of_status(many)
    assert longer < STATUS_WAITS, (longer, many.well)
    assert view["problems"]
    with stopped([pid, *children(pid)]):
        view, longer = seconds_of_status(many)
    assert longer < STATUS_WAITS, (longer, many.well)
    assert "does not answer" in view["problems"][0]["text"]
    many("status")


def test_without_postgresql_status_takes_no_longer_for_more_units(many):
    os.kill(pid := postmaster(many), signal.SIGQUIT)
    until(lambda: not lives(pid))
    view, longer = seconds_of_status(many)
    assert longer < STATUS_WAITS, (longer, many.well)
    (problem,) = view["problems"]
    assert problem["severity"] == "blocked"
    assert "does not answer" in problem["text"]
    assert (len(problem["units"]), problem["command"]) == (20, "pooler up")
    doctor = shown(many, "doctor")
    (failure,) = [check for check in doctor["checks"] if check["level"] == "failure"]
    assert failure["group"] == "PostgreSQL"
    assert many.run("doctor").returncode == 1
    many("up")
