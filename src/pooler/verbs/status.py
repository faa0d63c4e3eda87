"""The verb `status`: show the units, their applications, and what is wrong."""

from __future__ import annotations

import argparse
import time

from pooler import screen
from pooler.invocation import Invocation
from pooler.platform import LocalPlatform
from pooler.unit_states import view_in_command, view_of
from pooler.views.status import StatusView
from pooler.views.text import json_of


def status(run: Invocation, arguments: argparse.Namespace) -> int:
    """Print the state of every unit, again and again with `--watch`; return 1 unless all are active."""
    if arguments.watch is None:
        return _print(view_of(run), as_json=arguments.json)
    return _watch(run, arguments)


def _watch(run: Invocation, arguments: argparse.Namespace) -> int:
    if arguments.json:
        while True:
            print(json_of(view_of(run, quiet=True), indent=None), flush=True)
            time.sleep(arguments.watch)
    from pooler.views import drawing

    return screen.repeat(arguments.watch, lambda _: drawing.status(view_of(run, quiet=True)))


def show_status(platform: LocalPlatform) -> int:
    """Run the update-status hook of every unit and print the units, at the end of a command.

    Return 1 unless each unit is active, or paused as the operator asked.
    """
    print()
    view = view_in_command(platform)
    _print(view, as_json=False)
    return 0 if view.as_asked else 1


def _print(view: StatusView, *, as_json: bool) -> int:
    if as_json:
        print(json_of(view))
    else:
        from pooler.views import drawing

        screen.show(drawing.status(view))
    return 0 if view.active else 1
