"""The verbs `config`, `restart`, `pause` and `resume`."""

from __future__ import annotations

import argparse

from pooler import tables
from pooler.arguments import options
from pooler.invocation import Invocation, settings_of
from pooler.verbs.status import show_status


def config(run: Invocation, arguments: argparse.Namespace) -> int:
    """Set options, or print all options if the arguments name none."""
    platform = run.platform()
    if not arguments.settings:
        tables.show_options(settings_of(platform))
        return 0
    platform.model.options = options(platform.model.options, arguments.settings)
    for application in platform.applications():
        application.config_changed()
    run.settle(platform)
    return show_status(platform)


def restart(run: Invocation, arguments: argparse.Namespace) -> int:
    """Replace the processes of a unit, or of all units, by new processes, one after another."""
    platform = run.platform()
    for name in platform.named(arguments.unit):
        platform.restart(name)
        run.say(f"{name} has new processes")
    return show_status(platform)


def pause(run: Invocation, _: argparse.Namespace) -> int:
    """Let open transactions end, and let new transactions wait, so that PostgreSQL can be restarted.

    Returns 1 if a process still has an open transaction.
    """
    platform = run.platform()
    if busy := platform.pause():
        run.say(
            f"processes with open transactions: {busy}; new transactions wait."
            " Run `pooler pause` again, or `pooler resume`"
        )
        return 1
    limit = settings_of(platform).query_wait_timeout
    duration = f"up to {limit} s each" if limit else "without a limit"
    run.say(f"no transaction is open; new transactions wait, {duration}, for `pooler resume`")
    return 0


def resume(run: Invocation, _: argparse.Namespace) -> int:
    """Let the transactions that wait continue."""
    run.platform().resume()
    run.say("transactions continue")
    return 0
