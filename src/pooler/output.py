"""Print messages and results, in which the command is named as the user called it."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from pooler.called import as_called
from pooler.views.text import printable


def _safe(text: str) -> str:
    """Return a message as it is printed. Its names may come from a server, or from clients."""
    return "\n".join(map(printable, as_called(text).split("\n")))


def print_line(text: str = "") -> None:
    """Print a line of a result. Raises BrokenPipeError if the reader of the output has ended."""
    print(_safe(text), flush=True)


def print_progress(text: str) -> None:
    """Print a line that says how far the command is.

    The command goes on if the reader of its output has ended, as `head -1` does: half of a change is
    worse than a change that is not seen.
    """
    try:
        print_line(text)
    except BrokenPipeError:
        discard_output()


def print_error(text: str) -> None:
    """Print a line to standard error, if it can be written."""
    with suppress(OSError):
        print(_safe(text), file=sys.stderr, flush=True)


def discard_output() -> None:
    """Let everything that is printed from now on be lost, so that the end of the process reports no error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
