"""Read docs/errors.md: an entry for each error that a client can get.

The heading of an entry is the message, in which `…` stands for a name, a number or a text. The next line says
which program sends it, its severity and its SQLSTATE, and from which release of PgBouncer on.
"""

from __future__ import annotations

import pathlib
import re
from typing import NamedTuple

PAGE = pathlib.Path(__file__).parents[1] / "docs/errors.md"

# In the order in which an entry has them.
PARTS = ("Says", "Why", "Application", "Operator", "Alert")

_HEADING = re.compile(r"^### `(.+)`$", re.MULTILINE)
_SENDER = re.compile(
    r"^(?:PgBouncer|PostgreSQL|libpq)(?:: `([A-Z]+)` `([0-9A-Z]{5})`)?"
    r"(, not with PgBouncer 1\.24)?$",
    re.MULTILINE,
)
_PART = re.compile(r"^- \*\*(\w+):\*\* (\S(?:.*\n)(?: {2}.*\n)*)", re.MULTILINE)
_CAUSE = re.compile(r"^ {2}\| `(.+?)` \|", re.MULTILINE)


class Entry(NamedTuple):
    """An error of the page."""

    message: str
    # '' for the words of a driver.
    severity: str
    code: str
    # (1, 25) if releases up to 1.24 do not send it; (0, 0) for every release.
    since: tuple[int, int]
    parts: dict[str, str]
    # What the table below the entry says can stand in place of `…`.
    causes: tuple[str, ...]

    def is_said_by(self, text: str) -> bool:
        """Return whether a text is this message."""
        return pattern(self.message).fullmatch(text) is not None


def pattern(words: str) -> re.Pattern[str]:
    """Return a pattern for the texts that a message of the page stands for."""
    return re.compile(".+".join(map(re.escape, words.split("…"))))


def entries() -> dict[str, Entry]:
    """Return the entries of the page by their headings."""
    _, *found = _HEADING.split(PAGE.read_text())
    pairs = list(zip(found[::2], found[1::2], strict=True))
    read = {message: _entry(message, text.partition("\n## ")[0]) for message, text in pairs}
    assert len(read) == len(pairs), "two headings of docs/errors.md are equal"
    return read


def _entry(message: str, text: str) -> Entry:
    sender = _SENDER.search(text)
    assert sender, f"{message}: the line below the heading does not say which program sends it"
    severity, code, later = sender.groups()
    return Entry(
        message=message,
        severity=severity or "",
        code=code or "",
        since=(1, 25) if later else (0, 0),
        parts={name: " ".join(words.split()) for name, words in _PART.findall(text)},
        causes=tuple(_CAUSE.findall(text)),
    )
