"""Keep an exporter of metrics beside each PgBouncer process, and choose the ports of the exporters."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager

from adapters.local import listeners
from adapters.local.exporter_processes import (
    ADDRESS,
    ExporterFailed,
    ExporterProcesses,
    LocalExporter,
    wait_until_it_listens,
)
from adapters.local.run_as import pooler_owner
from domain.exporters import FIRST_PORT, Exporter
from domain.value import number_of
from pooler import binaries
from pooler.arguments import CommandError
from pooler.platform import LocalPlatform
from pooler.store import MetricsRecord, State, Store

# How many ports are tried, from FIRST_PORT on: every exporter has the next free port.
MOST_TRIES = 1000

# Another program may take a port between the choice of the port and the start of the exporter.
_STARTS = 3

PrintLine = Callable[[str], None]


def exporters_of(store: Store) -> ExporterProcesses:
    """Return the exporters that run for a home."""
    return ExporterProcesses(store.home, pooler_owner())


def set_wanted(state: State, say: PrintLine) -> None:
    """Note in the state that exporters run beside the processes. Raises Missing."""
    program = str(binaries.exporter(binaries.default_cache(), say))
    ports = state.metrics.ports if state.metrics else {}
    state.metrics = MetricsRecord(program=program, ports=ports)


def kept(platform: LocalPlatform) -> list[LocalExporter]:
    """Return the exporters that the state asks for, each with its port; none without `up --metrics`.

    An exporter whose port is not chosen yet has port 0.
    """
    record = platform.state.metrics
    return _needed(platform, record.program, record.ports) if record else []


def follow(platform: LocalPlatform, say: PrintLine) -> list[LocalExporter]:
    """Let exactly the exporters run that the state and the applied configuration ask for.

    Returns those that run. The ports are saved before an exporter starts. `say` is told about an exporter
    that does not start.
    """
    exporters, record = exporters_of(platform.store), platform.state.metrics
    exporters.stop(kept(platform))
    if record is None:
        return []
    failures: list[str] = []
    for _ in range(_STARTS):
        running = list(exporters.running().values())
        wanted = _with_free_ports(kept(platform), running)
        record.ports = {_key(each): each.port for each in wanted}
        platform.store.save(platform.state)
        failures = _start(exporters, [each for each in wanted if each.command not in running])
        if not failures:
            break
    for failure in failures:
        say(failure)
    return list(filter(exporters.runs, kept(platform)))


def differ(platform: LocalPlatform) -> bool:
    """Return whether an exporter that the state asks for does not run, or needs another port."""
    record = platform.state.metrics
    if record is None:
        return False
    exporters, wanted = exporters_of(platform.store), kept(platform)
    return {_key(each) for each in wanted} != set(record.ports) or not all(
        map(exporters.runs, wanted)
    )


@contextmanager
def temporary(platform: LocalPlatform, program: str) -> Generator[list[LocalExporter]]:
    """Yield exporters that run while the context lasts, and that no state knows. Raises CommandError."""
    wanted = _with_free_ports(_needed(platform, program, {}), ())
    try:
        with exporters_of(platform.store).until_the_end(wanted):
            yield wanted
    except ExporterFailed as failure:
        raise CommandError(str(failure)) from None


def _start(exporters: ExporterProcesses, wanted: Sequence[LocalExporter]) -> list[str]:
    """Start exporters, and return why some of them did not start."""
    started: list[tuple[LocalExporter, subprocess.Popen[bytes]]] = []
    failures: list[str] = []
    for exporter in wanted:
        try:
            started.append((exporter, exporters.start(exporter)))
        except OSError as error:
            failures.append(f"{exporter.program} does not start: {error.strerror}")
    for exporter, process in started:
        try:
            wait_until_it_listens(exporter, process)
        except ExporterFailed as failure:
            failures.append(str(failure))
    return failures


def _with_free_ports(
    exporters: Sequence[LocalExporter], running: Collection[Sequence[str]]
) -> list[LocalExporter]:
    """Return exporters that each keep their port, or get a free port if another program has it."""
    ports = {each.port for each in exporters if list(each.command) in running}
    chosen: list[LocalExporter] = []
    for exporter in exporters:
        if list(exporter.command) not in running:
            known = {each.port for each in exporters} - {exporter.port}
            port = _free_port(exporter.port, ports | known)
            ports.add(port)
            chosen.append(exporter.at(port))
        else:
            chosen.append(exporter)
    return chosen


def _free_port(known: int, taken: Collection[int]) -> int:
    """Return this port if it is free, and otherwise the first free port. Raises CommandError."""
    for port in (*([known] if known else []), *range(FIRST_PORT, FIRST_PORT + MOST_TRIES)):
        if port not in taken and listeners.is_free(ADDRESS, port):
            return port
    raise CommandError(
        f"ports {FIRST_PORT} to {FIRST_PORT + MOST_TRIES - 1} of {ADDRESS} are taken, so no exporter can"
        " listen: end the programs that use them"
    )


def _key(exporter: LocalExporter) -> str:
    return f"{number_of(exporter.unit)}/{exporter.process}"


def _needed(
    platform: LocalPlatform, program: str, ports: Mapping[str, int]
) -> list[LocalExporter]:
    """Return an exporter for each configured process, with its port in `ports`, or port 0."""
    found: list[LocalExporter] = []
    for unit in platform.in_order():
        applied, layout = platform.pooler(unit).applied(), platform.layout(unit)
        found += [
            LocalExporter(
                unit=unit,
                exporter=Exporter(
                    index=instance.index,
                    port=ports.get(f"{number_of(unit)}/{instance.index}", 0),
                    process_port=instance.port,
                ),
                layout=layout,
                program=program,
            )
            for instance in (applied.instances if applied else ())
        ]
    return found
