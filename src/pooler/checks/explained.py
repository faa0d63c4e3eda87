"""Find the section of docs/errors.md that explains a message."""

from __future__ import annotations

import functools
import pathlib
import re
from typing import NamedTuple

PAGE = "docs/errors.md"

_FILE = pathlib.Path(__file__).resolve().parents[3] / PAGE

# A heading is a message, in which `…` stands for any text.
_HEADING = re.compile(r"^### `(.+)`$", re.MULTILINE)


class Section(NamedTuple):
    """A section of the page: its heading, and the texts that it explains."""

    heading: str
    explains: re.Pattern[str]

    @property
    def link(self) -> str:
        """Return the page with the anchor that GitHub gives to the heading."""
        anchor = re.sub(r"[^\w\- ]", "", self.heading).lower().replace(" ", "-")
        return f"{PAGE}#{anchor}"


@functools.cache
def sections() -> tuple[Section, ...]:
    """Return the sections of the page, the longest heading first; () if the page is not there."""
    try:
        headings = _HEADING.findall(_FILE.read_text())
    except OSError:
        return ()
    return tuple(_section(each) for each in sorted(headings, key=len, reverse=True))


def _section(heading: str) -> Section:
    words = ".+".join(map(re.escape, heading.split("…")))
    # The program that prints the message may write a reason or an address before it.
    return Section(heading, re.compile(f"(?:.*: )?{words}", re.DOTALL))


def explained(text: str, otherwise: str) -> str:
    """Return the section that explains this message, or the page `otherwise` if there is none."""
    return next((each.link for each in sections() if each.explains.fullmatch(text)), otherwise)
