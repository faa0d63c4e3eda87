"""The signals of drain.sh, which runs a program in the place of PgBouncer."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from adapters.pgbouncer import rendering

_DEADLINE_SECONDS = 60
# The tests may run under nohup themselves.
_NO_SUPERVISOR = ("env", "--default-signal=HUP")
# As PgBouncer does, the program sets its own handlers, also for a signal that was ignored when it started.
_PROGRAM = """
import os, signal
signal.signal(signal.SIGHUP, lambda *_: os.write(1, b"reads its files\\n"))
os.write(1, b"started\\n")
while True:
    signal.pause()
"""


@pytest.mark.parametrize(
    ("sent", "supervisor"),
    [
        (signal.SIGHUP, _NO_SUPERVISOR),
        (signal.SIGUSR2, _NO_SUPERVISOR),
        (signal.SIGUSR2, ("nohup",)),
    ],
)
def test_a_reload_reaches_the_program_also_where_sighup_is_ignored(sent, supervisor, tmp_path):
    with drained(tmp_path, supervisor) as script:
        assert script.stdout.readline() == "started\n"
        wait_until_caught(script.pid, sent)
        script.send_signal(sent)
        assert script.stdout.readline() == "reads its files\n"


@contextlib.contextmanager
def drained(directory, supervisor):
    """Run drain.sh by a command that starts its arguments."""
    path = directory / "drain.sh"
    path.write_text(rendering.script("drain.sh"))
    program = [sys.executable, "-c", _PROGRAM]
    drain = ["sh", str(path), "clients", str(directory), str(directory / "socket"), *program]
    script = subprocess.Popen(
        [*supervisor, *drain], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    try:
        yield script
    finally:
        # The script ends with its program.
        if (pid := directory / "pid").exists():
            os.kill(int(pid.read_text()), signal.SIGKILL)
        script.communicate(timeout=_DEADLINE_SECONDS)


def wait_until_caught(pid, number):
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while time.monotonic() < deadline:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
        if int(caught.split()[1], 16) & 1 << number - 1:
            return
        time.sleep(0.01)
    pytest.fail(f"drain.sh does not handle {signal.Signals(number).name}")
