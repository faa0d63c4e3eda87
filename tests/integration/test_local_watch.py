"""Processes that end or hang are started again, by a process that `up` starts."""

import contextlib
import fcntl
import os
import signal
import subprocess
import time

import psycopg
import pytest
from crash_cli import until
from platform_under_test import COMMAND, ROOT, Pooler, lives, value
from postgresql import PostgreSQL

from pooler.verbs.watch import EVERY

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def pooler():
    with contextlib.closing(Pooler()) as pooler:
        del pooler.environment["POOLER_NO_WATCH"]
        yield pooler


@pytest.fixture
def watched(pooler):
    """A unit that serves, and a new process that watches it."""
    pooler("up", f"listen_port={pooler.port}")
    until(lambda: watcher(pooler))
    return pooler


def watcher(pooler):
    """The process that watches the units, and so holds the lock; 0 if there is none."""
    path = pooler.home / "watch.lock"
    if not path.exists():
        return 0
    with path.open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(lock.read() or 0)
    return 0


def serves(pooler):
    """Return whether the units are active and a client gets an answer."""
    with contextlib.suppress(psycopg.OperationalError):
        if pooler.run("status").returncode == 0:
            with pooler.client("demo") as connection:
                return value(connection, "select 42") == 42
    return False


def postmaster(pooler):
    """The process of PostgreSQL; 0 while its file is not there or is empty."""
    with contextlib.suppress(FileNotFoundError):
        return int((pooler.home / "postgresql/postmaster.pid").read_text().partition("\n")[0] or 0)
    return 0


def test_a_process_that_is_killed_runs_again_without_a_command(watched):
    before = watched.pids()
    os.kill(before[0], signal.SIGKILL)
    until(lambda: before[0] not in watched.pids() and serves(watched))
    assert "had ended or hung, and was started again" in (watched.home / "watch.log").read_text()


def test_a_process_that_hangs_is_replaced_without_a_command(watched):
    before = watched.pids()
    os.kill(before[0], signal.SIGSTOP)
    until(lambda: not lives(before[0]) and serves(watched))
    assert before[0] not in watched.pids()


def test_a_postgresql_that_is_killed_runs_again_without_a_command(watched):
    before = postmaster(watched)
    os.kill(before, signal.SIGKILL)
    until(lambda: not lives(before) and postmaster(watched) not in {0, before})
    until(lambda: serves(watched))
    assert lives(postmaster(watched))


def test_what_was_asked_while_postgresql_was_away_is_completed(fresh):
    """The server is given, so that `watch` does not start it."""
    with PostgreSQL() as server:
        own = server.credentials()
        fresh.environment["PGPASSWORD"] = own.password.get_secret_value()
        fresh.up("--units", "2", "--backend", f"postgresql://{own.user}@{own.endpoints[0]}")
        server.stop(signal.SIGQUIT)
        assert fresh.run("relate", "late").returncode == 1
        del fresh.environment["POOLER_NO_WATCH"]
        fresh.run("up")
        until(lambda: watcher(fresh))
        server.start()
        until(lambda: fresh.run("credentials", "late").returncode == 0)
        with fresh.client("late", 1) as connection:
            assert value(connection, "select 42") == 42
        assert "PostgreSQL answers again" in (fresh.home / "watch.log").read_text()
        fresh.delete()


def test_after_down_nothing_is_started_again(watched):
    pid, processes = watcher(watched), [*watched.pids(), postmaster(watched)]
    os.kill(processes[0], signal.SIGKILL)
    watched("down")
    until(lambda: not lives(pid))
    time.sleep(EVERY + 1)
    assert not any(map(lives, processes))
    assert not any(map(lives, watched.pids()))


def test_a_single_process_watches_after_several_ups(watched):
    first = watcher(watched)
    watched("up")
    until(lambda: watcher(watched) not in {0, first})
    until(lambda: not lives(first))


def test_the_end_of_the_process_that_watches_leaves_the_units(watched):
    processes = watched.pids()
    os.kill(watcher(watched), signal.SIGTERM)
    until(lambda: not watcher(watched))
    assert all(map(lives, processes))
    assert "active" in watched("status")


def test_a_second_process_that_watches_is_refused(watched):
    done = watched.run("watch")
    assert done.returncode == 1
    assert f"process {watcher(watched)} watches these units already" in done.stderr


def test_the_environment_of_the_process_that_watches_has_no_password(watched):
    watched.environment["PGPASSWORD"] = "a-secret"
    try:
        watched("up")
    finally:
        del watched.environment["PGPASSWORD"]
    until(lambda: watcher(watched))
    with open(f"/proc/{watcher(watched)}/environ") as environ:
        assert "a-secret" not in environ.read()


def test_watch_in_the_foreground_starts_the_units_at_boot(fresh):
    fresh("up", f"listen_port={fresh.port}")
    assert not (fresh.home / "watch.lock").exists()
    fresh("down")
    with subprocess.Popen(
        [*COMMAND, "watch", "--up"], env=fresh.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as command:  # fmt: skip
        until(lambda: watcher(fresh) == command.pid)
        assert "active" in fresh("status")
        fresh("down")
        assert command.wait(timeout=10) == 0


def test_a_service_is_refused_where_no_systemd_runs(fresh):
    done = fresh.run("service", "install")
    assert done.returncode == 1
    assert "systemd does not run" in done.stderr
    assert f"@reboot POOLER_HOME={fresh.home} " in done.stderr
    assert done.stderr.rstrip().endswith("/pooler up")
