"""Run one verb with the state on disk, and turn errors into messages and exit codes."""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
from collections.abc import Callable

from adapters.local import environment
from app.errors import ConsoleFailed
from pooler.arguments import CommandError, UsageError
from pooler.binaries import Missing
from pooler.exit_codes import FAILED, INTERRUPTED, MISUSED
from pooler.home import home
from pooler.invocation import Invocation
from pooler.output import print_error
from pooler.server import ServerFailed
from pooler.store import Store, Unreadable, Unwritable

Verb = Callable[[Invocation, argparse.Namespace], int]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def execute(arguments: argparse.Namespace) -> int:
    """Run the verb of these arguments, and return the exit code."""
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    if (system := os.uname().sysname) != "Linux":
        # Processes are found in /proc, and units have addresses such as 127.0.0.3.
        print_error(f"pooler: {system} is not supported: run `pooler` on Linux")
        return FAILED
    store, libpq = Store(home()), environment.without_libpq()
    changing = False
    try:
        store.check()
        run, verb = Invocation(store, libpq), _verb(arguments.run)
        reads = arguments.reads
        if reads(arguments) if callable(reads) else reads:
            return verb(run, arguments)
        with store.locked(print_error):
            changing = True
            return verb(run, arguments)
    except KeyboardInterrupt:
        if changing:
            print_error(f"interrupted: run `pooler {arguments.verb}` again to continue")
        return INTERRUPTED
    except UsageError as error:
        print_error(f"pooler: {error}")
        return MISUSED
    except (CommandError, Missing, ServerFailed, Unreadable, Unwritable, ConsoleFailed) as error:
        print_error(f"pooler: {error}")
    except BrokenPipeError:
        raise
    except OSError as error:
        print_error(f"pooler: {error.filename or store.home}: {error.strerror}{_cure(error)}")
    return FAILED


def _verb(name: str) -> Verb:
    """Return the function `module:function` of pooler.verbs."""
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(f"pooler.verbs.{module}"), function)


def _cure(error: OSError) -> str:
    if error.errno in _FULL:
        return ": free some space there, then run this command again"
    if error.errno in _FORBIDDEN:
        return ": set $POOLER_HOME to a directory that you can write to"
    return ""
