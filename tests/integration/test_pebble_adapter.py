"""What Pebble really does with what PebblePooler tells it: a real one, with a real PgBouncer in it."""

import contextlib
import os
import signal
import socket
import stat
import time

import built
import ops
import psycopg
import pytest
from container_unit import AUTH, FAILED, RECOVERED, Unit, told, with_line
from ports import free_port
from postgresql import PASSWORD
from workload import POSTGRES, Workload

from adapters.pebble import pooler as pebble
from adapters.pebble.layer import ALIVE, BACKEND_CHECK, COMMON, DRAIN
from adapters.pebble.names import ASK_AGAIN
from adapters.pebble.pooler import LABEL, LAYOUT, PebblePooler
from adapters.pebble.reminder import PebbleReminder
from adapters.pgbouncer.console import PsycopgConsoles
from app.errors import PoolerFailed
from domain.applied import applied
from domain.capabilities import Version, capabilities
from domain.facts import Container
from pooler import binaries

# A container's file system can be mounted by root only.
pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def programs(request):
    return built.programs(request.config)


@pytest.fixture
def workload(programs, monkeypatch):
    workload = Workload(*programs)
    # The volume that Juju mounts into the charm's container, which this machine is none of.
    monkeypatch.setattr(pebble, "_SHARED_HERE", str(workload.home / "shared"))
    yield workload
    workload.close()


@pytest.fixture
def unit(workload, postgresql):
    return Unit(workload, postgresql)


# ---- files, services, processes ----------------------------------------------------------------


def test_the_program_is_asked_in_its_container(unit, workload, programs):
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


def test_a_program_that_says_nothing_is_not_waited_for(unit, workload):
    workload.provide("exec sleep 60")
    begin = time.monotonic()
    with pytest.raises(PoolerFailed, match="timed out"):
        unit.pooler.program()
    assert time.monotonic() - begin < 8


def test_what_is_applied_runs_and_answers(unit, workload):
    config = unit.config(cpus=2)
    assert unit.pooler.read() == Container(reachable=True)
    assert [step.action for step in unit.apply(config)] == ["start", "start"]
    seen = unit.pooler.read()
    assert (seen.running, seen.runs, seen.ending) == ({0, 1}, True, frozenset())
    assert seen.applied == applied(config, unit.program)
    workload.wait(unit.answers, 5)
    assert len(workload.processes()) == 2
    for pid in workload.processes():
        assert os.stat(f"/proc/{pid}").st_uid == POSTGRES
    # Applying the same again changes nothing that runs.
    before, pids = unit.changes(), workload.processes()
    assert unit.apply(config) == ()
    assert (unit.changes(), workload.processes()) == (before, pids)


def test_files_are_their_owners_alone_and_no_password_is_in_the_plan(unit, workload):
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


def test_a_process_may_open_as_many_files_as_was_said(unit, workload):
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


# ---- reload ------------------------------------------------------------------------------------


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


def test_a_line_that_pgbouncer_refuses_is_named_and_taken_back(unit, workload):
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


# ---- what fails --------------------------------------------------------------------------------


def test_a_process_that_ends_at_once_says_why_and_starts_the_next_time(unit, workload):
    with pytest.raises(PoolerFailed, match=r"^PgBouncer does not start: .*sideways") as caught:
        unit.apply(with_line(unit.config(), "pool_mode", "sideways"))
    assert "\n" not in str(caught.value)
    assert unit.pooler.read().applied is None
    unit.apply(unit.config())
    assert unit.pooler.read().runs
    workload.wait(unit.answers, 5)


def test_a_change_that_takes_too_long_is_not_waited_for(unit, workload):
    class Hurried(ops.pebble.Client):
        def start_services(self, services, timeout):
            return super().start_services(services, timeout=0.2, delay=0.05)

    hurried = PebblePooler(workload.observed(Hurried))
    with pytest.raises(PoolerFailed, match="timed out"):
        unit.apply(unit.config(), hurried)
    workload.wait(lambda: unit.pooler.read().running == {0}, 5)
    assert unit.pooler.read().applied is None
    # Nobody knows what it runs with, so it is restarted.
    assert [step.action for step in unit.apply(unit.config())] == ["restart"]
    workload.wait(lambda: unit.pooler.read().runs, 10)
    workload.wait(lambda: not unit.refuses(), 5)


@pytest.mark.parametrize("moment", ["push", "add_layer", "start_services"])
def test_a_container_that_goes_away_in_a_hook_is_served_by_the_next_hook(unit, workload, moment):
    class Doomed(ops.pebble.Client):
        def _dies(self, *arguments, **how):
            workload.kill()
            return getattr(super(), moment)(*arguments, **how)

    setattr(Doomed, moment, Doomed._dies)
    with pytest.raises(PoolerFailed, match=r"^the pgbouncer container went away"):
        unit.apply(unit.config(), PebblePooler(workload.observed(Doomed)))
    assert unit.pooler.read() == Container()
    workload.start()
    assert unit.pooler.read() == Container(reachable=True)
    unit.apply(unit.config())
    workload.wait(unit.answers, 5)


