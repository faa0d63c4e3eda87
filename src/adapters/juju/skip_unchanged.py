"""Skip a hook that brings nothing new, before the libraries are imported that doing something takes.

Most hooks are about changes that mean nothing to this unit: a peer that joins, a check that fails and
recovers, an update-status. A hook is a function of what it reads. If all that the last complete hook read
has the same value now, the same hook would do nothing and set the same status.

Killed at any point: the memory is removed before a hook does anything, and written when all is done and the
status is set. It holds values as the hook wrote them, and Juju keeps either all or none of these, so after a
hook that Juju takes back the values differ.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import ops
from ops import hookcmds

if TYPE_CHECKING:
    from adapters.juju.state import JujuState
    from adapters.pebble.observed import ObservedContainer

Server = tuple[str, int]


class SkipUnchanged:
    """What the last complete hook of this pod read, on the disk of the charm, which ends with the pod."""

    def __init__(
        self, charm: ops.CharmBase, state: JujuState, container: ObservedContainer
    ) -> None:
        self._state = state
        self._container = container
        self._file = pathlib.Path(charm.charm_dir, ".unchanged")

    def holds(self, event: ops.EventBase) -> bool:
        """Return whether everything that was read is unchanged, and PostgreSQL still answers.

        The cheapest and most likely differences come first: the relation of the event, the other reads,
        Pebble, the network.
        """
        try:
            known = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return False
        try:
            return (
                self._state.unchanged(known["reads"], event)
                and self._container.summary() == known["container"]
                and _answers(known["servers"])
            )
        except (hookcmds.Error, ops.ModelError):
            return False  # For example, a relation has gone.

    def remember(self, servers: Sequence[Server]) -> None:
        """Write what this hook read. `servers` are those that a hook asks whether PostgreSQL answers."""
        if not self._state.comparable:
            return
        reads, container = self._state.digests(), self._container.summary()
        text = json.dumps({"reads": reads, "container": container, "servers": servers})
        new = self._file.with_name(f"{self._file.name}.new")
        new.write_text(text)
        os.replace(new, self._file)

    def forget(self) -> None:
        """Remove the memory, because this hook is about to do something."""
        self._file.unlink(missing_ok=True)


def _answers(servers: Sequence[Server]) -> bool:
    if not servers:
        return True
    from adapters.connections import ping

    return ping.answers((host, port) for host, port in servers)
