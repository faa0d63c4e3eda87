"""How fast is the pool? Ours beside one that is set up by hand, and PostgreSQL without a pooler.

    python tests/bench_pooling [--rounds N] [--seconds N] [--docs]

All lead to one real PostgreSQL, in memory, and run the same PgBouncer. They take turns in short
rounds, so a noisy machine disturbs all alike; what counts are the ratios within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import signal
import sys
import tempfile
from collections.abc import Mapping

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / one) for one in ("src", "tests", "tests/integration")]

from pgbench import CONNECT, DATABASE, SELECT, STEADY, UPDATE, Bench, Run, Target
from platform_under_test import Pooler
from postgresql import PostgreSQL
from results import (
    ALWAYS,
    BAR,
    CLOSE,
    DIRECT,
    HAND,
    LOADS_HEAD,
    OURS,
    PLAIN,
    SESSION,
    SPREAD_HEAD,
    TRANSACTION,
    Comparison,
    Spread,
)  # fmt: skip
from rivals import BUDGET, LOOK_UP, by_hand, ours, program, units

from columns import columns
from pooler import binaries

CAPTION = f"""
{OURS}: one unit of the platform. {HAND}: the least configuration of equal meaning. {PLAIN}: beside
server_reset_query_always=true, what the reset after each transaction costs. {OURS} / {HAND} must be {BAR} or
more. Medians of all rounds, ratios with the lowest and highest round.
"""
SPREAD_CAPTION = f"""
max_db_connections={BUDGET} on 1, 3 and 5 units, transaction mode; they must be within {1 - CLOSE:.0%} of one unit.
"""


def compared(
    bench: Bench, load: str, mode: str, rivals: Mapping[str, Target], asked: argparse.Namespace
) -> Comparison:
    """All took their turns; each round begins with somebody else."""
    names = list(rivals)
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for number in range(asked.rounds):
        _progress(f"{load}, {mode}: round {number + 1} of {asked.rounds}")
        first = number % len(names)
        for name in names[first:] + names[:first]:
            runs[name].append(bench.run(rivals[name], load, asked.seconds))
    return Comparison(load, mode, runs, judged=load != STEADY)


def spread(bench: Bench, pooler: Pooler, server: PostgreSQL, asked: argparse.Namespace) -> Spread:
    """As many rounds on each number of units, up and down again."""
    count = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{DATABASE}' AND usename LIKE 'relation%'"
    found: dict[int, list[float]] = {1: [], 3: [], 5: []}
    most = dict.fromkeys(found, 0)
    now = 1
    for number in range(asked.spread_rounds):
        for wanted in sorted(found, reverse=bool(number % 2)):
            _progress(f"{wanted} units: round {number + 1} of {asked.spread_rounds}")
            if wanted != now:
                pooler("scale", str(wanted))
                now = wanted
            targets = units(pooler)
            bench.spread(targets, 1)  # new units have no connections yet
            found[wanted].append(bench.spread(targets, asked.seconds))
            most[wanted] = max(most[wanted], server.sql(count)[0][0])
    return Spread(found, most)


def measured(asked: argparse.Namespace) -> tuple[list[Comparison], Spread, str]:
    """Everything, one after another."""
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="poolB-")))
        server = stack.enter_context(PostgreSQL(settings={"max_connections": "200"}))
        pooler = stack.enter_context(ours(server, "transaction"))
        told = pooler.credentials(DATABASE)
        bench, direct = (
            Bench(folder, told["username"], told["password"]),
            Target(server.host, server.port),
        )
        bench.fill(direct)
        server.sql(LOOK_UP, database=DATABASE)
        found: list[Comparison] = []
        with by_hand(server, "transaction", reset=False) as plain:
            rivals = {OURS: units(pooler)[0], HAND: plain, DIRECT: direct}
            loads = (SELECT, UPDATE, CONNECT, STEADY)
            found += [compared(bench, load, TRANSACTION, rivals, asked) for load in loads]
            pooler("config", "server_reset_query_always=true")
            with by_hand(server, "transaction", reset=True) as hand:
                rivals = {OURS: units(pooler)[0], HAND: hand, PLAIN: plain}
                found += [
                    compared(bench, load, ALWAYS, rivals, asked) for load in (SELECT, UPDATE)
                ]
        pooler("config", "pool_mode=session", "server_reset_query_always=false")
        # Only with new connections does a session change hands, and more clients than connections wait.
        with by_hand(server, "session", reset=False) as hand:
            rivals = {OURS: units(pooler)[0], HAND: hand}
            found.append(compared(bench, CONNECT, SESSION, rivals, asked))
        pooler("config", "pool_mode=transaction")
        postgresql = server.sql("SHOW server_version")[0][0].split()[0]
        versions = f"PgBouncer {binaries.version_of(program())}, PostgreSQL {postgresql}"
        return found, spread(bench, pooler, server, asked), versions


def main() -> int:
    """Print the tables; 1 if ours is slower than it may be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--rounds", type=int, default=11, help="how often all take their turns (11)"
    )
    parser.add_argument("--seconds", type=int, default=1, help="how long each turn lasts (1)")
    parser.add_argument(
        "--spread-rounds", type=int, default=7, help="rounds on 1, 3 and 5 units (7)"
    )
    parser.add_argument("--docs", action="store_true", help="write docs/benchmark.md and .svg")
    asked = parser.parse_args()
    if asked.docs:
        from report import write  # what it needs may be missing: better now than in the end
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that all is taken down
    found, on_units, versions = measured(asked)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(CAPTION)
    print("\n".join(columns([LOADS_HEAD, *(row for one in found for row in one.rows())])))
    print(SPREAD_CAPTION)
    print("\n".join(columns([SPREAD_HEAD, *on_units.rows()])))
    if asked.docs:
        write(ROOT / "docs", found, on_units, asked.rounds, asked.seconds, versions)
    ratios = [one.ratio(OURS) for one in found] + [on_units.ratio(count) for count in (3, 5)]
    return int(any(ratio.missed for ratio in ratios))


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K  {text}", end="", file=sys.stderr, flush=True)
    else:
        print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
