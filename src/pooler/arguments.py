"""Parse the command line of `pooler`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence

from domain.endpoints import Endpoint, endpoints_in
from domain.settings import settings_from

ABOUT = "Run PgBouncer in one or more units on this machine, with the verbs that Juju has."
MOST_UNITS = 20

# Bounds of the time between two tables of `pooler top`, in seconds.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 3600.0


class CommandError(Exception):
    """The command failed; the text says what is wrong and what to do next."""


class UsageError(CommandError):
    """The arguments of the command are not valid; the text says which, and what is valid."""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, with all verbs."""
    pooler = argparse.ArgumentParser(prog="pooler", description=ABOUT)
    verbs = pooler.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="start the units, or continue after any interruption")
    up.add_argument("--units", type=int, help="number of units; the first `up` starts 1")
    up.add_argument(
        "--backend",
        metavar="URI",
        help="an existing server, postgresql://USER@HOST:PORT, password in $PGPASSWORD",
    )
    up.add_argument(
        "--read-only-endpoints",
        metavar="HOST:PORT,…",
        help="replicas of that server, which clients reach as DATABASE_readonly",
    )
    up.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="options, as for `config`")
    verbs.add_parser("status", help="show the state of every unit")
    config = verbs.add_parser("config", help="show the options, or set options")
    config.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    relate = verbs.add_parser("relate", help="give an application a user and a database")
    relate.add_argument("name", help="name of the application")
    relate.add_argument("--database", help="name of the database (by default the application's)")
    relate.add_argument("--roles", default="", help="roles in PostgreSQL, separated by commas")
    credentials = verbs.add_parser("credentials", help="show how an application connects")
    credentials.add_argument("name", help="name of the application")
    credentials.add_argument("--json", action="store_true", help="print JSON")
    unrelate = verbs.add_parser(
        "unrelate", help="take away an application's access; its database stays"
    )
    unrelate.add_argument("name", help="name of the application")
    scale = verbs.add_parser("scale", help="set the number of units")
    scale.add_argument("units", type=int)
    restart = verbs.add_parser("restart", help="replace the processes, one after another")
    restart.add_argument("unit", nargs="?", help="number or name of a unit (by default all)")
    verbs.add_parser("pause", help="let open transactions end, and let new transactions wait")
    verbs.add_parser("resume", help="let the transactions that wait continue")
    top = verbs.add_parser("top", help="show the pools, again and again")
    top.add_argument("--every", type=_pause, default=1.0, metavar="SECONDS")
    top.add_argument("--once", action="store_true", help="show the pools a single time")
    logs = verbs.add_parser("logs", help="show the end of PgBouncer's logs")
    logs.add_argument("unit", nargs="?", help="number or name of a unit (by default all)")
    logs.add_argument("-f", "--follow", action="store_true", help="show new lines, too")
    down = verbs.add_parser("down", help="stop all processes, and remove all files")
    down.add_argument("--keep", action="store_true", help="keep the files, for the next `up`")
    return pooler


def _pause(text: str) -> float:
    """Return a number of seconds within the bounds; for `nan` the lower bound."""
    return min(max(SHORTEST_PAUSE, float(text)), LONGEST_PAUSE)


def options(known: Mapping[str, object], settings: Sequence[str]) -> dict[str, object]:
    """Return the known options with the changes in `settings`, each KEY=VALUE. Raises UsageError."""
    wanted = dict(known)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(
                f"{setting[:60]!r} is no KEY=VALUE: write an option as pool_mode=session"
            )
        wanted[key] = _typed(value)
    _, problems = settings_from(wanted)
    if problems:
        raise UsageError("; ".join(problems))
    return wanted


def _typed(value: str) -> object:
    """Return the value in the type that Juju would give it: int, bool or str."""
    if value in ("true", "false"):
        return value == "true"
    return int(value) if re.fullmatch(r"-?[0-9]{1,12}", value) else value


def endpoints(text: str | None) -> tuple[Endpoint, ...] | None:
    """Return the endpoints in a list `host:port,…`; None without a list. Raises UsageError."""
    try:
        return None if text is None else endpoints_in(text)
    except ValueError as error:
        raise UsageError(f"--read-only-endpoints: {error}") from None


def check_units(count: int) -> None:
    """Raise UsageError if there cannot be this number of units."""
    if not 1 <= count <= MOST_UNITS:
        raise UsageError(f"{count} units are not possible: choose 1 to {MOST_UNITS}")
