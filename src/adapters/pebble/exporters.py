"""Run exporters under Pebble: a service for each PgBouncer process.

No check asks an exporter: a failing check would be news for the charm, and there is nothing to do about it.
"""

from __future__ import annotations

import re
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING

import ops
import pydantic

from adapters.connections.messages import last_line
from adapters.connections.waiting import HOOK_SECONDS, WaitingBudget
from adapters.pebble.layer import LAYOUT
from app.errors import ExportersFailed
from domain.capabilities import version_in
from domain.exporters import (
    PROGRAMS,
    AppliedExporters,
    Exporter,
    ExporterChange,
    ExporterProgram,
)

if TYPE_CHECKING:
    from collections.abc import Generator

    from adapters.pebble.observed import ObservedContainer, RunsAs

LABEL = "exporters"

# Prints the path of the exporter and its version; nothing if the image has none.
_PROGRAM = f"""
for name in {" ".join(PROGRAMS)}; do
    command -v "$name" || continue
    "$name" --version 2>&1 || :
    exit
done
"""

# Pebble starts a service again that ends, unless it ends within its first second: an earlier release of the
# exporter ends at once while PgBouncer does not answer.
_COMMAND = 'sleep 1.5; exec "$0" "$@"'

# Seconds that an exporter may take to end. It keeps nothing that it has to write.
_STOP = 1.0
# Seconds that a command takes where nothing is wrong.
_WORK = 0.5


def service(index: int) -> str:
    """Return the name of the service of the exporter of a process."""
    return f"exporter-{index}"


class PebbleExporters:
    """The exporters in the container of this unit's pod."""

    def __init__(self, observed: ObservedContainer, waiting: WaitingBudget | None = None) -> None:
        self._observed = observed
        self._container = observed.container
        self._waiting = waiting

    def program(self) -> ExporterProgram:
        """Return the exporter that the image has, or that it has none. Raises ExportersFailed."""
        waiting = self._waiting or WaitingBudget()
        with _translated(), waiting.spent(HOOK_SECONDS, _WORK) as seconds:
            run = self._container.exec(
                ["sh", "-c", _PROGRAM], working_dir="/", timeout=max(seconds, _WORK)
            )
            printed, _ = run.wait_output()
        path, _, said = printed.partition("\n")
        if not re.fullmatch(r"/[\w./+-]{1,200}", path):
            return ExporterProgram()
        return ExporterProgram(path=path, version=version_in(said))

    def apply(self, change: ExporterChange) -> None:
        """Write the services, take the steps, and then keep the record. Raises ExportersFailed.

        Pebble waits a second for each service that starts; the hook does not. If the hook is killed, the record
        names no exporter, and the next hook takes all steps again.
        """
        program = change.after.program
        names = {
            action: [service(step.index) for step in change.steps if step.action == action]
            for action in ("start", "restart", "stop")
        }
        with _translated():
            self._remember(change.after.in_transition)
            if change.steps:
                self._container.add_layer(
                    LABEL, _layer(change, program, self._observed.runs_as()), combine=True
                )
            if names["stop"]:
                timeout = 2 * _STOP if change.waits else 0
                self._container.pebble.stop_services(names["stop"], timeout=timeout)
            if names["restart"]:
                self._container.pebble.restart_services(names["restart"], timeout=0)
            if names["start"]:
                self._container.pebble.start_services(names["start"], timeout=0)
            runs = dict.fromkeys((*names["start"], *names["restart"]), True)
            self._observed.expect(runs | dict.fromkeys(names["stop"], False))
            self._remember(change.after)

    def _remember(self, exporters: AppliedExporters) -> None:
        record = self._observed.record()
        if record is None:
            # Processes are configured first, so another container has just replaced the container.
            raise ExportersFailed("the pgbouncer container went away")
        self._observed.write({**record, "exporters": exporters.model_dump_json()})


def recorded(text: str) -> AppliedExporters | None:
    """Return the exporters in a record; None if the text is not from this release, or ''."""
    try:
        # A later release may have written further keys.
        return AppliedExporters.model_validate_json(text, extra="ignore") if text else None
    except pydantic.ValidationError:
        return None


def _layer(
    change: ExporterChange, program: ExporterProgram | None, user: RunsAs
) -> ops.pebble.Layer:
    path = program.path if program else ""
    services: dict[str, ops.pebble.ServiceDict] = {
        service(exporter.index): {
            "override": "replace",
            "summary": f"Metrics of PgBouncer, process {exporter.index}",
            "command": _command(path, exporter),
            "startup": "enabled",
            **user,
            "kill-delay": f"{_STOP:g}s",
        }
        for exporter in change.after.exporters
    }
    for step in change.steps:
        if step.action == "stop":
            services[service(step.index)] = {"override": "merge", "startup": "disabled"}
    return ops.pebble.Layer({"summary": "Metrics of PgBouncer", "services": services})


def _command(path: str, exporter: Exporter) -> str:
    return shlex.join(["sh", "-c", _COMMAND, path, *exporter.arguments(LAYOUT)])


@contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except TimeoutError:
        raise ExportersFailed("the pgbouncer container does not answer in time") from None
    except (ops.pebble.Error, OSError) as error:
        raise ExportersFailed(
            f"the pgbouncer container refuses: {last_line(str(error))}"
        ) from None
    except UnicodeError:
        raise ExportersFailed("the pgbouncer container answers with what is no text") from None
