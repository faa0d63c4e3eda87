"""A container is not ready before the charm has configured it: dispatch, and a real Pebble."""

import os
import pathlib
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

import built
import ops
import pytest
from folders import new_folder
from ports import free_port

from adapters.pebble.pooler import LABEL

ROOT = pathlib.Path(__file__).parents[2]

# The programs that dispatch starts before the charm, in this order.
STARTED = ("touch", "timeout", "timeout", "timeout", "mv")
# Runs a program in its place, and kills the hook before or after the program with this number.
KILLS = """#!/bin/sh
echo {name} >>{calls}
number=$(wc -l <{calls})
[ "$KILL" = "$number before" ] && kill -9 0
{program} "$@"
result=$?
[ "$KILL" = "$number after" ] && kill -9 0
exit $result
"""


class Container:
    """A Pebble, and the directory of a charm whose hooks only note that they have run."""

    def __init__(self, program):
        self.place = new_folder("unconfigured-")
        self.port = free_port()
        self.charm = self.place / "unit"
        (self.charm / "src").mkdir(parents=True)
        (self.place / "bin").mkdir()
        shutil.copy(program, self.place / "bin" / "pebble")
        shutil.copytree(ROOT / "templates", self.charm / "templates")
        script = (ROOT / "packing/dispatch").read_text().replace("/charm/", f"{self.place}/")
        (self.charm / "dispatch").write_text(script)
        (self.charm / "src/charm.py").write_text("print('the hook has run')\n")
        self.folder = self.place / "containers" / "pgbouncer"
        self.folder.mkdir(parents=True)
        self.client = ops.pebble.Client(str(self.folder / "pebble.socket"))
        self.process = None
        self.calls = self.place / "calls"
        (self.place / "killing").mkdir()
        for name in set(STARTED):
            text = KILLS.format(name=name, calls=self.calls, program=shutil.which(name))
            shim = self.place / "killing" / name
            shim.write_text(text)
            shim.chmod(0o755)

    def start(self):
        """Start Pebble with an empty plan, in place of the Pebble before."""
        self.stop()
        state = self.folder / "pebble"
        shutil.rmtree(state, ignore_errors=True)
        (self.folder / "pebble.socket").unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [self.place / "bin/pebble", "run", "--create-dirs", "--hold", "--http", f":{self.port}"],
            env={"PEBBLE": str(state), "PEBBLE_SOCKET": str(self.folder / "pebble.socket")},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        end = time.monotonic() + 20
        while self.ready() is None:
            assert time.monotonic() < end
            time.sleep(0.05)

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(20)

    def ready(self):
        """Return whether Kubernetes sees the container as ready; None if Pebble does not answer."""
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/health?level=ready")
        except urllib.error.HTTPError:
            return False
        except OSError:
            return None
        return True

    def hook(self):
        """Run a hook; return how many requests Pebble got."""
        before = len(self.client.get_changes(ops.pebble.ChangeState.ALL)) if self.process else 0
        done = subprocess.run(
            ["sh", "dispatch"], cwd=self.charm, capture_output=True, text=True, check=True
        )
        assert (done.stdout, done.stderr) == ("the hook has run\n", "")
        after = len(self.client.get_changes(ops.pebble.ChangeState.ALL)) if self.process else 0
        return after - before

    def killed_hook(self, kill):
        """Run a hook that is killed, with every program that it has started; return the names of the programs."""
        self.calls.write_text("")
        path = f"{self.place / 'killing'}:{os.environ['PATH']}"
        done = subprocess.run(
            ["sh", "dispatch"], cwd=self.charm, capture_output=True, text=True, check=False,
            start_new_session=True, env={**os.environ, "PATH": path, "KILL": kill},
        )  # fmt: skip
        assert done.returncode == (-signal.SIGKILL if kill else 0), done
        return tuple(self.calls.read_text().split())

    def configure(self):
        """Add the layer that the charm adds, with its check of a port that answers."""
        check = {"override": "replace", "level": "ready", "tcp": {"port": self.port}}
        self.client.add_layer(LABEL, {"checks": {LABEL: check}}, combine=True)


@pytest.fixture
def container(request):
    container = Container(built.program("pebble", request.config))
    yield container
    container.stop()


def test_a_container_waits_for_its_configuration(container):
    container.start()
    assert container.ready() is True
    container.hook()
    assert container.ready() is False
    container.configure()
    assert container.ready() is True
    assert container.hook() == 0
    assert container.ready() is True


def test_a_container_that_starts_again_waits_again(container):
    for _ in range(2):
        container.start()
        container.hook()
        assert container.ready() is False
        container.configure()
        assert container.ready() is True


def test_a_container_that_is_configured_stays_ready_whatever_the_disk_has(container):
    container.start()
    container.configure()
    (container.charm / ".unconfigured").unlink(missing_ok=True)
    assert container.hook() == 0
    assert container.ready() is True


def test_a_hook_runs_without_a_container(container):
    container.hook()
    assert not (container.charm / ".unconfigured").exists()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hook_that_is_killed_at_any_command_leaves_nothing_undone(container, when):
    """The next hook makes the container wait, and a container that is configured stays ready."""
    container.start()
    assert container.killed_hook("") == STARTED
    for number in range(1, len(STARTED) + 1):
        container.start()
        container.killed_hook(f"{number} {when}")
        container.hook()
        assert container.ready() is False, number
        assert container.killed_hook("") == (), number
        container.configure()
        assert container.ready() is True, number
        assert container.hook() == 0
        assert container.ready() is True, number


def test_a_hook_that_is_killed_leaves_a_configured_container_ready(container):
    for number in range(1, len(STARTED) + 1):
        container.start()
        container.configure()
        container.killed_hook(f"{number} after")
        assert container.hook() == 0
        assert container.ready() is True, number
        assert container.killed_hook("") == ()


def test_a_container_that_starts_again_while_it_is_asked_waits_again(container):
    """Between the answer of the Pebble before and the mark, another Pebble starts."""
    container.start()
    last = len(STARTED)
    container.killed_hook(f"{last} before")
    asked = container.charm / ".asked"
    container.start()
    asked.rename(container.charm / ".unconfigured")
    container.hook()
    assert container.ready() is False


@pytest.mark.parametrize("refused", ["add", "plan", "*"])
def test_a_pebble_that_does_not_answer_is_asked_by_the_next_hook(container, refused):
    container.start()
    program = container.place / "bin/pebble"
    real = program.rename(program.with_name("real"))
    program.write_text(f'#!/bin/sh\ncase $1 in {refused}) exit 1 ;; esac\nexec {real} "$@"\n')
    program.chmod(0o755)
    assert container.killed_hook("") in (STARTED, STARTED[:-1])
    assert not (container.charm / ".unconfigured").exists()
    real.rename(program)
    container.hook()
    assert container.ready() is False
