"""The verbs that give an application access, and take it away."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pooler.commandline.verb import verb

if TYPE_CHECKING:
    from pooler.commandline.verb import Verbs

# The first is the default.
FORMATS = ("table", "uri", "env", "json", "libpq")


def add(verbs: Verbs) -> None:
    """Add `relate`, `credentials`, `psql`, `exec` and `unrelate`."""
    relate = verb(verbs, "relate", "clients:relate", "give an application a user and a database")
    relate.add_argument("name", help="name of the application")
    relate.add_argument("--database", help="name of the database (by default the application's)")
    relate.add_argument("--roles", default="", help="roles in PostgreSQL, separated by commas")
    credentials = verb(
        verbs,
        "credentials",
        "credentials:credentials",
        "show how an application connects",
        reads=True,
    )
    credentials.add_argument("name", help="name of the application")
    formats = credentials.add_mutually_exclusive_group()
    formats.add_argument(
        "--format",
        choices=FORMATS,
        default=FORMATS[0],
        help="a table, the URI alone, lines for a shell, a JSON object, or a connection string of libpq",
    )
    formats.add_argument(
        "--json", action="store_const", const="json", dest="format", help="as --format json"
    )
    psql = verb(
        verbs, "psql", "session:psql", "open psql as an application, through the pool", reads=True
    )
    psql.add_argument("name", help="name of the application")
    psql.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="ARGS…",
        help="arguments of psql, such as -c SQL",
    )
    execute = verb(
        verbs,
        "exec",
        "session:execute",
        "run a command with an application's login in DATABASE_URL and the PG variables",
        reads=True,
    )
    execute.add_argument("name", help="name of the application")
    execute.add_argument(
        "words",
        nargs=argparse.REMAINDER,
        metavar="-- COMMAND…",
        help="the command and its arguments",
    )
    unrelate = verb(
        verbs,
        "unrelate",
        "clients:unrelate",
        "take away an application's access; its database stays",
    )
    unrelate.add_argument("name", help="name of the application")
