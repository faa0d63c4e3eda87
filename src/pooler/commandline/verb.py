"""Declare a verb of the command line."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

from pooler.called import as_called, command
from pooler.commandline.columns import WIDTH, two_columns
from pooler.commandline.examples import EXAMPLES

if TYPE_CHECKING:
    # The parser is made before the modules of the verbs are imported, so `--help` is quick.
    # argparse has no public name for what add_subparsers() returns.
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]  # pyright: ignore[reportPrivateUsage]

# The lines of examples stay as they are.
RAW = argparse.RawDescriptionHelpFormatter

# Whether a verb with these arguments only reads.
Reads = bool | Callable[[argparse.Namespace], bool]


def verb(
    verbs: Verbs, name: str, run: str, text: str, *, reads: Reads = False, about: str = ""
) -> argparse.ArgumentParser:
    """Add a verb and return its parser.

    `run` names the function of the verb as `module:function` in pooler.verbs. A verb that only `reads`
    also runs while another command changes the state. `text` is the line of the verb in the list of all
    verbs, and `about` describes it in its own help. The examples are in `examples.py`.
    """
    parser = _declare(verbs, name, text, about)
    parser.set_defaults(run=run, reads=reads, light=None)
    return parser


def light_verb(
    verbs: Verbs,
    name: str,
    run: Callable[[argparse.Namespace], int],
    text: str,
    about: str = "",
) -> argparse.ArgumentParser:
    """Add a verb that needs no state, such as `help`, and return its parser.

    Without `text` the list of all verbs does not show it.
    """
    parser = _declare(verbs, name, text, about)
    parser.set_defaults(light=run)
    return parser


def summary(parser: argparse.ArgumentParser) -> str:
    """Return the line of a verb in the list of all verbs; '' if the list does not show it."""
    return str(parser.get_default("summary"))


def actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the arguments of a parser."""
    # argparse has no public name for them; shtab reads the same attribute.
    return parser._actions  # pyright: ignore[reportPrivateUsage]


def examples_of(name: str, prog: str) -> str:
    """Return the examples of a verb, as its help shows them; '' stands for the command itself."""
    rows = [(f"{prog} {words}", text) for words, text in EXAMPLES.get(name, ())]
    return f"examples:\n{as_called(two_columns(rows))}" if rows else ""


def _declare(verbs: Verbs, name: str, text: str, about: str) -> argparse.ArgumentParser:
    # argparse lists a verb if its `help` is given.
    parser = verbs.add_parser(name, help=text) if text else verbs.add_parser(name)
    parser.description = textwrap.fill(as_called(about or f"{text[:1].upper()}{text[1:]}."), WIDTH)
    parser.epilog = examples_of(name, command())
    parser.formatter_class = RAW
    # A script with a shortened option fails when a later release has another option that begins so.
    parser.allow_abbrev = False
    parser.set_defaults(summary=text)
    return parser
