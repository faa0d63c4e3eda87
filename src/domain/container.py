"""The container or machine of a unit, as a hook sees it."""

from domain.applied import AppliedState
from domain.capabilities import PgBouncerRuntime, Version
from domain.exporters import FIRST_PORT, AppliedExporters, ExporterChange
from domain.plan import Serving
from domain.value import Value


class Container(Value):
    """The container or machine where PgBouncer runs, its processes and their configuration."""

    reachable: bool = False
    # The container exists, and did not answer in time.
    timed_out: bool = False
    # None until PgBouncer was asked.
    program: PgBouncerRuntime | None = None
    # Indexes of the processes that run and answer.
    running: frozenset[int] = frozenset()
    # Indexes of the processes that did not answer on their sockets, until they have answered again.
    unresponsive: frozenset[int] = frozenset()
    # Indexes of the processes that were told to stop and wait for their transactions.
    ending: frozenset[int] = frozenset()
    # Indexes of the processes that are being restarted. They also count as running.
    restarting: frozenset[int] = frozenset()
    # The last configuration that was applied in full.
    applied: AppliedState | None = None
    # Indexes of the processes whose exporters run, or are started again by the supervisor.
    exporting: frozenset[int] = frozenset()
    # The last change of exporters that was completed; None before that.
    exporters: AppliedExporters | None = None

    @property
    def version(self) -> Version | None:
        """Return the version of PgBouncer; None if it is not known."""
        return self.program.version if self.program else None

    @property
    def cpus(self) -> int:
        """Return the number of processors that PgBouncer may use; 0 if it is not known."""
        return self.program.cpus if self.program else 0

    @property
    def runs(self) -> bool:
        """Return whether every process of the applied configuration runs."""
        planned = self.applied.instances if self.applied else ()
        return self.applied is not None and self.running.issuperset(
            process.index for process in planned
        )

    @property
    def serving(self) -> Serving | None:
        """Return what the processes serve; None unless every process of the applied configuration runs."""
        return self.applied.serving if self.applied and self.runs else None

    @property
    def exporter_ports(self) -> frozenset[int]:
        """Return the ports at which exporters listen."""
        return frozenset(FIRST_PORT + index for index in self.exporting)

    def with_program(self, program: PgBouncerRuntime) -> "Container":
        """Return this container with what PgBouncer said of itself."""
        return self.model_copy(update={"program": program})

    def with_processes(
        self,
        running: frozenset[int],
        ending: frozenset[int],
        restarting: frozenset[int] = frozenset(),
    ) -> "Container":
        """Return this container with these running, ending and restarting processes, given by index."""
        update = {"running": running, "ending": ending, "restarting": restarting}
        return self.model_copy(update=update)

    def applying(
        self, applied: AppliedState, restarted: frozenset[int] = frozenset()
    ) -> "Container":
        """Return this container after `applied` was applied, for which processes were restarted.

        A process that was just told to stop still waits for its transactions.
        """
        return self.remembering(applied).with_processes(
            running=frozenset(process.index for process in applied.instances),
            ending=frozenset(process.index for process in applied.ending),
            restarting=self.restarting | restarted,
        )

    def remembering(self, applied: AppliedState) -> "Container":
        """Return this container with another record of what was applied."""
        return self.model_copy(update={"applied": applied})

    def after_exporters(self, change: ExporterChange) -> "Container":
        """Return this container after exporters changed."""
        stopped = {step.index for step in change.steps if step.action == "stop"}
        running = self.exporting.union(step.index for step in change.steps) - stopped
        return self.model_copy(update={"exporters": change.after, "exporting": running})
