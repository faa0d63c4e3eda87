"""The verbs that operate running units."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence

from app.application import Application
from app.errors import ActionFailed
from app.outcome import Outcome
from domain import orders
from domain.operations import ALL, Holder, KillOrder
from domain.problems import PAUSE
from domain.settings import Settings
from pooler import listening, observers, tables
from pooler.arguments import CommandError, UsageError, check_option, check_units, options
from pooler.invocation import Invocation, settings_of
from pooler.output import print_line
from pooler.platform import LocalPlatform
from pooler.tables import option_text, option_values
from pooler.verbs.status import show_status

# Seconds that `pause` without --timeout waits for transactions, and between two looks.
PAUSE_SECONDS = 5.0
_LOOK_SECONDS = 0.2


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
        listening.check_ports(run.store, platform.state)
    for application in platform.applications():
        application.config_changed()
    run.settle(platform)
    observers.follow(platform, run.say)
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
    """Replace the processes of a unit, or of all units, by new processes, each in turn."""
    platform = run.platform()
    if platform.state.paused:
        raise CommandError("clients wait because of a pause: run `pooler resume` first")
    for name in platform.named(arguments.unit):
        platform.restart(name)
        run.say(f"{name} has new processes")
    if platform.certification.waits:
        run.settle(platform)
    return show_status(platform)


def pause(run: Invocation, arguments: argparse.Namespace) -> int:
    """Let open transactions end, and let new transactions wait, so that PostgreSQL can be restarted.

    Returns 1 if a client still has an open transaction, and also if the pause was taken back because of it.
    """
    platform = run.platform()
    database, timeout = arguments.database or ALL, arguments.timeout or 0
    ordered(platform, lambda application: application.pause(database, timeout))
    end = time.monotonic() + (timeout or PAUSE_SECONDS)
    while _holder(platform) and time.monotonic() < end:
        time.sleep(_LOOK_SECONDS)
        platform.follow()
    if timeout:
        platform.follow()  # The leader takes a pause back whose time is over.
    taken_back = [problem for problem in platform.model.ledger.problems if problem.topic == PAUSE]
    if taken_back:
        raise CommandError(taken_back[0].text)
    if holder := _holder(platform):
        run.say(
            f"a transaction is open: {orders.held_by(holder, time.time(), ())}; new transactions wait."
            " Run `pooler pause` again, or `pooler resume`"
        )
        return 1
    limit = settings_of(platform).query_wait_timeout
    duration = f"up to {limit} s each" if limit else "without a limit"
    run.say(f"no transaction is open; new transactions wait, {duration}, for `pooler resume`")
    return 0


def _holder(platform: LocalPlatform) -> Holder | None:
    """Return a client that a unit waits for; None if every unit is paused."""
    holders = (unit.operations.holder for unit in platform.model.units.values())
    return next(filter(None, holders), None)


def resume(run: Invocation, arguments: argparse.Namespace) -> int:
    """Let the transactions that wait continue."""
    platform = run.platform()
    ordered(platform, lambda application: application.resume(arguments.database or ALL))
    run.say("transactions continue")
    return 0


def disable(run: Invocation, arguments: argparse.Namespace) -> int:
    """Let no client log in to a database."""
    ordered(run.platform(), lambda application: application.disable(arguments.database))
    run.say(
        f"no client can log in to {arguments.database} until `pooler enable {arguments.database}`;"
        " clients that are connected stay"
    )
    return 0


def enable(run: Invocation, arguments: argparse.Namespace) -> int:
    """Let clients log in to a database again."""
    ordered(run.platform(), lambda application: application.enable(arguments.database))
    run.say(f"clients can log in to {arguments.database}")
    return 0


def reconnect(run: Invocation, _: argparse.Namespace) -> int:
    """Replace every server connection."""
    ordered(run.platform(), lambda application: application.reconnect())
    run.say("each server connection is replaced when its transaction ends, or its session")
    return 0


def kill(run: Invocation, arguments: argparse.Namespace) -> int:
    """Disconnect clients."""
    platform = run.platform()
    order = KillOrder(
        database=arguments.database or "",
        user=arguments.user or "",
        idle=arguments.idle or 0,
        oldest=arguments.oldest or 0,
    )
    if order == KillOrder():
        raise UsageError("say which clients: --database, --user, --idle or --oldest")
    ordered(platform, lambda application: application.kill(order))
    count = sum(unit.operations.killed for unit in platform.model.units.values())
    run.say(f"clients that were disconnected: {count}")
    return 0


def ordered(platform: LocalPlatform, give: Callable[[Application], Outcome]) -> None:
    """Give an order to the leader, and let all units follow. Raises CommandError."""
    try:
        platform.order(give)
    except ActionFailed as error:
        raise CommandError(str(error)) from None
