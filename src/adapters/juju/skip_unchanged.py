"""Skip a hook that has nothing to do, before any library but ops is imported.

Most hooks change nothing on this unit: a peer joins, a check fails and recovers, update-status. The effects
of a hook depend only on the values that it reads. If every value that the last complete hook read is
unchanged, this hook would do nothing and set the status that is set already.

A unit may be killed at any point: the record is removed before a hook does anything, and written when the
hook has done everything and the status is set. The record has the values that the hook wrote. Juju keeps
all of these values or none, so after a hook that Juju rolls back the next hook reads other values.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import ops
from ops import hookcmds

if TYPE_CHECKING:
    from adapters.juju.state import JujuState
    from adapters.pebble.observed import ObservedContainer

Server = tuple[str, int]


class SkipUnchanged:
    """The record of what the last complete hook read, on the disk of the charm, which ends with the pod."""

    def __init__(
        self, charm: ops.CharmBase, state: JujuState, container: ObservedContainer
    ) -> None:
        self._state = state
        self._container = container
        self._file = pathlib.Path(charm.charm_dir, ".unchanged")
        # The kinds of events that the last complete hook deferred, once `holds` has read the record.
        self.deferred: tuple[str, ...] = ()

    def holds(self, event: ops.EventBase) -> bool:
        """Return whether every recorded value is unchanged, and PostgreSQL still answers.

        The order is by cost and by how likely a difference is: the relation of the event, all other reads of
        Juju, Pebble, the network.
        """
        try:
            known = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return False
        # A record of an earlier release has no such keys.
        if event.handle.kind in known.get("looking", ()):
            return False
        self.deferred = tuple(known.get("deferred", ()))
        if time.time() >= known.get("until", math.inf):
            return False
        try:
            return (
                self._state.unchanged(
                    known["reads"], event, deferred=event.handle.kind in self.deferred
                )
                and self._container.summary() == known["container"]
                and _answers(known["servers"])
            )
        except (hookcmds.Error, ops.ModelError):
            return False  # For example, a relation has gone.

    def remember(
        self,
        servers: Sequence[Server],
        deferred: Collection[str] = (),
        looking: Collection[str] = (),
        until: float = math.inf,
    ) -> None:
        """Record what this hook read, and the kinds of events that it deferred.

        A later hook asks at `servers` whether PostgreSQL answers. Hooks for the kinds of events in `looking`
        look for changes that no value of Juju shows, so they are never skipped. No hook is skipped from `until`
        on, in seconds since the epoch.
        """
        if not self._state.comparable:
            return
        reads, container = self._state.digests(), self._container.summary()
        record: dict[str, object] = {"reads": reads, "container": container, "servers": servers}
        until = min(until, self._state.comparable_until or math.inf)
        if until < math.inf:
            record["until"] = until
        events = {"deferred": sorted(deferred), "looking": sorted(looking)}
        text = json.dumps({**record, **events})
        new = self._file.with_name(f"{self._file.name}.new")
        new.write_text(text)
        os.replace(new, self._file)

    def forget(self) -> None:
        """Remove the record, because this hook is about to do something."""
        self._file.unlink(missing_ok=True)


def _answers(servers: Sequence[Server]) -> bool:
    if not servers:
        return True
    from adapters.connections import ping

    return ping.answers((host, port) for host, port in servers)
