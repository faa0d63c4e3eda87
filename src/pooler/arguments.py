"""What may be said to `pooler`, and what is wrong with the rest?"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence

from domain.pools import Endpoint, endpoints_in
from domain.settings import settings_from

MOST_UNITS = 20


class Problem(Exception):
    """What went wrong, and what to do next."""


class Mistake(Problem):
    """The command's words are off."""


def parser(about: str | None) -> argparse.ArgumentParser:
    """The verbs, and what each of them takes."""
    pooler = argparse.ArgumentParser(prog="pooler", description=about)
    verbs = pooler.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="run it, or go on after anything that stopped it")
    up.add_argument("--units", type=int, help="number of units; the first `up` starts 1")
    up.add_argument(
        "--backend",
        metavar="URI",
        help="an existing server, postgresql://USER@HOST:PORT, password in $PGPASSWORD",
    )
    up.add_argument(
        "--read-only-endpoints",
        metavar="HOST:PORT,…",
        help="replicas of that server, under the name DATABASE_readonly",
    )
    up.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="options, as for `config`")
    verbs.add_parser("status", help="the units, and how they are")
    config = verbs.add_parser("config", help="show the options, or set some")
    config.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    relate = verbs.add_parser("relate", help="give an application a database")
    relate.add_argument("name")
    relate.add_argument("--database", help="its name (that of the application)")
    relate.add_argument("--roles", default="", help="separated by commas")
    credentials = verbs.add_parser("credentials", help="how an application connects")
    credentials.add_argument("name")
    credentials.add_argument("--json", action="store_true", help="for programs")
    unrelate = verbs.add_parser(
        "unrelate", help="take an application's access back, keep its data"
    )
    unrelate.add_argument("name")
    scale = verbs.add_parser("scale", help="run this number of units")
    scale.add_argument("units", type=int)
    restart = verbs.add_parser("restart", help="have new processes take over, one after another")
    restart.add_argument("unit", nargs="?", help="one unit's, by its number or name")
    verbs.add_parser("pause", help="let transactions end, and have new ones wait")
    verbs.add_parser("resume", help="let those that wait go on")
    top = verbs.add_parser("top", help="what every pool is doing, again and again")
    top.add_argument("--every", type=float, default=1.0, metavar="SECONDS")
    top.add_argument("--once", action="store_true", help="for programs")
    logs = verbs.add_parser("logs", help="what PgBouncer writes")
    logs.add_argument("unit", nargs="?", help="one unit's, by its number or name")
    logs.add_argument("-f", "--follow", action="store_true")
    down = verbs.add_parser("down", help="stop, and leave nothing behind")
    down.add_argument("--keep", action="store_true", help="keep the data, for the next `up`")
    return pooler


def options(known: Mapping[str, object], settings: Sequence[str]) -> dict[str, object]:
    """The options with these changes. Raises Mistake."""
    wanted = dict(known)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise Mistake(f"{setting[:60]!r} is no KEY=VALUE")
        wanted[key] = _typed(value)
    _, problems = settings_from(wanted)
    if problems:
        raise Mistake("; ".join(problems))
    return wanted


def _typed(value: str) -> object:
    """Return the value in the type that Juju would give it: int, bool or str."""
    if value in ("true", "false"):
        return value == "true"
    return int(value) if re.fullmatch(r"-?[0-9]{1,12}", value) else value


def endpoints(text: str | None) -> tuple[Endpoint, ...] | None:
    """The endpoints that were named; None if none were. Raises Mistake."""
    try:
        return None if text is None else endpoints_in(text)
    except ValueError as error:
        raise Mistake(str(error)) from None


def check_units(count: int) -> None:
    """Raises Mistake for a number of units that cannot be."""
    if not 1 <= count <= MOST_UNITS:
        raise Mistake(f"{count} units: there can be 1 to {MOST_UNITS}")
