"""The verbs that show the units, their pools and their logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooler.commandline.verb import verb

if TYPE_CHECKING:
    from pooler.commandline.verb import Verbs

# Bounds of the time between two tables of `pooler top`, in seconds.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 3600.0


def add(verbs: Verbs) -> None:
    """Add `status`, `top` and `logs`."""
    verb(verbs, "status", "show:status", "show the state of every unit")
    top = verb(verbs, "top", "show:top", "show the pools, again and again", reads=True)
    top.add_argument(
        "--every", type=_pause, default=1.0, metavar="SECONDS", help="by default every second"
    )
    top.add_argument("--once", action="store_true", help="show the pools a single time")
    logs = verb(verbs, "logs", "show:logs", "show the end of PgBouncer's logs", reads=True)
    logs.add_argument("unit", nargs="?", help="number or name of a unit (by default all)")
    logs.add_argument("-f", "--follow", action="store_true", help="show new lines, too")


def _pause(text: str) -> float:
    """Return a number of seconds within the bounds; for `nan` the lower bound."""
    return min(max(SHORTEST_PAUSE, float(text)), LONGEST_PAUSE)
