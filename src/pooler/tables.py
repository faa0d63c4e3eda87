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
from pooler.output import print_line
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
    values = {name: option_text(value) for name, value in option_values(settings).items()}
    overrides = values["overrides"]
    # A long value would widen the whole column.
    values |= {"overrides": "see below" if overrides else ""}
    show(
        ("option", "value", "accepts"),
        [(name, values[name], text) for name, text in ACCEPTS.items()],
    )
    if overrides:
        print_line(f"\noverrides={overrides}")


def option_values(settings: Settings) -> dict[str, int | str]:
    """Return the value of each option, in the type that Juju gives it: int, bool or str."""
    values = {name: getattr(settings, field_of(name)) for name in ACCEPTS}
    return {name: _juju_value(value) for name, value in values.items()}


def option_text(value: int | str) -> str:
    """Return the value of an option, as `pooler config KEY=VALUE` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _juju_value(value: object) -> int | str:
    if isinstance(value, tuple):
        return ",".join(map(str, cast("tuple[object, ...]", value)))
    return value if isinstance(value, int) else str(value)


def show(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print an empty line and a table."""
    lines = [tuple(head), *(tuple(map(as_called, row)) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    print()
    for line in lines:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
