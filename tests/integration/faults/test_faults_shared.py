"""Others have the port, others give a command, the clock jumps: it is said, and all is whole afterwards."""

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys

import pytest
from crash_cli import MortalPooler, differences, end_state, kill, until
from platform_under_test import COMMAND, ROOT, value

OPTION = "max_db_connections=100"


@pytest.fixture(scope="module")
def pooler():
    pooler = MortalPooler()
    try:
        pooler.up(OPTION)
        # A client that went leaves its data, and a port that was once used the logs of its processes.
        pooler("relate", "shop")
        pooler("unrelate", "shop")
        pooler("config", f"listen_port={pooler.port + 1}")
        pooler("config", f"listen_port={pooler.port}")
        yield pooler
    finally:
        pooler.close()


def serves(pooler, unit=0):
    with pooler.client("demo", unit) as connection:
        return value(connection, "select 42") == 42


# ---- ports ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "address", "back"),
    [
        ("scale 3", "127.0.0.4", "scale 2"),
        ("config listen_port={next}", "127.0.0.3", "config listen_port={port}"),
        ("config listen_port={next}", "127.0.0.2", "config listen_port={port}"),
    ],
)
def test_a_port_that_is_taken_changes_nothing_until_it_is_free(pooler, words, address, back):
    port = pooler.port + ("next" in words)
    words, back = (
        one.format(port=pooler.port, next=pooler.port + 1).split() for one in (words, back)
    )
    before = end_state(pooler)
    pooler(*words)
    wanted = end_state(pooler)
    pooler(*back)
    with socket.create_server((address, port)):
        done = pooler.run(*words)
        assert done.returncode == 1
        assert f"port {port} of {address} is taken by " in done.stderr
        assert f"(process {os.getpid()})" in done.stderr
        assert not differences(end_state(pooler), before)
        for unit, _ in enumerate(pooler.credentials("demo")["endpoints"].split(",")):
            assert serves(pooler, unit)
    pooler(*words)
    assert not differences(end_state(pooler), wanted)
    pooler(*back)
    assert not differences(end_state(pooler), before)


def test_a_port_that_is_lost_while_nobody_listens_is_named(pooler):
    before = end_state(pooler)
    kill(*(int(one.read_text()) for one in pooler.home.glob("run/1/*/pgbouncer.pid")))
    with thief(("127.0.0.3", pooler.port)):
        done = pooler.run("up")
        assert f"port {pooler.port} of 127.0.0.3 is taken" in done.stderr
        assert serves(pooler, unit=0)
    pooler("up")
    assert not differences(end_state(pooler), before)


def thief(address):
    """Somebody else listens there, as soon as the kernel has cleared away who did before."""
    found = []

    def taken():
        with contextlib.suppress(OSError):
            found.append(socket.create_server(address))
        return found

    until(taken)
    return found[0]


# ---- two commands at once -------------------------------------------------------------------


def begun(pooler, *words):
    return subprocess.Popen(
        [*COMMAND, *words],
        env=pooler.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@contextlib.contextmanager
def both_wait(pooler, *commands):
    """All of these are told to wait at the same time; then they may go on."""
    with open(pooler.home / "lock", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = [begun(pooler, *words.split()) for words in commands]
        for one in running:
            assert "another pooler command is running" in one.stderr.readline()
    yield running
    for one in running:
        one.communicate()


@pytest.mark.parametrize(
    ("one", "other", "back"),
    [
        ("relate shop", "relate shop", ["unrelate shop"]),
        ("scale 3", "relate shop", ["unrelate shop", "scale 2"]),
        ("restart", "config max_db_connections=60", [f"config {OPTION}"]),
        ("up", "down", []),
    ],
)
def test_two_commands_at_once_take_turns(pooler, one, other, back):
    before = end_state(pooler)
    with both_wait(pooler, one, other) as running:
        for command in running:
            said = "".join(command.communicate())
            assert command.returncode == 0, said
    pooler("up")
    for words in back:
        pooler(*words.split())
    assert not differences(end_state(pooler), before)


def test_an_up_that_waited_for_a_down_begins_anew(fresh):
    fresh.up()
    down = begun(fresh, "down", "--delete", "--yes")
    down.stdout.readline()
    down.send_signal(signal.SIGSTOP)
    up = begun(fresh, "up", f"listen_port={fresh.port}")
    assert f"another pooler command is running (process {down.pid})" in up.stderr.readline()
    down.send_signal(signal.SIGCONT)
    assert "no file of `pooler` is left" in down.communicate()[0]
    said = up.communicate()
    assert up.returncode == 0, said
    assert serves(fresh)
    # And whoever comes now finds it at work.
    with both_wait(fresh, "status"):
        pass


# ---- the clock ------------------------------------------------------------------------------

JUMPS = """
import itertools, runpy, sys, time
genuine, days = time.time, itertools.cycle([0, 400, -400, 4000, -4000])
time.time = lambda: genuine() + 86400 * next(days)
time.time_ns = lambda: int(time.time() * 1e9)
runpy.run_module("pooler", run_name="__main__", alter_sys=True)
"""


def test_a_clock_that_jumps_disturbs_no_verb(pooler):
    """Of time we read how long something takes, and never what it is; neither do files tell us."""
    before = end_state(pooler)
    for number, words in enumerate(
        ("relate shop", "scale 3", "restart 0", "scale 2", "unrelate shop", "down", "up")
    ):
        for file in pooler.home.rglob("*"):
            with contextlib.suppress(FileNotFoundError):
                os.utime(file, ((number % 2) * 4e9,) * 2)
        done = subprocess.run(
            [sys.executable, "-P", "-c", JUMPS, *words.split()],
            cwd=ROOT, env=pooler.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, words + done.stdout + done.stderr
    assert not differences(end_state(pooler), before)
    assert serves(pooler)
