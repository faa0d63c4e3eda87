"""The verb `rotate`: give users new passwords, without a failed login."""

from __future__ import annotations

import argparse
import datetime

from app.errors import ActionFailed
from domain.users import username_of
from pooler.access import reason_of
from pooler.arguments import CommandError, UsageError
from pooler.invocation import Invocation, known_relation
from pooler.platform import LocalPlatform
from pooler.verbs.status import show_status


def rotate(run: Invocation, arguments: argparse.Namespace) -> int:
    """Rotate PgBouncer's own users with `--own`, else the user of an application, or of all applications."""
    if arguments.own and arguments.name:
        raise UsageError("--own rotates the users of PgBouncer itself: leave out the name")
    platform = run.platform()
    name = arguments.name or ""
    if name:
        known_relation(platform, name)
    with platform.hook(platform.model.leader) as application:
        try:
            users = "own" if arguments.own else "clients"
            begun = application.rotate_credentials(users, name, arguments.valid_for)
        except ActionFailed as error:
            raise CommandError(str(error)) from None
    for message in begun.messages:
        run.say(message)
    run.settle(platform)
    if not arguments.own:
        _say_told(run, platform, name)
    return show_status(platform)


def _say_told(run: Invocation, platform: LocalPlatform, name: str) -> None:
    """Say until when former credentials are valid, and how to read the new credentials."""
    for number, record in platform.model.clients.items():
        if name not in ("", record.application):
            continue
        rotation = platform.model.ledger.rotation_of(username_of(number))
        if rotation.stage == "told":
            end = datetime.datetime.fromtimestamp(rotation.until).astimezone()
            run.say(
                f"{record.application} has new credentials: `pooler credentials {record.application}` shows"
                f" them; user {rotation.former} can log in until {end:%Y-%m-%d %H:%M:%S}"
            )
        elif rotation.stage in ("asked", "renamed"):
            run.say(
                f"{record.application} has no new credentials yet: {reason_of(platform, number)}"
            )
