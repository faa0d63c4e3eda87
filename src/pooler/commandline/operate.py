"""The verbs that operate running units."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pooler.commandline.verb import verb

if TYPE_CHECKING:
    from pooler.commandline.verb import Verbs


def add(verbs: Verbs) -> None:
    """Add `config`, `restart`, `rotate`, `pause` and `resume`."""
    config = verb(
        verbs,
        "config",
        "operate:config",
        "show options, set options, or reset options",
        reads=_reads,
        about="Show all options, or the value of the option KEY; with KEY=VALUE or `--reset`, set options.",
    )
    config.add_argument(
        "settings", nargs="*", metavar="KEY[=VALUE]", help="option to show, or options to set"
    )
    config.add_argument(
        "--reset",
        action="append",
        default=[],
        metavar="KEY",
        help="set an option to its default (may be repeated)",
    )
    config.add_argument("--json", action="store_true", help="print values as JSON")
    restart = verb(verbs, "restart", "operate:restart", "replace the processes, one after another")
    restart.add_argument("unit", nargs="?", help="number or name of a unit (by default all)")
    rotate = verb(verbs, "rotate", "rotate:rotate", "give users new passwords")
    rotate.add_argument("name", nargs="?", help="application (by default all)")
    rotate.add_argument(
        "--own",
        action="store_true",
        help="the users of PgBouncer itself, not those of applications",
    )
    verb(
        verbs,
        "pause",
        "operate:pause",
        "let open transactions end, and let new transactions wait",
    )
    verb(verbs, "resume", "operate:resume", "let the transactions that wait continue")


def _reads(arguments: argparse.Namespace) -> bool:
    """Return whether `config` only shows options."""
    return not arguments.reset and not any("=" in word for word in arguments.settings)