def test_a_container_that_was_killed_finds_its_own_sockets_and_starts(unit, workload):
    """They are left in the volume that both containers share."""
    unit.apply(unit.config(cpus=2))
    left = workload.home / "shared" / "sockets" / "0" / f".s.PGSQL.{unit.port}"
    workload.wait(left.exists, 5)
    workload.restart()
    assert left.exists()
    unit.apply(unit.config(cpus=2))
    workload.wait(unit.answers, 5)
    assert unit.pooler.read().runs


def test_a_replaced_container_gets_every_file_again_and_serves(unit, workload):
    config = unit.config(cpus=2)
    unit.apply(config)
    workload.wait(unit.answers, 5)
    record = workload.home / "applied.json"
    before = record.read_text()
    workload.restart()
    assert record.read_text() == before, "the charm's disk stays"
    assert unit.pooler.read() == Container(reachable=True)
    assert [step.action for step in unit.apply(config)] == ["start", "start"]
    for path in (
        DRAIN,
        ALIVE,
        LAYOUT.auth_file,
        LAYOUT.hba_file,
        COMMON,
        LAYOUT.ini(0),
        LAYOUT.ini(1),
    ):
        assert workload.path(path).stat().st_size, path
    assert unit.pooler.read().runs
    workload.wait(unit.answers, 5)


def test_a_full_disk_is_said_and_breaks_nothing(unit, workload):
    unit.apply(unit.config())
    workload.wait(unit.answers, 5)
    before = workload.path(LAYOUT.ini(0)).read_text()
    filler = workload.path("/var/lib/pgbouncer/filler")
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    with pytest.raises(PoolerFailed, match=r"^the pgbouncer container refuses: .*no space left"):
        unit.apply(unit.config(query_wait_timeout=9))
    assert workload.path(LAYOUT.ini(0)).read_text() == before
    assert unit.pooler.read().runs
    assert unit.answers()
    filler.unlink()
    unit.apply(unit.config(query_wait_timeout=9))
    assert float(unit.shown()["query_wait_timeout"]) == 9


def test_a_disk_that_can_only_be_read_is_said(unit, workload):
    unit.apply(unit.config())
    place = f"{workload.home}/root/var/lib/pgbouncer"
    workload.inside("mount", "-o", "remount,ro", place)
    with pytest.raises(PoolerFailed, match=r"^the pgbouncer container refuses: .*read-only"):
        unit.apply(unit.config(query_wait_timeout=9))
    workload.inside("mount", "-o", "remount,rw", place)
    unit.apply(unit.config(query_wait_timeout=9))
    assert float(unit.shown()["query_wait_timeout"]) == 9


# ---- checks and notices ------------------------------------------------------------------------


def in_a_hurry(unit):
    """Nobody waits for seconds here: all else of the checks stays as it was applied."""
    checks = {name: {"override": "merge", "period": "200ms"} for name in (LABEL, BACKEND_CHECK)}
    unit.container.add_layer("in-a-hurry", {"checks": checks})


# What Juju makes an event of: the kind of a change, and how it ended.


def test_clients_are_sent_here_while_the_port_answers(unit, workload):
    unit.apply(unit.config())
    in_a_hurry(unit)
    workload.wait(lambda: workload.health("ready") == 200, 5)
    unit.container.stop("pgbouncer-0")
    workload.wait(lambda: workload.health("ready") == 502, 5)
    assert workload.health("alive") == 200, "the container would be restarted"
    unit.container.start("pgbouncer-0")
    workload.wait(lambda: workload.health("ready") == 200, 5)
    workload.wait(lambda: told(unit, LABEL) >= {FAILED, RECOVERED}, 5)


def test_a_restart_of_postgresql_is_reported_and_does_not_restart_pgbouncer(unit, workload):
    port = free_port()
    unit.apply(unit.config(backend=port))
    in_a_hurry(unit)
    workload.wait(lambda: FAILED in told(unit, BACKEND_CHECK), 5)
    assert RECOVERED not in told(unit, BACKEND_CHECK)
    assert workload.health("ready") == workload.health("alive") == 200
    with socket.create_server(("127.0.0.1", port)):
        workload.wait(lambda: RECOVERED in told(unit, BACKEND_CHECK), 5)


def test_a_reminder_fails_once_after_a_delay_that_grows(unit, workload):
    reminder = PebbleReminder(unit.container)
    for delay in (1, 2):
        begin = time.monotonic()
        assert reminder.remind("waiting for shop")
        assert reminder.remind("waiting for shop"), "a second event does not change the delay"
        workload.wait(lambda: is_down(unit, ASK_AGAIN), delay + 2)
        assert time.monotonic() - begin > delay - 0.2
        assert FAILED in told(unit, ASK_AGAIN)
        assert workload.health("ready") == workload.health("alive") == 200
        reminder.stop()
        # Pebble starts what it knows whenever any layer changes.
        unit.apply(unit.config(query_wait_timeout=10 + delay))
        assert not is_down(unit, ASK_AGAIN)
    begin = time.monotonic()
    assert reminder.remind("waiting for another client")
    workload.wait(lambda: is_down(unit, ASK_AGAIN), 3)
    assert time.monotonic() - begin < 2, "the delays begin again"


