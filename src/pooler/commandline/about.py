"""The verbs about the command itself: its help, its man page and completion in a shell."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pooler.commandline.verb import light_verb

if TYPE_CHECKING:
    from pooler.commandline.verb import Verbs


def add(verbs: Verbs) -> None:
    """Add `help`."""
    help_ = light_verb(verbs, "help", _help, "show the arguments of a verb, or all verbs")
    help_.add_argument("about", nargs="?", metavar="VERB", help="name of a verb")


def _help(arguments: argparse.Namespace) -> int:
    from pooler.commandline.parser import parser, refuse_verb

    pooler = parser()
    name = arguments.about
    if name is not None and name not in pooler.verbs:
        refuse_verb(pooler, name)
    (pooler.verbs[name] if name else pooler).print_help()
    return 0
