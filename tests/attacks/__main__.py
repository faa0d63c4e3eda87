"""Which attacks are held? Each is tried with real parts, on this machine alone.

    python tests/attacks [--only 1,13,32b] [--lane "1.26.1 packets"]

The lanes run in parallel. Ends with a table, and with 1 if a critical or high attack is not held
with the PgBouncer that we recommend.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import importlib
import logging
import multiprocessing
import os
import pathlib
import resource
import signal
import sys
import time

HERE = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(HERE / part) for part in ("src", "tests", "tests/integration")]

import older_postgresql
from attack import Attack, NotHeld, NotRun, attacks_in
from report import Report, Row, not_held
from stage import Stage

from pooler import binaries

MOST_SECONDS = 240  #: for a single attack


@dataclasses.dataclass(frozen=True)
class Lane:
    """A platform of its own with the attacks that are tried on it in their order."""

    name: str
    modules: tuple[str, ...]  #: names, because a process is told by pickle
    pgbouncer: pathlib.Path
    version: str
    recommended: bool
    postgresql: pathlib.Path
    major: str


def main() -> int:
    """Every attack that was asked for, with each version that it depends on."""
    asked = _parser().parse_args()
    signal.signal(signal.SIGTERM, _stopped)
    report = Report()
    lanes = [lane for lane in _lanes(report) if asked.lane in (None, lane.name)]
    only = frozenset(asked.only.split(",")) if asked.only else frozenset[str]()
    with concurrent.futures.ProcessPoolExecutor(
        max(1, len(lanes)), multiprocessing.get_context("fork")
    ) as workers:
        futures = {workers.submit(_tried, lane, only, report): lane for lane in lanes}
        try:
            for future in concurrent.futures.as_completed(futures):
                try:
                    report.rows += future.result()
                except Exception as error:
                    report.rows.append(_not_begun(futures[future], error))
        except KeyboardInterrupt:
            for worker in multiprocessing.active_children():
                worker.terminate()  # Each stops its servers, and then ends.
            report.say("stopped half-way")
            return 1
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    report.say(f"processor time of the lanes: {used.ru_utime + used.ru_stime:.0f} s")
    print(f"\n{report.table()}")
    return int(report.failed)


def _not_begun(lane: Lane, error: Exception) -> Row:
    """The row of a lane whose platform did not start, or ended."""
    return Row(
        row="0",
        title="a platform to attack",
        severity="critical",
        pgbouncer=lane.version,
        postgresql=lane.major,
        outcome=not_held(f"{type(error).__name__}: {error}"),
        awaits="",
        recommended=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", metavar="1,13", help="rows of the table")
    parser.add_argument("--lane", help="a platform, such as `1.26.1 packets`")
    return parser


def _lanes(report: Report) -> list[Lane]:
    """What depends on PgBouncer is tried with each PgBouncer, and what depends on PostgreSQL with each."""
    cache = binaries.default_cache()
    new, old = (
        binaries.pgbouncer(cache, report.say, suite=s)
        for s in (binaries.SUITE, binaries.OLDER_SUITE)
    )
    newest, older = (
        find(cache, report.say)
        for find in (binaries.postgresql_from_wheel, older_postgresql.older)
    )
    packets = ("strangers", "budgets", "servers", "middle")
    clients = ("requested_roles", "ownership", "hostile_clients")

    def lane(
        kind: str, modules: tuple[str, ...], pgbouncer: pathlib.Path, postgresql: pathlib.Path
    ) -> Lane:
        version = str(binaries.version_of(pgbouncer))
        major = str(binaries.version_of(postgresql / "postgres", "PostgreSQL"))
        name = f"{version} {kind} {major.partition('.')[0]}"
        return Lane(name, modules, pgbouncer, version, pgbouncer == new, postgresql, major)

    found = [
        lane("clients", clients, new, newest),
        lane("clients", clients, new, older),
        lane("packets", (*packets, "machine"), new, newest),
    ]
    if old != new:
        found.append(lane("packets", packets, old, older))
    return found


def _tried(lane: Lane, only: frozenset[str], report: Report) -> list[Row]:
    """The rows of a lane, tried in a process of its own."""
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    signal.signal(signal.SIGALRM, _too_long)
    signal.signal(signal.SIGTERM, _stopped)
    found = attacks_in(*map(importlib.import_module, lane.modules))
    attacks = [attack for attack in found if not only or attack.row in only]
    if not attacks:
        return []
    rows: list[Row] = []
    say = lambda text: report.say(f"{lane.name}: {text}")  # noqa: E731 — a name for the lane's lines
    with Stage(lane.pgbouncer, lane.version, lane.postgresql, say) as stage:
        for attack in attacks:
            begin = time.monotonic()
            outcome, note = _outcome(stage, attack)
            took = time.monotonic() - begin
            say(f"{attack.row} {attack.title}: {outcome}  ({took:.1f} s)")
            rows.append(
                Row(
                    row=attack.row,
                    title=attack.title,
                    severity=attack.severity,
                    pgbouncer=lane.version,
                    postgresql=lane.major,
                    outcome=outcome,
                    awaits=attack.awaits,
                    recommended=lane.recommended,
                    note=note,
                    seconds=took,
                )
            )
    return rows


def _outcome(stage: Stage, attack: Attack) -> tuple[str, str]:
    note = ""
    signal.alarm(MOST_SECONDS)
    try:
        note = attack.run(stage) or ""
        outcome = "held"
    except NotRun as error:
        outcome = f"not run: {error}"
    except NotHeld as error:
        outcome = not_held(str(error))
    except Exception as error:
        outcome = not_held(f"{type(error).__name__}: {error}")
    finally:
        signal.alarm(0)
    try:
        stage.recover()
    except Exception as error:
        stage.say(
            f"{attack.row}: {type(error).__name__} while the processes were restored: {error}"
        )
    return outcome, note


def _stopped(*_: object) -> None:
    raise KeyboardInterrupt


def _too_long(*_: object) -> None:
    raise NotHeld(f"it takes longer than {MOST_SECONDS} s")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
