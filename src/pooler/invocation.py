"""What the verbs of the command share: the state on disk, progress messages, and waiting for the units."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping

from adapters.connections import ping
from adapters.local.run_as import pooler_owner
from domain.settings import Settings, settings_from
from pooler.arguments import CommandError, UsageError
from pooler.platform import LocalPlatform
from pooler.store import Store


class Invocation:
    """One run of the command; `libpq` holds the variables of libpq that were in its environment."""

    def __init__(self, store: Store, libpq: Mapping[str, str]) -> None:
        self.store = store
        self.libpq = libpq
        self._begin = time.monotonic()

    def say(self, text: str) -> None:
        """Print a progress message with the seconds since the command began."""
        print(f"{time.monotonic() - self._begin:6.1f} s  {text}", flush=True)

    def platform(self) -> LocalPlatform:
        """Return the units that `pooler up` has started. Raises CommandError if it has not run."""
        if not self.store.exists():
            raise CommandError("no unit exists on this machine: run `pooler up` first")
        return LocalPlatform(self.store, self.store.load(), pooler_owner())

    def settle(self, platform: LocalPlatform) -> None:
        """Run hooks until the units have nothing left to do, and say so if that does not happen."""
        if platform.settle():
            return
        if platform.backend_silent:
            self.say(f"{backend_problem(platform)}, which also completes this command")
        else:
            self.say(
                "the units have not finished yet: `pooler status` shows what is missing,"
                " and `pooler up` continues"
            )


def backend_problem(platform: LocalPlatform) -> str:
    """Return why PostgreSQL cannot be used now, whose server it is, and how to go on."""
    backend = platform.model.backend.credentials
    servers = backend.endpoints if backend else ()
    if ping.answers((server.host, server.port) for server in servers):
        reasons = [problem.text for problem in platform.model.ledger.troubles]
        return f"{[*reasons, 'PostgreSQL refuses connections'][0]}; then run `pooler up`"
    where = ", ".join(map(str, servers))
    if platform.state.server:
        return f"PostgreSQL at {where}, which `pooler` has made, does not answer: `pooler up` starts it"
    return f"PostgreSQL at {where} does not answer: start it there, and then run `pooler up`"


def relation_of(platform: LocalPlatform, application: str) -> int | None:
    """Return the number of an application's relation; None if it is not related."""
    clients = platform.model.clients.items()
    return next((number for number, client in clients if client.application == application), None)


def known_relation(platform: LocalPlatform, application: str) -> int:
    """Return the number of an application's relation. Raises UsageError if it is not related."""
    if number := relation_of(platform, application):
        return number
    names = ", ".join(client.application for client in platform.model.clients.values())
    raise UsageError(
        f"application {application[:60]!r} is not related: choose from {names}"
        if names
        else f"application {application[:60]!r} is not related: run `pooler relate` first"
    )


def settings_of(platform: LocalPlatform) -> Settings:
    """Return the options of the application. Raises CommandError if a stored option is not valid."""
    settings, problems = settings_from(platform.model.options)
    if settings is None:
        raise CommandError(f"{'; '.join(problems)}: set it with `pooler config KEY=VALUE`")
    return settings


def print_error(text: str) -> None:
    """Print a line to standard error."""
    print(text, file=sys.stderr, flush=True)
