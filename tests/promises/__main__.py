"""Are the promises kept? Each is shown by doing it, with real parts, on this machine alone.

    python tests/promises [--only 1,3] [--suite trixie,sid] [--seconds 1.5]

Ends with a table, and with 1 if anything failed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(HERE / one) for one in ("src", "tests", "tests/integration")]

import cancels
import changes
import credentials
import failover
import limit
import newness
import refresh
import rotation
from report import Report
from stage import Stage

from pooler import binaries

PROMISES = {
    "1": cancels,
    "2": limit,
    "3": failover,
    "4": changes,
    "5": newness,
    "6": rotation,
    "7": credentials,
    "8": refresh,
}
SUITES = (binaries.SUITE, binaries.OLDER_SUITE)
# A promise that does not end has failed. On a quiet machine each takes a minute.
MOST_SECONDS = 1200


def main() -> int:
    """The promises that were asked for, with each PgBouncer."""
    asked = _parser().parse_args()
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # of whoever is stopped half-way
    report = Report()
    try:
        asyncio.run(_all(report, asked))
    except (KeyboardInterrupt, asyncio.CancelledError):
        report.say("stopped half-way")
        return 1
    print(f"\n{report.table()}")
    return int(report.failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", type=_some(PROMISES), default=tuple(PROMISES), metavar="1,3")
    parser.add_argument("--suite", type=_some(SUITES), default=SUITES, metavar=",".join(SUITES))
    parser.add_argument(
        "--seconds", type=float, default=1.5, help="to watch between two steps (1.5)"
    )
    return parser


def _some(known):
    def some(text: str) -> tuple[str, ...]:
        found = tuple(text.split(","))
        if unknown := set(found) - set(known):
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(known)}")
        return found

    return some


async def _all(report: Report, asked: argparse.Namespace) -> None:
    if this := asyncio.current_task():  # so that nothing is left behind, as with Ctrl-C
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    programs = _programs(report, asked.suite)
    # Most of the time is waiting, so each PgBouncer has a PostgreSQL of its own at the same time.
    await asyncio.gather(*(_each(report, asked, *one) for one in programs.items()))


async def _each(
    report: Report, asked: argparse.Namespace, version: str, program: pathlib.Path
) -> None:
    for number in asked.only:
        promise = PROMISES[number]
        await _one(Stage(program, version, asked.seconds, promise.TITLE, report), promise)


async def _one(stage: Stage, promise) -> None:
    """Whatever goes wrong outside of its cases is a case of its own."""
    what = ""
    try:
        async with asyncio.timeout(MOST_SECONDS):
            await promise.demonstrate(stage)
    except TimeoutError:
        what = f"it takes longer than {MOST_SECONDS} s"
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
    if what:
        with stage.case("all of it") as row:
            row.fail(what)


def _programs(report: Report, suites: tuple[str, ...]) -> dict[str, pathlib.Path]:
    """Each PgBouncer that can be had, by its version: a machine may have but one."""
    found: dict[str, pathlib.Path] = {}
    for suite in suites:
        program = binaries.pgbouncer(binaries.default_cache(), report.say, suite=suite)
        found.setdefault(str(binaries.version_of(program)), program)
    return found


if __name__ == "__main__":
    sys.exit(main())
