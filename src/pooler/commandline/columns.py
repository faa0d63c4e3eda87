"""Lay out two columns of text, as `--help` has them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

WIDTH = 78

# A longer text in the first column has a line of its own.
_WIDEST = 40


def two_columns(rows: Iterable[tuple[str, str]]) -> str:
    """Return lines with a name and its meaning each; a meaning that is long is wrapped."""
    rows = list(rows)
    column = 4 + max((len(name) for name, _ in rows if len(name) <= _WIDEST), default=_WIDEST)
    lines: list[str] = []
    for name, meaning in rows:
        wrapped = textwrap.wrap(meaning, WIDTH - column)
        if len(name) + 4 > column:
            lines.append(f"  {name}")
        else:
            lines.append(f"  {name}".ljust(column) + wrapped.pop(0))
        lines += [" " * column + line for line in wrapped]
    return "\n".join(lines)
