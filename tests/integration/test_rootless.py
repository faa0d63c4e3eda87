"""A container without root, as metadata.yaml asks for it: real Pebble, real PgBouncer."""

import os
import signal
import socket
import stat

import pytest
from workload import JUJU_GROUP, NON_ROOT, Workload

from adapters.pebble import pooler as pebble
from adapters.pebble.layer import ALIVE, DRAIN
from adapters.pebble.pooler import LAYOUT
from app.errors import PoolerFailed

# Only root can mount a container's file system, and run Pebble as another user.
pytestmark = pytest.mark.root

# The user and group of the charm.
JUJU_USER = 170


@pytest.fixture
def workload(programs, monkeypatch):
    """Return a container whose Pebble runs as a user for whom the image has no name."""
    workload = Workload(*programs, NON_ROOT)
    monkeypatch.setattr(pebble, "SHARED_HERE", str(workload.home / "shared"))
    yield workload
    workload.close()


def owners(workload):
    """Return the user IDs of all processes in the container."""
    return {os.stat(f"/proc/{pid}").st_uid for pid in [workload.pid, *workload.processes("")]}


def reaches(path):
    """Return whether a process of the charm's user can connect to a socket."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setgroups([JUJU_GROUP])
            os.setgid(JUJU_USER)
            os.setuid(JUJU_USER)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] == 0


def test_every_process_and_file_belongs_to_the_user_of_pebble(unit, workload):
    unit.apply(unit.config(cpus=2))
    workload.wait(unit.answers, 10)
    assert owners(workload) == {NON_ROOT}
    modes = {
        LAYOUT.directory(0): 0o700, LAYOUT.socket_directory(0): 0o711, LAYOUT.ini(0): 0o600,
        LAYOUT.auth_file: 0o600, LAYOUT.hba_file: 0o600, DRAIN: 0o600, ALIVE: 0o600,
    }  # fmt: skip
    for path, mode in modes.items():
        found = workload.path(path).stat()
        # The volume that both containers share gives its group to what is in it.
        assert (found.st_uid, stat.S_IMODE(found.st_mode) & 0o777) == (NON_ROOT, mode), path


def test_the_charm_reaches_the_console_without_root(unit, workload):
    unit.apply(unit.config())
    workload.wait(unit.answers, 10)
    assert reaches(workload.home / "shared/sockets/0" / f".s.PGSQL.{unit.port}")
    assert not reaches(workload.home / "shared/sockets/0/missing")


def test_processes_are_reloaded_revived_and_stopped_without_root(unit, workload):
    unit.apply(unit.config(cpus=2))
    workload.wait(unit.answers, 10)
    assert [step.action for step in unit.apply(unit.config(cpus=2, query_wait_timeout=77))] == [
        "reload",
        "reload",
    ]
    assert float(unit.shown()["query_wait_timeout"]) == 77
    pids = workload.processes()
    os.kill(pids[0], signal.SIGKILL)
    workload.wait(lambda: len(set(workload.processes()) - {pids[0]}) == 2, 10)
    workload.wait(lambda: workload.health("ready") == 200, 20)
    # alive.sh kills a process that does not answer, and drain.sh ends with it.
    hangs = workload.processes()[0]
    os.kill(hangs, signal.SIGSTOP)
    workload.wait(lambda: hangs not in workload.processes(), 60)
    workload.terminate()
    workload.wait(workload.ended, 40)


def test_an_image_whose_directory_belongs_to_another_user_is_named(unit, workload):
    workload.inside("chown", "7070:7070", f"{workload.home}/root/var/lib/pgbouncer")
    with pytest.raises(PoolerFailed) as failed:
        unit.apply(unit.config())
    assert str(failed.value) == (
        f"PgBouncer may not write /var/lib/pgbouncer: in the image, make user {NON_ROOT} the owner"
        " of this directory"
    )
    workload.inside("chown", str(NON_ROOT), f"{workload.home}/root/var/lib/pgbouncer")
    unit.apply(unit.config())
    workload.wait(unit.answers, 10)
