"""Print tables of words: the options, and the credentials of an application."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from domain.settings import ACCEPTS, Settings, field_of
from pooler.called import as_called
from pooler.output import print_line


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
