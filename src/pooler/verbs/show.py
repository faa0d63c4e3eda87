"""The verbs `status`, `logs` and `top`: show the units, their logs and their pools."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from domain.status import Level, Sentence, assess
from domain.value import number_of
from pooler import tables
from pooler.demo_query import DEMO, health_answer
from pooler.invocation import Invocation, relation_of
from pooler.output import print_line
from pooler.platform import LocalPlatform

_HEAD = ("unit", "address", "processes", "status", "a query answers")
_STATUS_COLUMN = 3


def status(run: Invocation, _: argparse.Namespace) -> int:
    """Print the state of every unit; return 1 if a unit is not active."""
    return show_status(run.platform())


def show_status(platform: LocalPlatform) -> int:
    """Run the update-status hook of every unit and print the units; return 1 if a unit is not active."""
    rows: list[tuple[str, ...]] = []
    warnings: set[str] = set()
    demo = relation_of(platform, DEMO)
    for unit in sorted(platform.model.units, key=number_of):
        with platform.hook(unit) as application:
            outcome = application.update_status()
        facts = outcome.facts
        sentence = assess(facts, outcome.problems)[0]
        if sentence.level is Level.ACTIVE:
            warnings.update(filter(None, [sentence.text]))
            sentence = Sentence(level=Level.ACTIVE)
        port = facts.serving.port if facts.serving else "-"
        rows.append(
            (
                unit + ("*" if unit == platform.model.leader else ""),
                f"{facts.address}:{port}",
                str(len(facts.container.running)),
                f"{sentence.level.value} {sentence.text}".strip(),
                health_answer(platform, facts.address),
            )
        )
    if not rows:
        print_line("no unit exists: run `pooler up`")
        return 1
    tables.show(_HEAD, rows)
    if demo and (told := platform.model.clients[demo].told):
        print_line(
            f"\nclients connect to {told.endpoints}; `pooler relate NAME` gives a client access"
        )
    for text in sorted(warnings):
        print_line(f"\n{tables.yellow(text)}")
    if all(row[_STATUS_COLUMN] == "active" for row in rows):
        return 0
    print_line("\n`pooler up` starts what has stopped, and tries again what has failed")
    return 1


def logs(run: Invocation, arguments: argparse.Namespace) -> int:
    """Print the end of PgBouncer's logs, and follow them with `--follow`."""
    platform = run.platform(stopped=True)
    names = platform.named(arguments.unit)
    files = [str(log) for name in names for log in platform.pooler(name).logs()]
    return subprocess.call(["tail", "-n", "40", *(["-F"] if arguments.follow else []), *files])


def top(run: Invocation, arguments: argparse.Namespace) -> int:
    """Print the pools of all processes again and again, or a single time with `--once`."""
    platform = run.platform()
    while True:
        rows = list(tables.pools(platform))
        if not arguments.once and sys.stdout.isatty():
            print("\033[H\033[J", end="")
        tables.show(tables.POOLS, rows)
        if arguments.once:
            return 0
        time.sleep(arguments.every)
