"""Exporters in memory, beside the PgBouncer processes in memory: no two programs listen at a port."""

from __future__ import annotations

from collections.abc import Callable

from app.errors import ExportersFailed
from domain.applied import Step
from domain.capabilities import Version
from domain.exporters import AppliedExporters, Exporter, ExporterChange, ExporterProgram

PROGRAM = ExporterProgram(path="/usr/bin/pgbouncer_exporter", version=Version(0, 12))


class MemoryExporters:
    """The exporters of a unit in memory. `process_ports` returns the ports at which processes listen."""

    def __init__(self, process_ports: Callable[[], set[int]]) -> None:
        self.process_ports = process_ports
        # What the image has.
        self.installed = PROGRAM
        # The reason why no request of the charm succeeds; '' if requests succeed.
        self.failure = ""
        # What runs now, by the index of the process.
        self.running: dict[int, Exporter] = {}
        self.applied: AppliedExporters | None = None
        # How often the image was asked for its exporter, and the steps that were taken.
        self.asked = 0
        self.taken: list[Step] = []

    def program(self) -> ExporterProgram:
        """Return the exporter that the image has. Raises ExportersFailed."""
        self._reach()
        self.asked += 1
        return self.installed

    def apply(self, change: ExporterChange) -> None:
        """Take the steps, and keep the record last. Raises ExportersFailed."""
        self.begin(change)
        for step in change.steps:
            self.take(change, step)
        self.applied = change.after

    def begin(self, change: ExporterChange) -> None:
        """Keep the record of a change that is not complete. Raises ExportersFailed."""
        self._reach()
        self.applied = change.after.in_transition

    def take(self, change: ExporterChange, step: Step) -> None:
        """Take a step. An exporter whose port is in use goes on trying: it does not listen there."""
        wanted = {exporter.index: exporter for exporter in change.after.exporters}
        if step.action == "stop":
            self.running.pop(step.index, None)
        else:
            self.running[step.index] = wanted[step.index]
        self.taken.append(step)

    def listens_at(self, port: int) -> bool:
        """Return whether an exporter has this port."""
        return any(exporter.port == port for exporter in self.running.values())

    def scraped(self) -> dict[int, int]:
        """Return `pgbouncer_up` by the index of the process: 1 if the exporter reaches a process, else 0."""
        ports = self.process_ports()
        return {
            index: int(exporter.process_port in ports)
            for index, exporter in self.running.items()
            if exporter.port not in ports
        }

    def lose_disk(self) -> None:
        """End with the container."""
        self.running, self.applied = {}, None

    def copy(self, process_ports: Callable[[], set[int]]) -> MemoryExporters:
        """Return exporters with equal state beside other processes."""
        other = MemoryExporters(process_ports)
        other.installed, other.failure, other.asked = self.installed, self.failure, self.asked
        other.running, other.applied = dict(self.running), self.applied
        other.taken = list(self.taken)
        return other

    def _reach(self) -> None:
        if self.failure:
            raise ExportersFailed(self.failure)
