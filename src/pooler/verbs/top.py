"""The verb `top`: show which applications wait for server connections."""

from __future__ import annotations

import argparse
import datetime
import time

from pooler import screen
from pooler.arguments import CommandError
from pooler.invocation import Invocation
from pooler.survey import Consoles, applications, processes_of
from pooler.views.text import json_of
from pooler.views.top import SAMPLES, TopView, top_view

# Seconds for which the number of waiting clients is shown.
_HISTORY_SECONDS = 60.0


def top(run: Invocation, arguments: argparse.Namespace) -> int:
    """Print the pools again and again until the user types `q`, or a single time with `--once`."""
    pools = Pools(run, arguments)
    if arguments.json:
        return _print_json(pools, arguments)
    from pooler.views import drawing

    view = pools.view()
    pools.check_answered()
    if arguments.once:
        screen.show(drawing.top(view, screen.NO_LIMIT, each=arguments.each))
        return 0
    return screen.repeat(
        arguments.every, lambda size: drawing.top(pools.view(), size, each=arguments.each)
    )


def _print_json(pools: Pools, arguments: argparse.Namespace) -> int:
    while True:
        print(json_of(pools.view(), indent=2 if arguments.once else None), flush=True)
        if arguments.once:
            pools.check_answered()
            return 0
        time.sleep(arguments.every)


class Pools:
    """The pools of all processes; remembers how many clients waited in the last minute."""

    def __init__(self, run: Invocation, arguments: argparse.Namespace) -> None:
        self._run = run
        self._arguments = arguments
        self._consoles = Consoles(keep=not arguments.once)
        # Pairs of a time and a number of clients.
        self._history: list[tuple[float, int]] = []
        self._answered = False

    def view(self) -> TopView:
        """Return the pools now. Raises CommandError or Unreadable."""
        platform = self._run.platform(stopped=True)
        processes = processes_of(platform, platform.in_order())
        states = self._consoles.ask(platform, processes)
        self._answered = any(not state.error for state in states)
        begin = time.monotonic() - _HISTORY_SECONDS
        self._history = [sample for sample in self._history if sample[0] > begin][1 - SAMPLES :]
        view = top_view(
            datetime.datetime.now().astimezone(),
            states,
            {application.user: application.name for application in applications(platform)},
            [waiting for _, waiting in self._history],
            paused=platform.state.paused,
            each=self._arguments.each,
            everything=self._arguments.all,
        )
        self._history.append((time.monotonic(), view.waiting))
        return view

    def check_answered(self) -> None:
        """Raise CommandError if no process answered in the last view."""
        if not self._answered:
            raise CommandError("no process of PgBouncer answers: run `pooler up`")