def is_down(unit, check):
    found = unit.container.get_checks(check).get(check)
    return bool(found) and found.status is ops.pebble.CheckStatus.DOWN


# ---- the end of a process ----------------------------------------------------------------------


def test_a_process_that_nobody_uses_ends_in_a_moment(unit, workload):
    unit.apply(unit.config(cpus=2))
    assert [step.action for step in unit.apply(unit.config(cpus=1))] == ["reload", "stop"]
    seen = unit.pooler.read()
    assert (seen.running, seen.ending) == ({0}, {1})
    assert len(workload.processes()) == 2
    workload.wait(lambda: unit.pooler.read().ending == frozenset(), 8)
    assert len(workload.processes()) == 1
    assert unit.pooler.read().running == {0}
    assert unit.answers()
    assert "startup: disabled" in unit.container.get_plan().to_yaml()


def test_a_process_that_shall_end_and_then_again_run_says_so(unit, workload):
    """Which is why ConfigurePooler starts it only when it has ended."""
    with contextlib.ExitStack() as clients:
        unit.apply(unit.config(cpus=2))
        on_both(unit, clients)
        unit.apply(unit.config(cpus=1))
        with pytest.raises(PoolerFailed, match="cannot start service while terminating"):
            unit.apply(unit.config(cpus=2))
    workload.wait(lambda: unit.pooler.read().ending == frozenset(), 8)
    unit.apply(unit.config(cpus=2))
    assert unit.pooler.read().runs


def on_both(unit, clients):
    """A client of each of two processes, both in a transaction: the kernel sends them where it likes."""
    found = {}
    while len(found) < 2:
        client = clients.enter_context(unit.client())
        client.execute("select 1")
        (index, *_) = [one for one in (0, 1) if one not in found and is_busy(unit, one)] or [None]
        if index is None:
            client.close()
        else:
            found[index] = client
    return found[0], found[1]


def is_busy(unit, index):
    with PsycopgConsoles(pebble.socket_directory).open(index, unit.port, AUTH) as console:
        return any(pool.servers_active for pool in console.pools())


def test_a_stop_lets_transactions_end_and_ends_the_process_in_time(unit, workload):
    """By the true times of drain.sh, which have to fit into what Pebble and Kubernetes allow."""
    unit.apply(unit.config())
    workload.wait(unit.answers, 5)
    with unit.client() as quick, unit.client() as slow, unit.client() as idle:
        quick.execute("create table if not exists kept (n int)")
        quick.commit()
        idle.execute("select 1")
        idle.commit()
        quick.execute("insert into kept values (1)")
        slow.execute("select 1")
        begin = time.monotonic()
        unit.container.pebble.stop_services(["pgbouncer-0"], timeout=0)
        time.sleep(0.5)
        assert unit.answers(), "whoever sends clients here has not heard yet that it ends"
        workload.wait(unit.refuses, 4)
        assert time.monotonic() - begin < 4
        quick.execute("insert into kept values (2)")
        quick.commit()
        assert idle.execute("select 2").fetchone() == (2,), "who is in may go on"
        idle.commit()
        while workload.processes():
            assert time.monotonic() - begin < 25, "Pebble would have killed it"
            time.sleep(0.1)
        assert time.monotonic() - begin > 18
        with pytest.raises(psycopg.OperationalError):
            slow.execute("select 1")
    workload.wait(lambda: unit.container.get_service("pgbouncer-0").current != "active", 2)
    assert unit.server.sql("select count(*) from kept") == [(2,)]
    unit.server.sql("drop table kept")


def test_a_release_that_cannot_wait_for_clients_waits_for_their_transactions(unit, workload):
    """Ours can do both, and is told what would be good for an older one."""
    old = Version(1, 22)
    assert not capabilities(old).waits_for_clients
    unit.program = unit.program.model_copy(update={"version": old})
    unit.apply(unit.config())
    workload.wait(unit.answers, 5)
    with unit.client() as client, unit.client() as idle:
        idle.execute("select 1")
        idle.commit()
        client.execute("select 1")
        unit.container.pebble.stop_services(["pgbouncer-0"], timeout=0)
        time.sleep(3)
        assert len(workload.processes()) == 1
        assert client.execute("select 2").fetchone() == (2,)
        client.commit()
        workload.wait(lambda: not workload.processes(), 3)


def test_a_pod_that_goes_lets_its_transactions_end(unit, workload):
    unit.apply(unit.config(cpus=2))
    with contextlib.ExitStack() as clients:
        both = on_both(unit, clients)
        begin = time.monotonic()
        workload.terminate()
        time.sleep(3)
        for client in both:
            client.execute("select 2")
            client.commit()
    workload.wait(workload.ended, 5)
    assert time.monotonic() - begin < 10
