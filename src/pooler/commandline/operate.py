"""The verbs that operate running units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pooler.commandline.verb import verb

if TYPE_CHECKING:
    from pooler.commandline.verb import Verbs


def add(verbs: Verbs) -> None:
    """Add `config`, `restart`, `pause` and `resume`."""
    config = verb(verbs, "config", "operate:config", "show the options, or set options")
    config.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    restart = verb(verbs, "restart", "operate:restart", "replace the processes, one after another")
    restart.add_argument("unit", nargs="?", help="number or name of a unit (by default all)")
    verb(
        verbs,
        "pause",
        "operate:pause",
        "let open transactions end, and let new transactions wait",
    )
    verb(verbs, "resume", "operate:resume", "let the transactions that wait continue")
