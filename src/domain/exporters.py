"""The exporters of a unit: a program for each PgBouncer process, from which Prometheus reads metrics.

The exporter (https://github.com/prometheus-community/pgbouncer_exporter) knows a single PgBouncer process. It
logs in to the console of the process by its Unix socket as `pgbouncer`. PgBouncer lets that user in without a
password if the exporter runs as the user of the process.
"""

from collections.abc import Sequence
from typing import NamedTuple

from domain.applied import AppliedState, Step
from domain.capabilities import Version
from domain.instances import PoolerConfig
from domain.layout import Layout
from domain.value import Count, Value

# The exporter of process 0 listens here, that of process 1 at the next port, and so on.
FIRST_PORT = 9127

# The names of the program: in images that are built from its releases, and in Debian's package.
PROGRAMS = ("pgbouncer_exporter", "prometheus-pgbouncer-exporter")

# What metrics an exporter shows since which release. Each release has the metrics of the releases before.
COMPLETE = Version(0, 12)
_SINCE = (
    (Version(0, 8), "cancel requests"),
    (Version(0, 11), "prepared statements"),
    (COMPLETE, "clients by application"),
)


class Exporter(Value):
    """The exporter of a PgBouncer process."""

    # The index of the process.
    index: Count
    # Prometheus reads the metrics at this port.
    port: Count
    # The port of the process, which names its socket.
    process_port: Count

    def arguments(self, layout: Layout, address: str = "") -> tuple[str, ...]:
        """Return the arguments of the program; it listens on all addresses if `address` is ''."""
        source = {
            "host": layout.socket_directory(self.index),
            "port": str(self.process_port),
            "user": "pgbouncer",
            "dbname": "pgbouncer",
            "sslmode": "disable",
        }
        words = " ".join(f"{name}={_quoted(value)}" for name, value in source.items())
        return (
            f"--pgBouncer.connectionString={words}",
            # For the processor time, memory and open files of the process.
            f"--pgBouncer.pid-file={layout.pid_file(self.index)}",
            f"--web.listen-address={address}:{self.port}",
            "--log.level=warn",
        )


class ExporterProgram(Value):
    """The exporter that an image has."""

    # An absolute path; '' if the image has no exporter.
    path: str = ""
    # None if the program names no version.
    version: Version | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """Return what metrics a later release has and this release has not; () if the version is not known."""
        version = self.version
        return tuple(what for since, what in _SINCE if version and version < since)


class AppliedExporters(Value):
    """The record that a platform keeps of its exporters."""

    # None until the image was asked.
    program: ExporterProgram | None = None
    exporters: tuple[Exporter, ...] = ()

    @property
    def in_transition(self) -> "AppliedExporters":
        """Return the record to keep while exporters change.

        If the hook is killed in that time, the next hook starts or restarts every exporter.
        """
        return self.model_copy(update={"exporters": ()})


class ExporterChange(NamedTuple):
    """A change from the exporters that run to the exporters that have to run."""

    # The record before; None if none was kept.
    before: AppliedExporters | None
    # The record to keep when all steps are taken.
    after: AppliedExporters
    # `start`, `restart` and `stop`, by the index of the process.
    steps: tuple[Step, ...]
    # Wait until exporters that stop have closed their ports.
    waits: bool = False

    @property
    def needed(self) -> bool:
        """Return whether there is anything to do."""
        return bool(self.steps) or self.after != self.before


def exporters_of(config: PoolerConfig | AppliedState) -> tuple[Exporter, ...]:
    """Return an exporter for each process, except where a process itself listens at the port of an exporter."""
    taken = {process.port for process in config.instances}
    exporters = (
        Exporter(index=process.index, port=FIRST_PORT + process.index, process_port=process.port)
        for process in config.instances
    )
    return tuple(exporter for exporter in exporters if exporter.port not in taken)


def exporter_change(
    before: AppliedExporters | None,
    program: ExporterProgram | None,
    wanted: Sequence[Exporter],
    running: frozenset[int],
) -> ExporterChange:
    """Return the change to the exporters in `wanted`; `running` has the indexes of those that run.

    If the image has no exporter, none runs.
    """
    runs = program is not None and bool(program.path)
    after = AppliedExporters(program=program, exporters=tuple(wanted) if runs else ())
    known = set(before.exporters) if before and before.program == program else set[Exporter]()
    steps = [
        Step(action="restart" if exporter.index in running else "start", index=exporter.index)
        for exporter in after.exporters
        if exporter.index not in running or exporter not in known
    ]
    gone = sorted(running - {exporter.index for exporter in after.exporters})
    steps += [Step(action="stop", index=index) for index in gone]
    return ExporterChange(before, after, tuple(steps))


def freeing(
    port: int, before: AppliedExporters | None, running: frozenset[int]
) -> ExporterChange | None:
    """Return the change that stops an exporter at a port that PgBouncer is about to use; None without such."""
    index = port - FIRST_PORT
    if index not in running:
        return None
    before = before or AppliedExporters()
    kept = tuple(exporter for exporter in before.exporters if exporter.index != index)
    after = before.model_copy(update={"exporters": kept})
    return ExporterChange(before, after, (Step(action="stop", index=index),), waits=True)


def _quoted(value: str) -> str:
    """Return a value of a connection string of libpq, in quotes if it needs them."""
    if value and not any(letter.isspace() or letter in "'\\" for letter in value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
