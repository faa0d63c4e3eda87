"""The adapter for Pebble writes files, and starts and reloads processes: real Pebble, real PgBouncer."""

import os
import signal
import stat
import time

import pytest
from container_unit import with_line
from postgresql import PASSWORD
from workload import POSTGRES

from adapters.pebble.layer import ALIVE, DRAIN
from adapters.pebble.pooler import LAYOUT
from app.errors import PoolerFailed
from domain.applied import applied_state
from domain.facts import Container
from pooler import binaries

# A container's file system can be mounted by root only.
pytestmark = pytest.mark.root


def test_the_version_is_read_from_the_program_in_the_container(unit, workload, programs):
    assert unit.program.version == binaries.version_of(programs[1])
    assert unit.program.files > 1024, "this says little on a machine that allows no more"
    assert 1 <= unit.program.cpus <= len(os.sched_getaffinity(0))
    workload.provide("echo Hello from an image of another kind")
    with pytest.raises(PoolerFailed, match="is this the right image"):
        unit.pooler.program()
    workload.provide("exit 3")
    with pytest.raises(PoolerFailed, match="non-zero exit code 3"):
        unit.pooler.program()
    (workload.home / "bin" / "pgbouncer").unlink()
    with pytest.raises(PoolerFailed, match="pgbouncer: not found"):
        unit.pooler.program()


def test_a_program_that_prints_nothing_is_not_waited_for(unit, workload):
    workload.provide("exec sleep 60")
    begin = time.monotonic()
    with pytest.raises(PoolerFailed, match="timed out"):
        unit.pooler.program()
    assert time.monotonic() - begin < 8


def test_applied_processes_run_and_answer(unit, workload):
    config = unit.config(cpus=2)
    assert unit.pooler.read() == Container(reachable=True)
    assert [step.action for step in unit.apply(config)] == ["start", "start"]
    seen = unit.pooler.read()
    assert (seen.running, seen.runs, seen.ending) == ({0, 1}, True, frozenset())
    assert seen.applied == applied_state(config, unit.program)
    workload.wait(unit.answers, 5)
    assert len(workload.processes()) == 2
    for pid in workload.processes():
        assert os.stat(f"/proc/{pid}").st_uid == POSTGRES
    # A second call with the same configuration changes nothing.
    before, pids = unit.changes(), workload.processes()
    assert unit.apply(config) == ()
    assert (unit.changes(), workload.processes()) == (before, pids)


def test_only_the_owner_reads_files_and_the_plan_has_no_password(unit, workload):
    unit.apply(unit.config())
    modes = {
        LAYOUT.directory(0): 0o700, LAYOUT.socket_directory(0): 0o711, LAYOUT.ini(0): 0o600,
        LAYOUT.auth_file: 0o600, LAYOUT.hba_file: 0o600,
        DRAIN: 0o600, ALIVE: 0o600,
    }  # fmt: skip
    for path, mode in modes.items():
        found = workload.path(path).stat()
        assert (found.st_uid, found.st_gid) == (POSTGRES, POSTGRES), path
        assert stat.S_IMODE(found.st_mode) == mode, path
    plan = unit.container.get_plan().to_yaml()
    assert "pgbouncer-0" in plan
    for secret in ("auth-pw", "stats-pw", "admin-pw", PASSWORD, "SCRAM"):
        assert secret not in plan
    for pid in workload.processes(""):
        with open(f"/proc/{pid}/environ") as environ, open(f"/proc/{pid}/cmdline") as command:
            assert "-pw" not in environ.read() + command.read()


def test_a_process_may_open_as_many_files_as_the_program_reports(unit, workload):
    unit.apply(unit.config())
    (pid,) = workload.processes()
    with open(f"/proc/{pid}/limits") as limits:
        (line,) = [line for line in limits if line.startswith("Max open files")]
    assert line.split()[3:5] == [str(unit.program.files)] * 2


def test_a_process_that_dies_comes_back_by_itself(unit, workload):
    unit.apply(unit.config())
    workload.wait(unit.answers, 5)
    (pid,) = workload.processes()
    os.kill(pid, signal.SIGKILL)
    workload.wait(lambda: workload.processes() not in ([], [pid]), 5)
    workload.wait(lambda: not unit.refuses(), 5)
    assert unit.pooler.read().runs


def test_an_option_is_a_reload_that_no_session_notices(unit, workload):
    unit.apply(unit.config(cpus=2))
    workload.wait(unit.answers, 5)
    pids = workload.processes()
    with unit.client() as client:
        client.execute("create temp table kept (n int)")
        taken = unit.apply(unit.config(cpus=2, query_wait_timeout=77))
        assert [step.action for step in taken] == ["reload", "reload"]
        client.execute("insert into kept values (1)")
    assert workload.processes() == pids
    assert [float(unit.shown(index)["query_wait_timeout"]) for index in (0, 1)] == [77, 77]


def test_a_line_that_pgbouncer_refuses_is_named_and_removed(unit, workload):
    unit.apply(unit.config(cpus=2))
    before = workload.path(LAYOUT.ini(0)).read_text()
    wrong = with_line(unit.config(cpus=2, query_wait_timeout=7), "pool_mode", "sideways")
    with unit.client() as client:
        with pytest.raises(
            PoolerFailed, match=r"^PgBouncer refuses the line pool_mode = sideways$"
        ):
            unit.apply(wrong)
        assert client.execute("select 1").fetchone() == (1,)
    assert workload.path(LAYOUT.ini(0)).read_text() == before
    assert unit.shown()["pool_mode"] == "transaction"
    unit.apply(unit.config(cpus=2, query_wait_timeout=8))
    assert float(unit.shown(1)["query_wait_timeout"]) == 8
