"""Let Pebble send the log lines of the container to Loki."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import ops

from adapters.connections.messages import last_line
from adapters.pebble.names import CONTAINER
from adapters.pebble.observed import ObservedContainer, Record
from app.errors import PoolerFailed, PoolerUnreachable
from domain.telemetry import LogTarget

# The label of the layer.
LABEL = f"{CONTAINER}-log-forwarding"

# A target cannot be removed from a plan. Pebble wants an address of a target without services, too.
_REMOVED = "(removed)"


class LogForwarding:
    """The log targets in the plan of Pebble, with a record of them beside that of the configuration."""

    def __init__(self, observed: ObservedContainer, labels: Mapping[str, str]) -> None:
        self._observed = observed
        self._labels = labels

    def read(self) -> tuple[LogTarget, ...]:
        """Return the targets that get log lines, by name; the address of a target that changes is ''."""
        try:
            known = self._known()
        except (ops.pebble.Error, OSError):
            return ()
        return tuple(LogTarget(name=name, url=url) for name, url in sorted(known.items()))

    def send(self, targets: tuple[LogTarget, ...]) -> None:
        """Send the lines of all services to exactly these targets. Raises PoolerFailed.

        If the hook is killed, the record names each target that may be in the plan, with an address that no
        target has. So the next hook writes or removes it again.
        """
        wanted = {target.name: target.url for target in targets}
        try:
            known = self._known()
            changed = {
                name: "" for name in {*known, *wanted} if known.get(name) != wanted.get(name)
            }
            self._write(known | changed)
            plan = {name: self._target(wanted.get(name)) for name in sorted(changed)}
            layer = ops.pebble.Layer({"summary": "Log lines for Loki", "log-targets": plan})
            self._observed.container.add_layer(LABEL, layer, combine=True)
            self._write(wanted)
        except (ops.pebble.ConnectionError, TimeoutError):
            raise PoolerUnreachable("the pgbouncer container does not answer") from None
        except (ops.pebble.Error, OSError) as error:
            raise PoolerFailed(last_line(str(error))) from None

    def _known(self) -> dict[str, str]:
        record = self._observed.record()
        known: object = record.get("logs") if record else None
        found = cast("dict[object, object]", known) if isinstance(known, dict) else {}
        return {str(name): str(url) for name, url in found.items()}

    def _write(self, targets: Mapping[str, str]) -> None:
        record: Record = self._observed.record() or {
            "applied": "",
            "files": {},
            "layer": "",
            "pebble": "",
        }
        self._observed.write({**record, "logs": dict(targets)})

    def _target(self, url: str | None) -> ops.pebble.LogTargetDict:
        target: ops.pebble.LogTargetDict = {
            "override": "replace",
            "type": "loki",
            "location": url or _REMOVED,
            "services": ["all"] if url else ["-all"],
        }
        if url:
            target["labels"] = dict(self._labels)
        return target
