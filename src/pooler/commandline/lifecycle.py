"""The verbs that start and stop units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooler.commandline.verb import verb

if TYPE_CHECKING:
    from pooler.commandline.verb import Verbs


def add(verbs: Verbs) -> None:
    """Add `up`, `scale` and `down`."""
    up = verb(verbs, "up", "lifecycle:up", "start the units, or continue after any interruption")
    up.add_argument("--units", type=int, help="number of units; the first `up` starts 1")
    up.add_argument(
        "--backend",
        metavar="URI",
        help="an existing server, postgresql://USER@HOST:PORT, password in $PGPASSWORD",
    )
    up.add_argument(
        "--read-only-endpoints",
        metavar="HOST:PORT,…",
        help="replicas of that server, which clients reach as DATABASE_readonly",
    )
    up.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="options, as for `config`")
    scale = verb(verbs, "scale", "lifecycle:scale", "set the number of units")
    scale.add_argument("units", type=int, help="number of units, 1 to 20")
    down = verb(verbs, "down", "lifecycle:down", "stop all processes, and remove all files")
    down.add_argument("--keep", action="store_true", help="keep the files, for the next `up`")
