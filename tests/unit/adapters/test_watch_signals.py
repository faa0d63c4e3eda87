"""The process that watches ends by a signal, at whatever moment the signal comes."""

import subprocess
import sys

import pooler

# Each process waits for many very short times, so the signal meets it in the middle of a wait.
SCRIPT = """
import argparse, os, pathlib, signal, sys, time, types
from pooler.verbs import watch

home = pathlib.Path(sys.argv[1])
watch.EVERY = 0.00001
for turn in range(100):
    process = os.fork()
    if not process:
        store = types.SimpleNamespace(home=home, version=lambda: None)
        run = types.SimpleNamespace(store=store, platform=lambda: None, say=lambda *_: None)
        os._exit(watch.watch(run, argparse.Namespace(up=False)))
    end = time.monotonic() + 30
    while not (home / "watch.lock").exists():
        assert time.monotonic() < end
    time.sleep(0.005 + turn * 0.0001)
    os.kill(process, signal.SIGTERM)
    while not os.waitpid(process, os.WNOHANG)[0]:
        if time.monotonic() > end:
            os.kill(process, signal.SIGKILL)
            sys.exit(f"process {turn} did not end")
        time.sleep(0.002)
"""


def test_a_signal_ends_the_process_that_watches_at_any_moment(tmp_path):
    sources = str(pooler.__path__[0]).removesuffix("pooler")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={"PYTHONPATH": sources},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
