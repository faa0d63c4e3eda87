"""The verb `logs`: show the ends of the logs of all processes, in the order of time."""

from __future__ import annotations

import argparse
import datetime
import re
import sys
import time
from collections.abc import Sequence

from pooler.arguments import UsageError
from pooler.commandline.show import LOG_LINES, MOST_LOG_LINES
from pooler.invocation import Invocation
from pooler.log_files import Follower, Keep, Line, Source, moment, tail
from pooler.own_logins import OwnLogins
from pooler.platform import LocalPlatform
from pooler.views.text import printable

POSTGRESQL = "postgresql"

# Seconds between two looks at the logs.
_FOLLOW_SECONDS = 0.25

# A login of `pooler`, or of a monitor, to the console: a line for its beginning, and a line for its end,
# which may also be the end of the process. A login that fails is shown.
_CONSOLE_LOGIN = re.compile(
    r" LOG C-0x[0-9a-f]+: pgbouncer/[A-Za-z0-9_.-]+@unix\(\d+\):\d+ "
    r"(?:login attempt: |closing because: (?!.*(?:fail|denied|refused|no such)))"
)


def logs(run: Invocation, arguments: argparse.Namespace) -> int:
    """Print the last lines of the logs, and new lines with `--follow`."""
    since, most = _since(arguments.since), _most(arguments)
    sources = sources_of(run, arguments.unit)

    def keep() -> Keep:
        own = OwnLogins.of(run.store.home)
        return chosen(arguments.grep, own, everything=arguments.all)

    follower = Follower(sources)
    kept = keep()
    found = sorted(
        (line for source in sources for line in tail(source, most, since, kept)),
        key=lambda line: line.time,
    )
    _print(found[-most:] if most else [], sources)
    while arguments.follow:
        sources = sources_of(run, arguments.unit)
        lines = follower.new_lines(sources)
        # PgBouncer logs a login a moment before `pooler` writes down that it was its own.
        time.sleep(_FOLLOW_SECONDS)
        if lines:
            kept = keep()
            _print([line for line in lines if kept(line.text)], sources)
    return 0


def _since(text: str | None) -> str:
    try:
        return moment(text, datetime.datetime.now().astimezone()) if text else ""
    except (ValueError, OverflowError):
        raise UsageError(
            f"--since: {printable(str(text)[:40])!r} is no time: write 30s, 10m, 2h, 1d or 2026-11-27T18:30"
        ) from None


def _most(arguments: argparse.Namespace) -> int:
    if arguments.lines is not None:
        return int(arguments.lines)
    return MOST_LOG_LINES if arguments.since else LOG_LINES


def sources_of(run: Invocation, unit: str | None) -> list[Source]:
    """Return the logs of a unit, of all units, or of the PostgreSQL that `pooler` made.

    Raises CommandError or UsageError.
    """
    platform = run.platform(stopped=True)
    if unit == POSTGRESQL:
        if platform.state.server is None:
            raise UsageError(
                "the log of PostgreSQL is not on this machine: `pooler up --backend` names the server"
            )
        return [Source(POSTGRESQL, run.store.home / "postgresql.log")]
    names = platform.in_order() if unit is None else platform.named(unit)
    return [source for name in names for source in unit_sources(platform, name)]


def unit_sources(platform: LocalPlatform, unit: str) -> list[Source]:
    """Return the logs of the processes of a unit."""
    return [Source(f"{unit}/{log.parent.name}", log) for log in platform.pooler(unit).logs()]


def chosen(text: str | None, own: OwnLogins, *, everything: bool) -> Keep:
    """Return a function that says whether a line is shown; with `everything`, also lines about own logins."""

    def is_own(line: str) -> bool:
        return bool(_CONSOLE_LOGIN.search(line)) or own.has(line)

    return lambda line: (not text or text in line) and (everything or not is_own(line))


def _print(lines: Sequence[Line], sources: Sequence[Source]) -> None:
    for line in lines:
        prefix = f"{line.source}  " if len(sources) > 1 else ""
        print(f"{prefix}{printable(line.text)}")
    if lines:
        sys.stdout.flush()
