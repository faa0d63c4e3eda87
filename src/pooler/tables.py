"""What `pooler` has to show, in columns."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from app.errors import ConsoleFailed
from domain.settings import ACCEPTS, Settings, field_of
from domain.value import number_of
from pooler.platform import LocalPlatform

POOLS = (
    *("unit", "process", "database", "user", "mode", "clients", "waiting", "servers", "idle"),
    "longest wait",
)


def pools(platform: LocalPlatform) -> Iterator[tuple[str, ...]]:
    """A row for each pool of each process."""
    for unit in sorted(platform.model.units, key=number_of):
        facts, consoles = platform.read(unit), platform.consoles(unit)
        for process in facts.container.applied.instances if facts.container.applied else ():
            try:
                if facts.auth is None:
                    continue
                with consoles.open(process.index, process.port, facts.auth) as console:
                    found = console.pools()
            except ConsoleFailed as error:
                yield (unit, str(process.index), str(error), *[""] * 7)
                continue
            for one in found:
                yield (
                    *(unit, str(process.index), one.alias, one.user, one.mode),
                    *(str(one.clients_active), str(one.clients_waiting)),
                    *(str(one.servers_active), str(one.servers_idle), f"{one.longest_wait:.3f} s"),
                )


def yellow(text: str) -> str:
    """Return the text in yellow if the output is a terminal, unless $NO_COLOR is set (https://no-color.org)."""
    plain = bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()
    return text if plain else f"\033[33m{text}\033[0m"


def show_options(settings: Settings) -> None:
    """Print the options with their values, as `pooler config KEY=VALUE` takes them."""
    values = {name: _option_text(getattr(settings, field_of(name))) for name in ACCEPTS}
    overrides = values["overrides"]
    # A long text would make every line as long.
    values |= {"overrides": "see below" if overrides else ""}
    show(
        ("option", "value", "accepts"),
        [(name, values[name], text) for name, text in ACCEPTS.items()],
    )
    if overrides:
        print(f"\noverrides={overrides}")


def _option_text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, cast("tuple[object, ...]", value)))
    return str(value).lower() if isinstance(value, bool) else str(value)


def show(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, below an empty line."""
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    print()
    for line in lines:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
