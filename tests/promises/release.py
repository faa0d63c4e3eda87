"""Run hooks of units with the code of a release, which is on the path of this process.

    PYTHONPATH=RELEASE/src python release.py HOME end|start|hear UNIT…

`end` runs the hook stop, waits until clients have left, and takes the disk of the unit. `start` runs the first
hooks of a new pod, and `hear` the hook of the peer relation. Prints, as JSON, which of the units lets the next
unit go.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import sys

from adapters.local.run_as import pooler_owner
from pooler.platform import LocalPlatform
from pooler.store import Store


def main(home: str, what: str, *units: str) -> None:
    """Run the hooks, and print the answer."""
    store = Store(pathlib.Path(home))
    with store.locked(lambda _: None):
        platform = LocalPlatform(store, store.load(), pooler_owner())
        for unit in units:
            {"end": _end, "start": LocalPlatform.run_startup_hooks, "hear": _hear}[what](
                platform, unit
            )
        records = {unit: platform.pooler(unit).applied() for unit in platform.model.units}
    print(json.dumps([unit for unit, record in records.items() if record and record.lets_next_go]))


def _end(platform: LocalPlatform, unit: str) -> None:
    with platform.hook(unit) as application:
        application.stop()
    platform.pooler(unit).stop()
    layout = platform.layout(unit)
    for directory in (layout.root, layout.sockets):
        shutil.rmtree(directory, ignore_errors=True)


def _hear(platform: LocalPlatform, unit: str) -> None:
    with platform.hook(unit) as application:
        application.peers_changed()


if __name__ == "__main__":
    main(*sys.argv[1:])
