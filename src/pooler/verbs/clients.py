"""The verbs `relate` and `unrelate`: give an application access to a database, or take it away."""

from __future__ import annotations

import argparse
import re
import shlex

from adapters.local.model import ClientRecord
from domain.roles import roles_in
from domain.users import request_problem, username_of
from pooler.arguments import CommandError, UsageError
from pooler.invocation import Invocation, known_relation, relation_of
from pooler.platform import LocalPlatform

LONGEST_NAME = 60
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def relate(run: Invocation, arguments: argparse.Namespace) -> int:
    """Give an application a user and a database."""
    platform = run.platform()
    name, roles = str(arguments.name), str(arguments.roles)
    database = arguments.database or name.replace("-", "_")
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise UsageError(
            f"{name[:60]!r} is no name of an application:"
            " use lower-case letters, digits and dashes, and begin with a letter"
        )
    if problem := request_problem(database, roles_in(roles)):
        raise UsageError(f"{name} {problem}")
    number = relation_of(platform, name) or platform.model.relate(name, database, roles)
    record = platform.model.clients[number]
    # A command that was killed may have added this relation, so a repetition is no error.
    if difference := _difference(record, database, roles):
        words = [name, *(["--database", database] if arguments.database else [])]
        words += ["--roles", roles] if roles else []
        raise CommandError(
            f"{name} is related already: {difference}. To change this, run `pooler unrelate {name}`,"
            f" then `pooler relate {shlex.join(words)}`: databases stay, and {name} gets a new user and"
            " password"
        )
    for application in platform.applications():
        application.clients_changed()
    run.settle(platform)
    if platform.model.clients[number].told is None:
        if platform.backend_silent:  # The cause is said already.
            raise CommandError(f"{name} cannot connect yet")
        raise CommandError(
            f"{name} cannot connect yet: {_reason(platform, number)}; `pooler up` tries again"
        )
    run.say(f"{name} has database {database}: `pooler credentials {name}` shows how to connect")
    return 0


def _difference(record: ClientRecord, database: str, roles: str) -> str:
    """Return what a relation has in place of this database and these roles; '' if it has both."""
    has, wanted = set(roles_in(record.roles)), set(roles_in(roles))
    parts: list[str] = []
    if record.database != database:
        parts.append(f"its database is {record.database}, not {database}")
    if has != wanted:
        parts.append(f"its roles are {_named(has)}, not {_named(wanted)}")
    return "; ".join(parts)


def _named(roles: set[str]) -> str:
    return ",".join(sorted(roles)) or "none"


def _reason(platform: LocalPlatform, number: int) -> str:
    """Return why an application cannot connect: its own problem, or else another problem of the units."""
    topic = f"client:{username_of(number)}"
    problems = sorted(platform.model.ledger.troubles, key=lambda problem: problem.topic != topic)
    return [*(problem.text for problem in problems), "see `pooler status`"][0]


def unrelate(run: Invocation, arguments: argparse.Namespace) -> int:
    """Take an application's access away; its database stays."""
    platform, name = run.platform(), arguments.name
    if relation_of(platform, name) is None:
        # A command that was killed may have removed the relation, and left hooks to run.
        run.settle(platform)
    number = known_relation(platform, name)
    for application in platform.applications():
        application.clients_departed(f"{name}/0")
    del platform.model.clients[number]
    for application in platform.applications():
        application.clients_broken()
    run.settle(platform)
    run.say(f"{name} cannot connect any more; its database stays in PostgreSQL")
    return 0
