"""What the verbs of the command share: the state on disk, progress messages, and waiting for the units."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from adapters.connections import ping
from adapters.local.run_as import pooler_owner
from domain.settings import Settings, settings_from
from pooler.arguments import CommandError, UsageError
from pooler.commandline.suggest import SHOWN, did_you_mean
from pooler.output import print_progress
from pooler.platform import LocalPlatform
from pooler.store import Store

# The message about an application names a command only if a shell takes its words as they are.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,59}")


class Invocation:
    """One run of the command; `libpq` holds the variables of libpq that were in its environment."""

    def __init__(self, store: Store, libpq: Mapping[str, str]) -> None:
        self.store = store
        self.libpq = libpq
        self._begin = time.monotonic()

    def say(self, text: str) -> None:
        """Print a progress message with the seconds since the command began."""
        print_progress(f"{time.monotonic() - self._begin:6.1f} s  {text}")

    def platform(self, *, stopped: bool = False) -> LocalPlatform:
        """Return the units that `pooler up` has started.

        Raises CommandError if it has not run, and also after `pooler down`, unless `stopped` units are
        enough for the verb.
        """
        if not self.store.exists():
            raise CommandError("no unit exists on this machine: run `pooler up` first")
        state = self.store.load()
        if state.stopped and not stopped:
            raise CommandError("stopped: run `pooler up`")
        return LocalPlatform(self.store, state, pooler_owner())

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
    related = [client.application for client in platform.model.clients.values()]
    name = application if _NAME.fullmatch(application) else "NAME"
    relate = f"run `pooler relate {name}`"
    cure = f"{relate}, or choose from {', '.join(related)}" if related else f"{relate} first"
    meant = did_you_mean(application, related) or f": {cure}"
    raise UsageError(f"application {application[:SHOWN]!r} is not related{meant}")


def settings_of(platform: LocalPlatform) -> Settings:
    """Return the options of the application. Raises CommandError if a stored option is not valid."""
    settings, problems = settings_from(platform.model.options)
    if settings is None:
        raise CommandError(
            f"{'; '.join(problems)}: run `pooler config KEY=VALUE`, or `pooler config --reset KEY`"
        )
    return settings
