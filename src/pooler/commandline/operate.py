"""The verbs that operate running units."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from pooler.commandline.verb import verb

if TYPE_CHECKING:
    from pooler.commandline.verb import Verbs

_MONTH = 31 * 24 * 60 * 60

# The help of an argument that may be missing.
_DATABASE = "name of a database (by default all)"


def add(verbs: Verbs) -> None:
    """Add the verbs for options, processes, passwords, pauses and clients."""
    _add_config(verbs)
    restart = verb(verbs, "restart", "operate:restart", "replace the processes, each in turn")
    restart.add_argument(
        "unit", nargs="?", type=_name, help="number or name of a unit (by default all)"
    )
    _add_rotate(verbs)
    _add_pauses(verbs)
    disable = verb(verbs, "disable", "operate:disable", "let no client log in to a database")
    disable.add_argument("database", help="name of a database")
    enable = verb(verbs, "enable", "operate:enable", "let clients log in to a database again")
    enable.add_argument("database", help="name of a database")
    verb(verbs, "reconnect", "operate:reconnect", "replace every server connection")
    _add_kill(verbs)


def _add_config(verbs: Verbs) -> None:
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


def _add_rotate(verbs: Verbs) -> None:
    rotate = verb(verbs, "rotate", "rotate:rotate", "give users new passwords")
    rotate.add_argument("name", nargs="?", type=_name, help="application (by default all)")
    rotate.add_argument(
        "--own",
        action="store_true",
        help="the users of PgBouncer itself, not those of applications",
    )
    rotate.add_argument(
        "--valid-for",
        type=_seconds,
        default=24 * 60 * 60,
        metavar="SECONDS",
        help="how long applications can log in with their former credentials (by default a day)",
    )


def _add_pauses(verbs: Verbs) -> None:
    """Add `pause` and `resume`."""
    pause = verb(
        verbs,
        "pause",
        "operate:pause",
        "let open transactions end, and let new transactions wait",
    )
    pause.add_argument("database", nargs="?", type=_name, help=_DATABASE)
    pause.add_argument(
        "--timeout",
        type=_number,
        metavar="SECONDS",
        help="take the pause back if a transaction is still open then (by default the pause stays)",
    )
    resume = verb(verbs, "resume", "operate:resume", "let the transactions that wait continue")
    resume.add_argument("database", nargs="?", type=_name, help=_DATABASE)


def _add_kill(verbs: Verbs) -> None:
    kill = verb(
        verbs,
        "kill",
        "operate:kill",
        "disconnect clients",
        about="Disconnect the clients that match all arguments.",
    )
    kill.add_argument("--database", type=_name, metavar="NAME", help="clients of a database")
    kill.add_argument("--user", type=_name, metavar="NAME", help="clients of a user")
    kill.add_argument(
        "--idle",
        type=_number,
        metavar="SECONDS",
        help="idle clients whose last request is so long ago",
    )
    kill.add_argument(
        "--oldest",
        type=_number,
        metavar="COUNT",
        help="in each process so many clients that have been idle longest",
    )


def _name(text: str) -> str:
    """Return a name. An empty text, often a shell variable without a value, does not mean all."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty: give a name, or leave it out")
    return text


def _number(text: str) -> int:
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is no whole number from 1")
    return int(text)


def _seconds(text: str) -> int:
    """Return a number of seconds, at most a month. Raises argparse.ArgumentTypeError."""
    if not re.fullmatch(r"[0-9]{1,7}", text) or int(text) > _MONTH:
        raise argparse.ArgumentTypeError(f"{text[:20]!r} is no number from 0 to {_MONTH}")
    return int(text)


def _reads(arguments: argparse.Namespace) -> bool:
    """Return whether `config` only shows options."""
    return not arguments.reset and not any("=" in word for word in arguments.settings)
