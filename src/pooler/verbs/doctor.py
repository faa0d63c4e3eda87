"""The verb `doctor`: check this machine, PostgreSQL, the units and the applications."""

from __future__ import annotations

import argparse

from pooler import screen
from pooler.checks.running import examine
from pooler.invocation import Invocation
from pooler.views.text import json_of


def doctor(run: Invocation, arguments: argparse.Namespace) -> int:
    """Print the results of all checks; return 1 if a check failed."""
    view = examine(run.store)
    if arguments.json:
        print(json_of(view))
    else:
        from pooler.views import drawing

        screen.show(drawing.doctor(view))
    return 0 if view.ok else 1
