"""The services of the workload container, and the record of the configuration that was applied there.

Light to import: a hook that changes nothing reads both, and imports nothing else of this package.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import TypedDict, cast

import ops

from adapters.pebble.names import CONTAINER, process_of


class Record(TypedDict):
    """What was written to the container. It is kept on the disk of the charm, so that reading is no request."""

    # The configuration that was applied in full, as JSON of the domain's value.
    applied: str
    # A text that identifies the content, by path, for each file that is known to be complete.
    files: dict[str, str]
    # The Pebble layer, as text.
    layer: str
    # What identifies the Pebble that got the layer.
    pebble: str


class ObservedContainer:
    """The container as a hook sees it; a hook that does something uses what the comparison has requested.

    The record is valid for the Pebble for which it was written. A container that was replaced has an empty
    disk, and its Pebble has a new socket and an empty plan. The record ends with the pod, as the containers do.
    """

    def __init__(self, container: ops.Container, record: pathlib.Path) -> None:
        self.container = container
        self._path = record
        self._services: dict[str, bool] | None = None
        self._was_read = False

    def services(self) -> dict[str, bool]:
        """Return whether each service runs, by name. Raises ops.pebble.Error or TimeoutError."""
        if self._services is None:
            services = self.container.pebble.get_services()
            self._services = {service.name: service.is_running() for service in services}
        return self._services

    def expect(self, running: dict[str, bool]) -> None:
        """Note services that this hook has started or stopped."""
        self._services = self.services() | running

    def refresh(self) -> None:
        """Request the services again, unless only the comparison with an earlier hook has read them."""
        if self._was_read:
            self._services = None
        self._was_read = True

    def record(self) -> Record | None:
        """Return the record, or None if the container does not have what it says. Raises as `services`."""
        services = self.services()
        try:
            record = cast("Record", json.loads(self._path.read_text()))
            same_pebble = record["pebble"] == self._pebble()
            has_services = "services:" in record["layer"]
        except (OSError, ValueError, LookupError, TypeError):
            return None
        known = any(process_of(name) is not None for name in services)
        return record if same_pebble and (known or not has_services) else None

    def write(self, record: Record) -> None:
        """Replace the record. Raises OSError."""
        new = self._path.with_name(f"{self._path.name}.new")
        new.write_text(json.dumps({**record, "pebble": self._pebble()}))
        os.replace(new, self._path)

    def _pebble(self) -> str:
        """Return what tells one start of Pebble from another: it makes its socket when it starts."""
        try:
            socket = os.stat(f"/charm/containers/{CONTAINER}/pebble.socket")
        except OSError:
            return ""
        return f"{socket.st_ino} {socket.st_mtime_ns}"

    def summary(self) -> list[object]:
        """Return what a later hook compares; an empty list if Pebble cannot be asked."""
        try:
            record = self.record()
            return [
                sorted(map(list, self.services().items())),
                record["applied"] if record else "",
            ]
        except (ops.pebble.Error, OSError):
            return []
