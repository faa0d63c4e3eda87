"""`pooler up` that is killed at any moment: the next one goes on, and it can be taken down."""

import pathlib
import signal
import subprocess
import time

import pytest
from platform_under_test import COMMAND, lives, value


def killed(pooler, moment, seconds):
    """Return whether `up` with two units was killed, `seconds` after a file appeared."""
    command = [*COMMAND, "up", "--units", "2", f"listen_port={pooler.port}"]
    one = subprocess.Popen(
        command, env=pooler.environment, cwd=pathlib.Path(__file__).parents[3],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while one.poll() is None and not list(pooler.home.glob(moment)):
        time.sleep(0.002)
    time.sleep(seconds)
    one.kill()
    return one.wait() == -signal.SIGKILL


def test_killed_at_any_moment_it_goes_on(fresh):
    for moment, seconds in (
        ("lock", 0),
        *(("postgresql-*/PG_VERSION", seconds) for seconds in (0, 0.2, 0.4)),
        ("postgresql/PG_VERSION", 0),
        ("postgresql/postmaster.pid", 0),
        ("postgresql/postmaster.pid", 0.1),
        ("units/0/0/pgbouncer.ini", 0),
        ("units/0/0/pgbouncer.log", 0),
        ("units/0/applied.json", 0),
        ("run/1/0/pgbouncer.pid", 0),
        *(("units/1/applied.json", seconds) for seconds in (0, 0.05, 0.2)),
    ):
        assert killed(fresh, moment, seconds), f"it was done before {moment}"
    assert "active" in fresh.up()
    for unit in (0, 1):
        with fresh.client("demo", unit) as connection:
            assert value(connection, "select 42") == 42
    pids = fresh.pids()
    fresh.delete()
    assert not fresh.home.exists()
    assert not any(map(lives, pids))


@pytest.mark.parametrize("moment", ["postgresql-*/PG_VERSION", "units/0/0/pgbouncer.log"])
def test_what_was_killed_half_way_can_be_taken_down(fresh, moment):
    assert killed(fresh, moment, 0)
    fresh.delete()
    assert not fresh.home.exists()
