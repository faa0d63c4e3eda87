"""The verbs `config`, `restart`, `pause` and `resume`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from domain.settings import Settings
from pooler import listening, observing, tables
from pooler.arguments import UsageError, check_option, check_units, options
from pooler.invocation import Invocation, settings_of
from pooler.output import print_line
from pooler.tables import option_text, option_values
from pooler.verbs.status import show_status


def config(run: Invocation, arguments: argparse.Namespace) -> int:
    """Show options, or set and reset options."""
    settings = arguments.settings
    shows = not arguments.reset and not any("=" in word for word in settings)
    platform = run.platform(stopped=shows)
    if shows:
        return _show(settings_of(platform), settings, as_json=arguments.json)
    if arguments.json:
        raise UsageError("--json shows options: leave it out to set options")
    before = listening.port_of(platform.state)
    platform.model.options = options(platform.model.options, settings, arguments.reset)
    check_units(platform.state.units, platform.model.options)
    if listening.port_of(platform.state) != before:
        listening.check_units(run.store, platform.state)
    for application in platform.applications():
        application.config_changed()
    run.settle(platform)
    observing.follow(platform, run.say)
    return show_status(platform)


def _show(settings: Settings, names: Sequence[str], *, as_json: bool) -> int:
    """Print the value of the option in `names`, or all options if there is no name."""
    for name in names:
        check_option(name)
    values = option_values(settings)
    if len(names) > 1:
        raise UsageError("`pooler config` shows a single option, or all options")
    if names:
        value = values[names[0]]
        print_line(json.dumps(value) if as_json else option_text(value))
    elif as_json:
        print_line(json.dumps(values, indent=2))
    else:
        tables.show_options(settings)
    return 0


def restart(run: Invocation, arguments: argparse.Namespace) -> int:
    """Replace the processes of a unit, or of all units, by new processes, one after another."""
    platform = run.platform()
    for name in platform.named(arguments.unit):
        platform.restart(name)
        run.say(f"{name} has new processes")
    if platform.certification.waits:
        run.settle(platform)
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
