"""The verbs that show the units, their pools and their logs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pooler.commandline.verb import verb

if TYPE_CHECKING:
    from pooler.commandline.verb import Verbs

# Bounds of the time between two views, in seconds.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 3600.0

WATCH_SECONDS = 2.0
LOG_LINES = 40
MOST_LOG_LINES = 1_000_000


def add(verbs: Verbs) -> None:
    """Add `status`, `top`, `logs`, `doctor` and `report`."""
    status = verb(
        verbs,
        "status",
        "status:status",
        "show the units, their applications and what is wrong",
        reads=True,
    )
    status.add_argument("--json", action="store_true", help="print JSON")
    status.add_argument(
        "--watch",
        nargs="?",
        type=_pause,
        const=WATCH_SECONDS,
        metavar="SECONDS",
        help=f"show it again every SECONDS (by default {WATCH_SECONDS:g}); q ends",
    )
    _add_top(verbs)
    _add_logs(verbs)
    doctor = verb(
        verbs,
        "doctor",
        "doctor:doctor",
        "check this machine, PostgreSQL, the units and the applications",
        reads=True,
    )
    doctor.add_argument("--json", action="store_true", help="print JSON")
    report = verb(
        verbs,
        "report",
        "report:report",
        "write status, checks, configuration and logs to a file, without passwords",
        reads=True,
    )
    report.add_argument(
        "file", nargs="?", metavar="FILE", help="a new .tar.gz file (by default in this directory)"
    )


def _add_top(verbs: Verbs) -> None:
    top = verb(
        verbs,
        "top",
        "top:top",
        "show which applications wait, again and again; q ends",
        reads=True,
    )
    top.add_argument(
        "--every", type=_pause, default=1.0, metavar="SECONDS", help="by default every second"
    )
    top.add_argument("--once", action="store_true", help="show the pools a single time")
    top.add_argument("--each", action="store_true", help="show the pools of each process")
    top.add_argument("--all", action="store_true", help="also show idle and internal pools")
    top.add_argument("--json", action="store_true", help="print a JSON document each time")


def _add_logs(verbs: Verbs) -> None:
    logs = verb(verbs, "logs", "logs:logs", "show the end of PgBouncer's logs", reads=True)
    logs.add_argument(
        "unit",
        nargs="?",
        help="number or name of a unit, or `postgresql` for the log of the PostgreSQL that `pooler`"
        " made (by default all units)",
    )
    logs.add_argument("-f", "--follow", action="store_true", help="show new lines, too")
    logs.add_argument(
        "-n",
        "--lines",
        type=_lines,
        metavar="N",
        help=f"number of lines (by default {LOG_LINES}; with --since all)",
    )
    logs.add_argument(
        "--since",
        metavar="TIME",
        help="show lines since a time: 30s, 10m, 2h, 1d, or 2026-11-27T18:30",
    )
    logs.add_argument("--grep", metavar="TEXT", help="show only lines that contain this text")
    logs.add_argument(
        "--all",
        action="store_true",
        help="also show the logins of `pooler` to PgBouncer's console",
    )


def _pause(text: str) -> float:
    """Return a number of seconds within the bounds; for `nan` the lower bound."""
    seconds = float(text)
    return min(max(SHORTEST_PAUSE, seconds), LONGEST_PAUSE)


def _lines(text: str) -> int:
    """Return a number of lines, 0 or more."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("has to be 0 or more")
    return min(number, MOST_LOG_LINES)
