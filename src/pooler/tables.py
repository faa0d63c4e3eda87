"""Print tables of words: the options, and the credentials of an application."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from domain.settings import ACCEPTS, Settings, field_of


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
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    print()
    for line in lines:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )
