"""The verbs about the command itself: its help, its man page and completion in a shell."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pooler.commandline.verb import light_verb
from pooler.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from pooler.commandline.verb import Verbs

SHELLS = ("bash", "zsh", "fish")


def add(verbs: Verbs) -> None:
    """Add `help`, `completion`, `man`, and `names`, which completion calls."""
    help_ = light_verb(verbs, "help", _help, "show the arguments of a verb, or all verbs")
    help_.add_argument("about", nargs="?", metavar="VERB", help="name of a verb")
    completion = light_verb(
        verbs,
        "completion",
        _completion,
        "print a script that completes words in a shell",
        "Print a script for a shell. The shell then completes verbs, options, and the names of"
        " applications and units.",
    )
    completion.add_argument("shell", choices=SHELLS, help="name of the shell")
    light_verb(verbs, "man", _man, "print the man page", "Print the man page, for `man -l -`.")
    names = light_verb(verbs, "names", _names, "", "Print names for completion.")
    names.add_argument("kind", choices=("applications", "units"))


def _help(arguments: argparse.Namespace) -> int:
    from pooler.commandline.parser import parser, refuse_verb

    pooler = parser()
    name = arguments.about
    if name and name not in pooler.verbs:
        refuse_verb(pooler, name)
    (pooler.verbs[name] if name else pooler).print_help()
    return DONE


def _completion(arguments: argparse.Namespace) -> int:
    from pooler.commandline.completion import script

    print(script(arguments.shell))
    return DONE


def _man(_: argparse.Namespace) -> int:
    from pooler.commandline.manual import page

    print(page(), end="")
    return DONE


def _names(arguments: argparse.Namespace) -> int:
    from pooler.commandline import names

    known = {"applications": names.applications, "units": names.units}[arguments.kind]
    try:
        print("\n".join(known()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return FAILED
    return DONE
