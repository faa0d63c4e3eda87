"""Which endpoints have no relation, so that a hook asks Juju only for the relations that may exist.

Juju lists the relations of a single endpoint a call, and most endpoints of this charm have none. Juju announces
each new relation by relation-created, so an endpoint that had no relation has none until a hook of that endpoint.
"""

from __future__ import annotations

import json
import os
import pathlib


class UnrelatedEndpoints:
    """The endpoints that had no relation when a hook last asked, on the charm's disk, which ends with the pod.

    A hook of an endpoint removes it before the hook does anything. So it is asked for again also if that hook
    is killed or skipped, and if an operator lets Juju go on without it (`juju resolved --no-retry`).
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._file = pathlib.Path(folder, ".unrelated")
        self._known = _read(self._file)
        self._stored = set(self._known)
        announced = os.environ.get("JUJU_RELATION", "")
        if announced in self._known:
            self._known.discard(announced)
            self.store()

    def __contains__(self, endpoint: str) -> bool:
        return endpoint in self._known

    def forget(self) -> None:
        """Let each endpoint be asked for again."""
        self._known.clear()

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
            new.write_text(json.dumps(sorted(self._known)))
            os.replace(new, self._file)
        except OSError:
            # The disk may be full. Without the file, later hooks ask Juju for each endpoint.
            self._file.unlink(missing_ok=True)
        self._stored = set(self._known)


def _read(file: pathlib.Path) -> set[str]:
    try:
        return set(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return set()
