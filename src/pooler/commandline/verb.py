"""Declare a verb of the command line."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The parser is made before the modules of the verbs are imported, so `--help` is quick.
    # argparse has no public name for what add_subparsers() returns.
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]  # pyright: ignore[reportPrivateUsage]


def verb(
    verbs: Verbs, name: str, run: str, text: str, *, reads: bool = False
) -> argparse.ArgumentParser:
    """Add a verb and return its parser.

    `run` names the function of the verb as `module:function` in pooler.verbs. A verb that only `reads`
    also runs while another command changes the state.
    """
    parser = verbs.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run, reads=reads)
    return parser
