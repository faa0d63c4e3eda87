"""The workload container of a unit with a real Pebble and a real PgBouncer in it, for the charm under Scenario.

Scenario plays Juju as ever; what the charm asks of Pebble, Pebble answers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import signal
import subprocess
from pathlib import Path
from unittest import mock

import ops
from containers import ScenarioContainer
from ops import testing
from scenario.mocking import _MockModelBackend
from workload import Workload

from adapters.pebble import pooler as pebble
from adapters.pebble.names import ASK_AGAIN, ROOT
from adapters.pebble.observed import ObservedContainer
from adapters.pebble.pooler import LABEL, LAYOUT, service
from pooler import binaries

# What hooks have Pebble do; its other changes are its own, about checks.
ASKED = {"start", "stop", "restart", "replan"}

version_of = functools.cache(binaries.version_of)


class Machine(Workload):
    """It has two processors and no limit, and a network of its own: every unit listens at the same port."""

    namespaces = (*Workload.namespaces, "--net")

    def start(self, disk="16m"):
        self.provide("echo 2", "nproc")
        super().start(disk)
        self.inside("mount", "-t", "tmpfs", "none", "/sys/fs/cgroup")


class RealContainer(ScenarioContainer):
    """As ScenarioContainer is. It starts when it is first needed."""

    def __init__(self, programs, user, at_the_end, folder, version=None):
        self._programs, self._user, self._at_the_end = programs, user, at_the_end
        self._machine, self._pretended = None, version
        self.version = version or str(version_of(programs[1]))

    @property
    def machine(self):
        if self._machine is None:
            self._machine = Machine(*self._programs, self._user)
            self._at_the_end.callback(self._machine.close)
            if self._pretended:
                self._machine.provide(f"echo PgBouncer {self._pretended}")
        return self._machine

    @property
    def client(self):
        return ops.pebble.Client(self.machine.socket)

    @property
    def disk(self):
        return self.machine.path(ROOT)

    def consoles(self):
        return None

    @contextlib.contextmanager
    def hook(self, known):
        """Scenario's own is left where there is no connection."""
        if not known.can_connect:
            yield
            return
        client, shared, before = self.client, str(self.machine.home / "shared"), self.changes()
        with (
            mock.patch.object(_MockModelBackend, "get_pebble", return_value=client),
            # The volume that Juju mounts into the charm's container, which this machine is none of.
            mock.patch.object(pebble, "SHARED_HERE", shared),
            # The socket of this Pebble, in place of its path in the charm's container.
            mock.patch.object(
                ObservedContainer.__init__, "__defaults__", (Path(self.machine.socket),)
            ),
        ):
            yield
        for change in map(client.get_change, self.changes() - before):
            assert not change.err, change.err

    def reached_by(self):
        return f"""
import pathlib, sys
sys.path.insert(0, "src")
import ops
from scenario.mocking import _MockModelBackend
from adapters.pebble.observed import ObservedContainer
_MockModelBackend.get_pebble = lambda *_: ops.pebble.Client({self.machine.socket!r})
ObservedContainer.__init__.__defaults__ = (pathlib.Path({self.machine.socket!r}),)
"""

    def seen(self, known):
        if self._machine is None:
            return known
        plan = self.client.get_plan()
        return dataclasses.replace(
            known,
            layers={LABEL: ops.pebble.Layer(plan.to_yaml())} if plan.services else {},
            service_statuses={one.name: one.current for one in self.client.get_services()},
        )

    def left(self, known, clients):
        return self.seen(known)

    def copy(self, folder):
        other = RealContainer(
            self._programs, self._user, self._at_the_end, folder, self._pretended
        )
        for place in (ROOT, LAYOUT.sockets):
            here, there = self.machine.path(place), other.machine.path(place)
            subprocess.run(["cp", "--archive", f"{here}/.", there], check=True)
        for stale in other._sockets():
            stale.unlink()
        other.client.add_layer(LABEL, self.client.get_plan().to_yaml())
        running = [one.name for one in self.client.get_services() if one.is_running()]
        if running:
            other.client.start_services(running, timeout=0)
            other.machine.wait(lambda: len(other._sockets()) == len(running), 10)
        return other

    def copied(self, record):
        """The record of the charm for this copy, whose Pebble has another socket."""
        socket = os.stat(self.machine.socket)
        pebble = f"{socket.st_ino} {socket.st_mtime_ns}"
        return json.dumps(json.loads(record) | {"pebble": pebble})

    def dies(self, known, process):
        name = service(process)
        self.machine.provide("exit 1")
        for pid in self.machine.processes(LAYOUT.ini(process)):
            os.kill(pid, signal.SIGKILL)
        self.machine.wait(lambda: not self._runs(name), 5)
        # Pebble tries again and again, and for a moment it looks good: so not soon.
        later = {name: {"override": "merge", "backoff-delay": "1h"}}
        self.client.add_layer("later", {"services": later})
        with contextlib.suppress(ops.pebble.ChangeError):
            self.client.start_services([name])
        return self.seen(known)

    def renewed(self, known):
        self.machine.restart()
        return self.seen(known)

    def reminder(self, known):
        self.machine.wait(lambda: not self._ending(), 25)
        inactive = ops.pebble.CheckStatus.INACTIVE
        found = self.client.get_checks(names=[ASK_AGAIN])
        if not found or found[0].status is inactive:
            return None
        self.machine.wait(lambda: self._failed(ASK_AGAIN), 35)
        return testing.CheckInfo(
            ASK_AGAIN,
            status=ops.pebble.CheckStatus.DOWN,
            startup=ops.pebble.CheckStartup.DISABLED,
            failures=1,
            threshold=1,
        )

    def changes(self):
        every = self.client.get_changes(ops.pebble.ChangeState.ALL)
        return frozenset(one.id for one in every if one.kind in ASKED)

    def close(self):
        if self._machine:
            self._machine.close()

    def _runs(self, name):
        return any(one.is_running() for one in self.client.get_services([name]))

    def _failed(self, check):
        found = self.client.get_checks(names=[check])
        return [one for one in found if one.status is ops.pebble.CheckStatus.DOWN]

    def _ending(self):
        return [one for one in self.client.get_changes() if one.kind in {"stop", "restart"}]

    def _sockets(self):
        return list(self.machine.path(LAYOUT.sockets).glob("*/.s.PGSQL.*[0-9]"))

    def _mounts(self):
        return {}
