"""The verbs `relate`, `credentials` and `unrelate`: give an application access to a database, or take it away."""

from __future__ import annotations

import argparse
import json
import re

from domain.roles import roles_in
from domain.users import Login, read_only_uri, request_problem, uri, username_of
from pooler import tables
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
    if (record.database, record.roles) != (database, roles):
        raise CommandError(
            f"{name} is related already, for database {record.database}:"
            f" run `pooler unrelate {name}` first"
        )
    for application in platform.applications():
        application.clients_changed()
    run.settle(platform)
    if platform.model.clients[number].told is None:
        if platform.backend_silent:  # The cause is said already.
            raise CommandError(f"{name} cannot connect yet")
        raise CommandError(
            f"{name} cannot connect yet: {_reason(platform)}; `pooler up` tries again"
        )
    run.say(f"{name} has database {database}: `pooler credentials {name}` shows how to connect")
    return 0


def _reason(platform: LocalPlatform) -> str:
    problems = [problem.text for problem in platform.model.ledger.troubles]
    return [*problems, "see `pooler status`"][0]


def credentials(run: Invocation, arguments: argparse.Namespace) -> int:
    """Print how an application connects."""
    platform = run.platform()
    number = known_relation(platform, arguments.name)
    record, user = platform.model.clients[number], username_of(number)
    if record.told is None or record.password is None:
        raise CommandError(f"{arguments.name} cannot connect yet: see `pooler status`")
    login = Login(username=user, password=record.password)
    shown = {
        "database": record.told.database,
        "endpoints": record.told.endpoints,
        "username": user,
        "password": record.password.get_secret_value(),
        "uri": uri(record.told, login),
    }
    if replicas := read_only_uri(record.told, login):
        shown["read-only-uri"] = replicas
    if arguments.json:
        print(json.dumps(shown, indent=2))
    else:
        tables.show(("field", "value"), list(shown.items()))
    return 0


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
