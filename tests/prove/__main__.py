"""The long proofs: more histories, every point of death, every fault, and whether tests notice what is wrong.

    python tests/prove [--only histories,mutation]

Ends with a table, and with 1 if anything failed or was skipped.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests")]

from mutation import Mutation
from suites import Found, Suite

from columns import columns

LONG = {"HYPOTHESIS_PROFILE": "proof"}
PROOFS: dict[str, tuple[str, Suite | Mutation]] = {
    "histories": (
        "any order of hooks, with crashes: 3,000 histories of 80 steps",
        Suite(("tests/unit/proof",), environment=LONG, workers="auto"),
    ),
    "input": (
        "whatever strangers write, a hundred times as much of it",
        Suite(("tests/unit/hostile",), environment=LONG, workers="auto"),
    ),
    "deaths": (
        "`pooler` killed at nine points of every verb, and work in PostgreSQL before each statement",
        Suite(
            (
                "tests/integration/faults/test_deaths.py",
                "tests/integration/faults/test_postgres_end.py",
            ),
            ("--points=9",),
        ),
    ),
    "hooks": (
        "every event in every situation, killed after each hook tool and write to Pebble",
        Suite(("tests/unit/charm/test_crashes.py",), ("--every-case",), workers="auto"),
    ),
    "pebble": (
        "some of these, with a real Pebble and PgBouncer",
        Suite(("tests/unit/charm/test_crashes.py",), ("--pebble=real",)),
    ),
    "charm": (
        "every event in every situation, twice, with a real Pebble",
        Suite(("tests/unit/charm/test_same_outcome.py",), ("--pebble=real", "--every-case")),
    ),
    "mutation": ("domain and app made wrong in thousands of places, one by one", Mutation()),
}


def main() -> int:
    """What was asked for, one after another."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PROOFS), metavar=",".join(PROOFS))
    wanted = parser.parse_args().only.split(",")
    if unknown := set(wanted) - set(PROOFS):
        parser.error(f"{', '.join(sorted(unknown))}: there are {', '.join(PROOFS)}")
    rows, told, failed = [], [], False
    for name in wanted:
        what, proof = PROOFS[name]
        begin = time.monotonic()
        found = proof.run(Progress(name))
        failed = failed or bool(found.failures or found.skipped or not found.cases)
        seconds = f"{time.monotonic() - begin:.0f}"
        print(f"{seconds:>7} s  {name}: {found.cases:,} cases, {len(found.failures)} failures")
        rows.append((name, what, f"{found.cases:,}", str(len(found.failures)), seconds))
        told += _told(name, found)
    head = ("proof", "what was done", "cases", "failures", "seconds")
    print("\n" + "\n".join((*columns([head, *rows], numbers=(2, 3, 4)), *told)))
    return int(failed)


def _told(name: str, found: Found) -> list[str]:
    lines = [f"FAILED: {one}" for one in found.failures]
    lines += [f"SKIPPED: {one}" for one in found.skipped]
    return (
        [f"\n{name}", *(f"    {line}" for line in (*lines, *found.notes))]
        if lines or found.notes
        else []
    )


class Progress:
    """A line whenever there is news, and not more often than every few seconds."""

    EVERY = 5.0

    def __init__(self, name: str) -> None:
        self._name, self._begin, self._last, self._said = name, time.monotonic(), 0.0, ""

    def __call__(self, text: str) -> None:
        now = time.monotonic()
        if text != self._said and now - self._last > self.EVERY:
            print(f"{now - self._begin:7.0f} s  {self._name}: {text}", flush=True)
            self._last, self._said = now, text


if __name__ == "__main__":
    sys.exit(main())
