"""Make the man page from the parser, in the macros of man(7)."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator

from pooler.commandline.examples import EXAMPLES
from pooler.commandline.parser import ABOUT, parser
from pooler.commandline.variables import VARIABLES
from pooler.commandline.verb import actions, summary
from pooler.exit_codes import MEANINGS
from pooler.version import number


def page() -> str:
    """Return the man page of `pooler`."""
    pooler = parser(prog="pooler")
    verbs = {name: verb for name, verb in pooler.verbs.items() if summary(verb)}
    lines = [
        f'.TH POOLER 1 "" "pooler {_text(number())}" "User commands"',
        # Lines are neither stretched nor hyphenated: a name stays as it is typed.
        *(".ad l", ".nh"),
        *(".SH NAME", "pooler \\- run PgBouncer on this machine, without Juju"),
        *(".SH SYNOPSIS", ".B pooler", ".I VERB", "[ARGUMENT ...]"),
        *(".SH DESCRIPTION", _text(ABOUT)),
        ".SH VERBS",
    ]
    for name, verb in verbs.items():
        lines += _verb(name, verb)
    lines += [".SH ENVIRONMENT", *_list(VARIABLES.items())]
    lines += [".SH EXIT STATUS", *_list((str(code), text) for code, text in MEANINGS.items())]
    lines += [".SH EXAMPLES", *_examples("")]
    return "\n".join(lines) + "\n"


def _verb(name: str, verb: argparse.ArgumentParser) -> Iterator[str]:
    usage = " ".join(verb.format_usage().split()).removeprefix("usage: ").replace(" [-h]", "")
    yield from (f".SS {name}", f"\\fB{_text(usage)}\\fR", ".PP")
    yield _text(" ".join((verb.description or "").split()))
    yield from _list(
        (_names(action), _help(verb, action))
        for action in actions(verb)
        if action.help and action.dest != "help"
    )
    yield from _examples(name)


def _names(action: argparse.Action) -> str:
    """Return how an argument is written, such as `--units UNITS`."""
    value = action.metavar or action.dest
    if not isinstance(value, str):
        value = " ".join(value)
    if not action.option_strings:
        return value
    takes_value = action.nargs != 0
    if takes_value and not action.metavar:
        value = "|".join(map(str, action.choices)) if action.choices else value.upper()
    return ", ".join(action.option_strings) + (f" {value}" if takes_value else "")


def _help(verb: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Return the help of an argument, with its default where the text asks for it."""
    return str(action.help) % {**vars(action), "prog": verb.prog}


def _examples(name: str) -> Iterator[str]:
    for words, text in EXAMPLES.get(name, ()):
        yield from (".PP", _text(f"{text[:1].upper()}{text[1:]}:"))
        yield from (".RS", ".EX", _text(f"pooler {words}"), ".EE", ".RE")


def _list(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, text in rows:
        yield from (".TP", f"\\fB{_text(name)}\\fR", _text(text))


def _text(text: str) -> str:
    """Return a text in which roff takes no character as a command; `x` is shown in bold."""
    escaped = (
        text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace('"', "\\(dq")
    )
    bold = re.sub(r"`([^`]*)`", r"\\fB\1\\fR", escaped)
    bold = bold.replace("…", "\\&...")
    return f"\\&{bold}" if bold.startswith(".") else bold
