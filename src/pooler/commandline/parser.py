"""The parser of the whole command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from pooler.called import as_called, command
from pooler.commandline import about, authority, clients, lifecycle, metrics, operate, show
from pooler.commandline.columns import two_columns
from pooler.commandline.suggest import SHOWN, did_you_mean
from pooler.commandline.variables import VARIABLES
from pooler.commandline.verb import RAW, actions, examples_of, summary
from pooler.exit_codes import MEANINGS, MISUSED

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

ABOUT = "Run PgBouncer on this machine, in front of PostgreSQL, without Juju."


class Parser(argparse.ArgumentParser):
    """A parser whose errors begin with what is wrong; `verbs` holds the parsers of its verbs."""

    verbs: dict[str, argparse.ArgumentParser]

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help. Raises OSError, unlike argparse, if it cannot be written."""
        print(self.format_help(), end="", file=file or sys.stdout)

    def error(self, message: str) -> NoReturn:
        """Print what is wrong and how the command is used, and end the process."""
        help_of = f"`{self.prog} --help` shows all arguments"
        self.exit(MISUSED, as_called(f"pooler: {message}\n{self.format_usage()}{help_of}\n"))


class _Version(argparse.Action):
    """Print the version, and end the process."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from pooler.version import version

        print(f"pooler {version()}")
        parser.exit()


def parser(prog: str | None = None) -> Parser:
    """Return the parser of the command line, with all verbs; `prog` is the command as it was called."""
    pooler = Parser(
        prog=prog or command(), description=ABOUT, epilog=_epilog(), formatter_class=RAW
    )
    pooler.add_argument("-V", "--version", action=_Version, nargs=0, help="print the version")
    verbs = pooler.add_subparsers(dest="verb", required=True, metavar="VERB", title="verbs")
    for topic in (lifecycle, clients, operate, authority, show, metrics, about):
        topic.add(verbs)
    pooler.verbs = dict(verbs.choices)
    return pooler


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return the arguments in these words. Raises SystemExit, after printing what is wrong."""
    pooler = parser()
    if not words:
        pooler.print_help(sys.stderr)
        pooler.exit(MISUSED)
    name, *rest = words
    if name.startswith("-"):
        if name not in {"-h", "--help", "-V", "--version"}:
            refuse_option(pooler, name)
        return pooler.parse_args([name])
    if name not in pooler.verbs:
        refuse_verb(pooler, name)
    verb = pooler.verbs[name]
    arguments, unknown = verb.parse_known_args(rest)
    if "settings" in arguments and not any(word.startswith("-") for word in unknown):
        # argparse takes such words only in a single place: not in `up KEY=VALUE --units 2 KEY=VALUE`.
        arguments.settings, unknown = [*arguments.settings, *unknown], []
    if unknown:
        if unknown[0].startswith("-"):
            refuse_option(verb, unknown[0])
        verb.error(f"argument {unknown[0][:SHOWN]!r} is not expected here")
    arguments.verb = name
    return arguments


def refuse_verb(pooler: Parser, name: str) -> NoReturn:
    """Print that there is no such verb, and end the process."""
    known = [known for known, verb in pooler.verbs.items() if summary(verb)]
    meant = did_you_mean(name, known, command="pooler")
    listing = "`pooler --help` lists the verbs"
    pooler.exit(
        MISUSED, as_called(f"pooler: there is no verb {name[:SHOWN]!r}{meant}\n{listing}\n")
    )


def refuse_option(parser: argparse.ArgumentParser, word: str) -> NoReturn:
    """Print that the parser has no such option, and end the process."""
    name, _, _ = word.partition("=")
    known = [text for action in actions(parser) for text in action.option_strings]
    parser.error(f"there is no option {name[:SHOWN]!r}{did_you_mean(name, known)}")


def _epilog() -> str:
    variables = two_columns(VARIABLES.items())
    codes = two_columns((str(code), meaning) for code, meaning in MEANINGS.items())
    return "\n\n".join(
        (
            examples_of("", command()),
            as_called(f"environment variables:\n{variables}"),
            f"exit codes:\n{codes}",
        )
    )
