"""Prepare texts of other programs and users for an output."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from domain.value import Value


def printable(text: str) -> str:
    r"""Return the text with every character that a terminal would obey as an escape, such as `\x1b`."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def json_of(view: Value, *, indent: int | None = 2) -> str:
    """Return a view as JSON in ASCII, so that no character of it controls a terminal."""
    return json.dumps(view.model_dump(mode="json"), indent=indent).replace("\x7f", "\\u007f")


_UNITS_NAMED = 3


def duration(seconds: float) -> str:
    """Return a number of seconds in at most seven characters, e.g. `0.012 s`, `34.5 s`, `7200 s`."""
    text = f"{seconds:.3f}"
    # Five characters, but no digit before the point is cut.
    return f"{text[: max(5, text.index('.'))].removesuffix('.')} s"


def units_text(units: tuple[str, ...], number: int) -> str:
    """Return whose a problem is: the names of units, or `all units` if it is a problem of all `number` units."""
    if len(units) == number > 1:
        return "all units"
    shown, more = ", ".join(units[:_UNITS_NAMED]), len(units) - _UNITS_NAMED
    return f"{shown} and {more} more" if more > 0 else shown
