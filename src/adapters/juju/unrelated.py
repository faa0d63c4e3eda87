"""Which endpoints have no relation, so that a hook asks Juju only for the relations that may exist.

Juju lists the relations of a single endpoint a call, and most endpoints of this charm have none. Juju announces
each new relation by relation-created, so an endpoint that had no relation has none until a hook of that endpoint.

Juju leaves relation-created out for a relation that is resumed, and after a restart of its agent between two new
relations. The first hook of such a relation is the relation-changed that follows relation-joined.
"""

from __future__ import annotations

import json
import os
import pathlib

# Hooks after which nothing is known: another charm may have run on this disk, and relations may be older than the
# pod.
_FIRST_HOOKS = ("hooks/start", "hooks/upgrade-charm")

# A file with another content after each start of the machine.
BOOT = pathlib.Path("/proc/sys/kernel/random/boot_id")


class UnrelatedEndpoints:
    """The endpoints that had no relation when a hook last asked, on the charm's disk, which ends with the pod.

    A hook of an endpoint removes it before the hook does anything. So it is asked for again also if that hook
    is killed or skipped, and if an operator lets Juju go on without it (`juju resolved --no-retry`).

    The file is valid until the machine starts again: after a loss of power the disk may have a file from before
    the last hooks.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._file = pathlib.Path(folder, ".unrelated")
        self._known = self._read()
        self._stored = set(self._known)
        if os.environ.get("JUJU_DISPATCH_PATH") in _FIRST_HOOKS:
            self._known.clear()
        self._known.discard(os.environ.get("JUJU_RELATION", ""))
        self.store()

    def __contains__(self, endpoint: str) -> bool:
        return endpoint in self._known

    def learn(self, endpoint: str, *, related: bool) -> None:
        """Keep whether Juju lists a relation of this endpoint."""
        if related:
            self._known.discard(endpoint)
        else:
            self._known.add(endpoint)

    def store(self) -> None:
        """Write what is known for later hooks, if it has changed."""
        if self._known == self._stored:
            return
        new = self._file.with_name(f"{self._file.name}.new")
        try:
            new.write_text(json.dumps([_boot(), *sorted(self._known)]))
            os.replace(new, self._file)
        except OSError:
            # The disk may be full. Without the file, later hooks ask Juju for each endpoint.
            self._file.unlink(missing_ok=True)
        self._stored = set(self._known)

    def _read(self) -> set[str]:
        try:
            boot, *endpoints = json.loads(self._file.read_text())
            if boot == _boot():
                return set(endpoints)
        except (OSError, ValueError, TypeError):
            pass
        # A later hook may be able to read the file, and this hook cannot remove an endpoint from it.
        self._file.unlink(missing_ok=True)
        return set()


def _boot() -> str:
    try:
        return BOOT.read_text()
    except OSError:
        return ""
