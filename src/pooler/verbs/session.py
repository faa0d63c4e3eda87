"""The verbs `psql` and `exec`: run psql, or any command, as an application of the pool.

The command replaces the process of `pooler`, so that the command itself gets signals and gives the exit code.
The password is in the environment of the command, which other users cannot read, and not in its arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import pathlib
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence

import pooler
from pooler import binaries
from pooler.access import access_of, kept
from pooler.arguments import CommandError, UsageError
from pooler.called import VARIABLE
from pooler.invocation import Invocation
from pooler.output import print_error

# Exit codes of a shell that cannot run a command.
NOT_EXECUTABLE, NOT_FOUND = 126, 127

_OUR_MODULES = str(pathlib.Path(pooler.__file__).resolve().parents[1])


def psql(run: Invocation, arguments: argparse.Namespace) -> int:
    """Replace this process by psql, which connects to the first unit that answers."""
    access = access_of(run, arguments.name)
    program = _psql(run)
    words = [str(program), *_without_dashes(arguments.words)]
    return _replace_process(words, _environment(run, access.libpq_variables()))


def execute(run: Invocation, arguments: argparse.Namespace) -> int:
    """Replace this process by a command that has the application's login in its environment.

    Returns 127 if the command does not exist, and 126 if it cannot be executed.
    """
    access = access_of(run, arguments.name)
    words = _without_dashes(arguments.words)
    if not words:
        raise UsageError(
            f"there is no command: write `pooler exec {arguments.name} -- COMMAND`, for example"
            f" `pooler exec {arguments.name} -- env`"
        )
    return _replace_process(words, _environment(run, access.variables()))


def _psql(run: Invocation) -> pathlib.Path:
    """Return the path of psql: on the PATH, or beside the programs of a server. Raises CommandError."""
    if found := shutil.which("psql"):
        return pathlib.Path(found)
    server = run.store.load().server
    with contextlib.suppress(binaries.Missing):
        programs = (
            pathlib.Path(server.programs)
            if server
            else binaries.postgresql(binaries.default_cache(), print_error)
        )
        if os.access(programs / "psql", os.X_OK):
            return programs / "psql"
    raise CommandError(
        "there is no psql on the PATH: install PostgreSQL's client (on Debian and Ubuntu"
        " `apt install postgresql-client`), or set $PG_BIN_DIR to a directory with psql and a server"
    )


def _environment(run: Invocation, login: dict[str, str]) -> dict[str, str]:
    """Return the environment of the caller, with this login in place of any other login."""
    environment = os.environ | kept(run.libpq) | login
    environment.pop(VARIABLE, None)
    # A command in Python must not import modules of `pooler` in place of its own.
    paths = environment.pop("PYTHONPATH", "").split(os.pathsep)
    theirs = [path for path in paths if path and os.path.realpath(path) != _OUR_MODULES]
    return environment | ({"PYTHONPATH": os.pathsep.join(theirs)} if theirs else {})


def _without_dashes(words: Sequence[str]) -> list[str]:
    """Return the words after a leading `--`."""
    return list(words[1:] if words[:1] == ["--"] else words)


def _replace_process(words: list[str], environment: Mapping[str, str]) -> int:
    """Run a command in place of this process; return only if that is not possible."""
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores these signals, and a new program would inherit that.
    ignored = (signal.SIGPIPE, signal.SIGXFSZ)
    before = [signal.signal(number, signal.SIG_DFL) for number in ignored]
    try:
        os.execvpe(words[0], words, environment)  # noqa: S606 — the command of the user
    except OSError as error:
        for number, handler in zip(ignored, before, strict=True):
            signal.signal(number, handler)
        # A directory on the PATH that this user cannot enter gives EACCES for every name.
        unknown = "/" not in words[0] and shutil.which(words[0]) is None
        missing = unknown or error.errno in {errno.ENOENT, errno.ENOTDIR}
        reason = "no such command" if missing else error.strerror
        print_error(f"pooler: {words[0]}: {reason}: check its name, and the PATH")
        return NOT_FOUND if missing else NOT_EXECUTABLE
