"""Read the services of the workload container, and the record of the configuration that was applied there.

Every hook reads both, so this module imports only ops. A hook that changes nothing imports nothing else of
this package.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import NotRequired, TypedDict, cast

import ops

from adapters.pebble.names import CONTAINER, USER, exporter_of, process_of


class Record(TypedDict):
    """What was written to the container. The record is a file on the charm's disk: reading it needs no request."""

    # The configuration that was applied in full, as JSON of the domain's value.
    applied: str
    # For each file that is known to be complete, by path, a text that identifies its content.
    files: dict[str, str]
    # The Pebble layer, as text.
    layer: str
    # The identity of the Pebble that got the layer: the inode and the time of its socket.
    pebble: str
    # The addresses to which the container sends its log lines, by target; '' while a target changes.
    logs: NotRequired[dict[str, str]]
    # The exporters that run, as JSON of the domain's value. A record of an earlier release has no such key.
    exporters: NotRequired[str]


class RunsAs(TypedDict, total=False):
    """The user of services and files, as Pebble's arguments; without keys it is the user of Pebble."""

    user: str
    group: str


class ObservedContainer:
    """The container as a hook sees it. The comparison and the hook share the answers of Pebble.

    The record is valid for the Pebble for which it was written. A container that was replaced has an empty
    disk, and its Pebble has a new socket and an empty plan. The record ends with the pod, as the containers do.
    """

    def __init__(
        self,
        container: ops.Container,
        record: pathlib.Path,
        socket: pathlib.Path = pathlib.Path(f"/charm/containers/{CONTAINER}/pebble.socket"),
    ) -> None:
        self.container = container
        self._path = record
        self._socket = socket
        self._services: dict[str, bool] | None = None
        self._was_read = False

    def services(self) -> dict[str, bool]:
        """Return whether each service runs, by name. Raises ops.pebble.Error or TimeoutError."""
        if self._services is None:
            services = self.container.pebble.get_services()
            self._services = {service.name: _runs(service) for service in services}
        return self._services

    def expect(self, running: dict[str, bool]) -> None:
        """Record services that this hook has started or stopped."""
        self._services = self.services() | running

    def refresh(self) -> None:
        """Request the services again, unless only the comparison with an earlier hook has read them."""
        if self._was_read:
            self._services = None
        self._was_read = True

    def record(self) -> Record | None:
        """Return the record, or None if it does not describe this container. Raises as `services`."""
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
        """Return a text that differs between starts of Pebble, which makes its socket when it starts."""
        try:
            socket = os.stat(self._socket)
        except OSError:
            return ""
        return f"{socket.st_ino} {socket.st_mtime_ns}"

    def user_id(self) -> int:
        """Return the user ID of Pebble, which owns its socket; 0 (root) if there is no socket."""
        try:
            return os.stat(self._socket).st_uid
        except OSError:
            return 0

    def runs_as(self) -> RunsAs:
        """Return the user and group that Pebble has to be told for PgBouncer and its files.

        PgBouncer refuses to run as root, so Pebble as root runs it as another user. Pebble as another user
        cannot change users: PgBouncer has the same user ID, with whatever name the image gives to it.
        """
        return {} if self.user_id() else {"user": USER, "group": USER}

    def summary(self) -> list[object]:
        """Return the services and the applied configuration, for a later hook to compare; [] if Pebble fails."""
        try:
            record = self.record()
            return [
                sorted(map(list, self.services().items())),
                record["applied"] if record else "",
                record.get("exporters", "") if record else "",
            ]
        except (ops.pebble.Error, OSError):
            return []


def _runs(service: ops.pebble.ServiceInfo) -> bool:
    """Return whether a service runs. An exporter that Pebble is about to start again counts as running.

    An exporter of some releases ends whenever PgBouncer does not answer. The charm has nothing to do then.
    """
    waits = service.current == "backoff" and exporter_of(service.name) is not None
    return waits or service.is_running()
