"""The verb `rotate`: give users new passwords, without a failed login."""

from __future__ import annotations

import argparse

from app.errors import ActionFailed
from pooler.arguments import CommandError, UsageError
from pooler.invocation import Invocation, known_relation
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
            begun = application.rotate_credentials("own" if arguments.own else "clients", name)
        except ActionFailed as error:
            raise CommandError(str(error)) from None
    for message in begun.messages:
        run.say(message)
    run.settle(platform)
    return show_status(platform)
