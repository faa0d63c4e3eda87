"""Print tables: the pools, and the options."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import cast

from app.errors import ConsoleFailed
from domain.settings import ACCEPTS, Settings, field_of
from domain.value import number_of
from pooler.called import as_called
from pooler.platform import LocalPlatform

POOLS = (
    *("unit", "process", "database", "user", "mode", "clients", "waiting", "servers", "idle"),
    "longest wait",
)


def pools(platform: LocalPlatform) -> Iterator[tuple[str, ...]]:
    """Yield a row with the columns POOLS for each pool of each process.

    A process whose console fails has a single row, with the error in place of a database.
    """
    for unit in sorted(platform.model.units, key=number_of):
        facts, consoles = platform.read(unit), platform.consoles(unit)
        for process in facts.container.applied.instances if facts.container.applied else ():
            try:
                if facts.auth is None:
                    continue
                with consoles.open(process.index, process.port, facts.auth) as console:
                    states = console.pools()
            except ConsoleFailed as error:
                yield (unit, str(process.index), str(error), *[""] * 7)
                continue
            for pool in states:
                yield (
                    *(unit, str(process.index), pool.alias, pool.user, pool.mode),
                    *(str(pool.clients_active), str(pool.clients_waiting)),
                    *(str(pool.servers_active), str(pool.servers_idle)),
                    f"{pool.longest_wait:.3f} s",
                )


def yellow(text: str) -> str:
    """Return the text in yellow if the output is a terminal, unless $NO_COLOR is set (https://no-color.org)."""
    plain = bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()
    return text if plain else f"\033[33m{text}\033[0m"


def show_options(settings: Settings) -> None:
    """Print the options with their values, as `pooler config KEY=VALUE` takes them."""
    values = {name: _option_text(getattr(settings, field_of(name))) for name in ACCEPTS}
    overrides = values["overrides"]
    # A long value would widen the whole column.
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
    """Print an empty line and a table."""
    lines = [tuple(head), *(tuple(map(as_called, row)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    print()
    for line in lines:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
