"""Exporters show every PgBouncer process to Prometheus: real Pebble, PgBouncer and exporters."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import built
import pytest
from real_container import Machine

from adapters.pebble import pooler as pebble
from adapters.pebble.exporters import PebbleExporters, service
from adapters.pebble.layer import LAYOUT
from adapters.pebble.pooler import PebblePooler
from contract.unit import plan_for
from domain.change import change_to
from domain.endpoints import Endpoint
from domain.exporters import (
    FIRST_PORT,
    PROGRAMS,
    ExporterProgram,
    exporter_change,
    exporters_of,
    freeing,
)
from domain.instances import pooler_config
from domain.settings import Settings
from logins import CONSOLE_AUTH
from pooler import binaries

# A container's file system can be mounted by root only.
pytestmark = pytest.mark.root

SUITES = (binaries.SUITE, binaries.OLDER_SUITE)


class Exported:
    """A unit in a container with a network of its own, whose exporters follow its processes."""

    def __init__(self, machine):
        self.machine = machine
        observed = machine.observed()
        self.pooler, self.exporters = PebblePooler(observed), PebbleExporters(observed)
        self.client = observed.container.pebble

    def serve(self, cpus=2, port=6432, **options):
        """Configure the processes of PgBouncer, as a hook does."""
        now, program = self.pooler.read(), self.pooler.program()
        program = program.model_copy(update={"cpus": cpus})
        settings = Settings(listen_port=port, **options)
        plan = plan_for(settings, Endpoint(host="127.0.0.1", port=5432))
        config = pooler_config(plan, "p/0", program, LAYOUT, CONSOLE_AUTH, exported=True)
        self.pooler.apply(change_to(config, program, now.applied, now.running))

    def export(self, *, related=True):
        """Let the exporters follow the processes, as a hook does; return the steps."""
        now = self.pooler.read()
        program = now.exporters.program if now.exporters else self.exporters.program()
        wanted = exporters_of(now.applied) if related else ()
        change = exporter_change(now.exporters, program, wanted, now.exporting)
        if change.needed:
            self.exporters.apply(change)
        return [(step.action, step.index) for step in change.steps]

    def metrics(self, index):
        """Return what the exporter of a process shows; '' if it does not answer."""
        url = f"http://127.0.0.1:{FIRST_PORT + index}/metrics"
        return self._run("urllib.request", f"print(m.urlopen({url!r}, timeout=4).read().decode())")

    def listens(self, port):
        """Return whether PgBouncer answers a request for TLS at this port."""
        script = f"c = m.create_connection(('127.0.0.1', {port}), 2); "
        script += "c.sendall(bytes([0, 0, 0, 8, 4, 210, 22, 47])); print(c.recv(1))"
        return self._run("socket", script) == "b'N'\n"

    def _run(self, module, script):
        """Return what a script prints that runs in the network of the container."""
        command = ["nsenter", "--target", str(self.machine.pid), "--net", "python3", "-c"]
        command.append(f"import {module} as m; {script}")
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def up(self, *indexes):
        """Return `pgbouncer_up` of each of these processes; -1 where no exporter answers."""
        found = (re.search(r"^pgbouncer_up (\d)$", self.metrics(i), re.MULTILINE) for i in indexes)
        return [int(match[1]) if match else -1 for match in found]

    def log(self):
        return self.machine.log.read_text()


@pytest.fixture(scope="module", params=SUITES)
def exporter(request):
    """Return an exporter in each version that is packaged."""
    say = built.aloud(request.config)
    return binaries.exporter(binaries.default_cache(), say, suite=request.param)


@pytest.fixture
def machine(programs, monkeypatch):
    machine = Machine(*programs)
    monkeypatch.setattr(pebble, "SHARED_HERE", str(machine.home / "shared"))
    lo = ["nsenter", "--target", str(machine.pid), "--net", "ip", "link", "set", "lo", "up"]
    subprocess.run(lo, check=True)
    yield machine
    machine.close()


def install(machine, exporter, name=PROGRAMS[0]):
    shutil.copy(exporter, machine.home / "bin" / name)


@pytest.mark.parametrize("programs", SUITES, indirect=True)
def test_every_process_is_measured_and_a_killed_process_is_seen(machine, exporter):
    install(machine, exporter)
    unit = Exported(machine)
    unit.serve()
    assert unit.export() == [("start", 0), ("start", 1)]
    machine.wait(lambda: unit.up(0, 1) == [1, 1], 30)
    for index in (0, 1):
        shown = unit.metrics(index)
        assert "\npgbouncer_process_cpu_seconds_total " in shown
        assert "\npgbouncer_config_max_client_connections " in shown
    # No line in the log about a login, and no secret that other users of the machine can read.
    assert "C-0x" not in unit.log()
    plan = unit.client.get_plan().to_yaml()
    assert service(0) in plan
    commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in machine.processes("")]
    for secret in ("auth-pw", "stats-pw", "admin-pw", "SCRAM"):
        assert not [text for text in (plan, *commands) if secret in text]
    # Pebble starts the process again after half a second at the earliest: it must not run at the next scrape.
    machine.provide("exec sleep 1000")
    (victim,) = machine.processes(LAYOUT.ini(1))
    os.kill(victim, signal.SIGKILL)
    assert [1, 0] in (unit.up(0, 1), unit.up(0, 1)), (
        "a process that was killed is 0 in two scrapes"
    )
    machine.provide(f'exec {machine._pgbouncer} "$@"')
    for pid in machine.processes("sleep"):
        os.kill(pid, signal.SIGKILL)
    machine.wait(lambda: unit.up(0, 1) == [1, 1], 30)
    assert unit.export() == []


def test_exporters_follow_ports_and_processes_and_end_with_the_relation(machine, exporter):
    install(machine, exporter, PROGRAMS[1])
    unit = Exported(machine)
    unit.serve(cpus=2)
    unit.export()
    unit.serve(cpus=3)
    assert unit.export() == [("start", 2)]
    machine.wait(lambda: unit.up(0, 1, 2) == [1, 1, 1], 30)
    unit.serve(cpus=1, port=7000)
    assert unit.export() == [("restart", 0), ("stop", 1), ("stop", 2)]
    machine.wait(lambda: unit.up(0, 1, 2) == [1, -1, -1], 30)
    assert unit.export(related=False) == [("stop", 0)]
    machine.wait(lambda: not machine.processes(PROGRAMS[1]), 10)
    plan = unit.client.get_plan()
    assert not [name for name in plan.checks if "exporter" in name]
    enabled = [name for name, known in plan.services.items() if known.startup == "enabled"]
    assert enabled == ["pgbouncer-0"]
    assert unit.export() == [("start", 0)]


def test_the_image_says_which_exporter_it_has(machine, exporter):
    unit = Exported(machine)
    assert unit.exporters.program() == ExporterProgram()
    install(machine, exporter, PROGRAMS[1])
    found = unit.exporters.program()
    assert (found.path, found.version) == (
        f"{machine.home}/bin/{PROGRAMS[1]}", binaries.exporter_version(exporter),
    )  # fmt: skip
    machine.provide("exit 3", PROGRAMS[0])
    assert unit.exporters.program() == ExporterProgram(path=f"{machine.home}/bin/{PROGRAMS[0]}")


def test_an_exporter_that_ends_at_once_is_started_again_and_disturbs_nothing(machine):
    runs = machine.home / "shared" / "runs"
    runs.touch()
    runs.chmod(0o666)
    machine.provide("echo run >>/charm/container/runs; exit 1", PROGRAMS[0])
    unit = Exported(machine)
    unit.serve(cpus=1)
    assert unit.export() == [("start", 0)]
    machine.wait(lambda: runs.read_text().count("run") > 2, 30)
    assert unit.pooler.read().runs
    assert unit.export() == []


# An earlier exporter keeps its connection, for which a restart of PgBouncer waits.
@pytest.mark.parametrize("exporter", SUITES[:1], indirect=True)
def test_pgbouncer_gets_the_port_of_an_exporter(machine, exporter):
    install(machine, exporter)
    unit = Exported(machine)
    unit.serve(cpus=2)
    unit.export()
    machine.wait(lambda: unit.up(0, 1) == [1, 1], 30)
    now = unit.pooler.read()
    unit.exporters.apply(freeing(FIRST_PORT + 1, now.exporters, now.exporting))
    unit.serve(cpus=2, port=FIRST_PORT + 1)
    machine.wait(lambda: unit.listens(FIRST_PORT + 1), 40)
    assert unit.export() == [("restart", 0)]
    machine.wait(lambda: unit.up(0) == [1], 30)
