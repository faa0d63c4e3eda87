"""The workload container of a unit as Scenario has it: services are names, and its disk is a folder."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import shutil

import ops
import scenario.mocking
from ops import testing

from adapters.memory import MemoryConsoles
from adapters.pebble.names import ASK_AGAIN, CONTAINER, ROOT
from adapters.pebble.pooler import service

# Scenario's Pebble has no changes: whatever was told to stop has ended.
scenario.mocking._MockPebbleClient.get_changes = lambda *_: []


class ScenarioContainer:
    """Pebble is Scenario's own. `real_container.RealContainer` has the same with a real one."""

    def __init__(self, folder, version=None):
        self.folder, self.version = folder, version or "1.26.1"
        self.disk.mkdir(parents=True)

    @property
    def disk(self):
        return self.folder / "disk"

    def first(self, *, can_connect):
        """What Scenario is told of it before anything has happened."""
        return testing.Container(
            CONTAINER,
            can_connect=can_connect,
            mounts=self._mounts(),
            execs={
                testing.Exec(
                    ["sh", "-c"],
                    stdout=f"1048576\n2\nmax 100000\nPgBouncer {self.version}\nlibevent 2",
                ),
            },
        )

    def consoles(self):
        """Those of the processes; None for what the charm itself has."""
        return MemoryConsoles()

    def hook(self, known):
        """While this lasts a hook runs that may reach it."""
        return contextlib.nullcontext()

    def reached_by(self):
        """What another process that runs a hook has to run before."""
        return ""

    def seen(self, known):
        """What Scenario knows, with what is true by now."""
        return dataclasses.replace(known, mounts=self._mounts())

    def left(self, known, clients):
        """The same after a hook was killed, which had reached it by these clients."""
        for one in clients:
            known = dataclasses.replace(
                known,
                layers=dict(one._layers),
                service_statuses=dict(one._service_status),
                check_infos=one._container.check_infos,
            )
        return self.seen(known)

    def copy(self, folder):
        """The same at this moment, with a future of its own."""
        other = copy.copy(self)
        other.folder = folder
        shutil.copytree(self.disk, other.disk)
        return other

    def copied(self, record):
        """The record of the charm for this copy."""
        return record

    def dies(self, known, process):
        """A process has ended, and Pebble cannot start it."""
        died = {service(process): type(known.service_statuses[service(process)]).ERROR}
        return dataclasses.replace(known, service_statuses={**known.service_statuses, **died})

    def renewed(self, known):
        """Another container was started in its place, with a disk on which there is nothing."""
        shutil.rmtree(self.disk)
        self.disk.mkdir()
        return dataclasses.replace(known, layers={}, service_statuses={}, check_infos=frozenset())

    def reminder(self, known):
        """The check of which Juju tells that it failed, once what was told to stop has ended.

        None if there is no such check, or if it does not run.
        """
        for check in known.check_infos:
            if check.name == ASK_AGAIN and check.status is ops.pebble.CheckStatus.UP:
                return dataclasses.replace(check, status=ops.pebble.CheckStatus.DOWN, failures=1)
        return None

    def changes(self):
        """What Pebble did to services so far."""
        return frozenset()

    def close(self):
        """Nothing of it runs any more."""

    def _mounts(self):
        return {"disk": testing.Mount(location=ROOT, source=self.disk)}
