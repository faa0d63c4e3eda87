"""Run one verb of the command `pooler`, and turn errors into messages and exit codes."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import pathlib
from collections.abc import Callable, Sequence

from adapters.local import environment
from app.errors import ConsoleFailed
from pooler.arguments import CommandError, UsageError
from pooler.binaries import Missing
from pooler.commandline.parser import parser
from pooler.invocation import Invocation, print_error
from pooler.server import ServerFailed
from pooler.store import Store, Unreadable, Unwritable, default_home

FAILED, MISUSED = 1, 2

Verb = Callable[[Invocation, argparse.Namespace], int]


def main(words: Sequence[str]) -> int:
    """Run the verb in these words, and return the exit code: 1 if it failed, 2 if it was misused."""
    arguments = parser().parse_args(words)
    home = pathlib.Path(os.environ.get("POOLER_HOME") or default_home()).absolute()
    libpq = environment.without_libpq()
    try:
        store = Store(home)
        store.check()
        run = Invocation(store, libpq)
        verb = _verb(arguments.run)
        if arguments.reads:
            return verb(run, arguments)
        with store.locked(print_error):
            return verb(run, arguments)
    except KeyboardInterrupt:
        print_error("interrupted: `pooler up` continues from here")
    except UsageError as error:
        print_error(f"pooler: {error}")
        return MISUSED
    except (CommandError, Missing, ServerFailed, Unreadable, Unwritable, ConsoleFailed) as error:
        print_error(f"pooler: {error}")
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        cure = ": free some space there, then run `pooler up`" if full else ""
        print_error(f"pooler: {error.filename or home}: {error.strerror}{cure}")
    return FAILED


def _verb(name: str) -> Verb:
    """Return the function `module:function` of pooler.verbs."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(f"pooler.verbs.{module}"), function)
