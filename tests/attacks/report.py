"""The table of attacks: what was tried, with which versions, and whether it was held."""

from __future__ import annotations

import dataclasses
import re
import time
from typing import TYPE_CHECKING

from attack import FAILING, Severity

from columns import columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SHORT = 70  #: characters of an outcome in the table; the whole of it stands below


@dataclasses.dataclass(frozen=True)
class Row:
    """The outcome of an attack with a PgBouncer and a PostgreSQL."""

    row: str
    title: str
    severity: Severity
    pgbouncer: str
    postgresql: str
    outcome: str  #: `held`, `not held: …` or `not run: …`
    awaits: str
    recommended: bool  #: the PgBouncer is the version that we recommend
    note: str = ""
    seconds: float = 0

    @property
    def held(self) -> bool:
        return self.outcome == "held"

    @property
    def fails(self) -> bool:
        """Whether the run fails because of it."""
        serious = self.severity in FAILING and self.recommended and not self.awaits
        return serious and self.outcome.startswith("not held")


class Report:
    """Lines of progress, and the table."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._begin = time.monotonic()

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"{time.monotonic() - self._begin:6.1f} s  {text}", flush=True)

    @property
    def failed(self) -> bool:
        """Whether a serious attack was not held, or nothing was tried."""
        return not self.rows or any(row.fails for row in self.rows)

    def table(self) -> str:
        """All rows, then what was not held in full, and what it means."""
        head = ("", "attack", "severity", "PgBouncer", "PostgreSQL", "outcome")
        lines = [
            (row.row, row.title, row.severity, row.pgbouncer, row.postgresql, _short(row.outcome))
            for row in self._in_order()
        ]
        return "\n".join((*columns([head, *lines]), *self._told()))

    def _in_order(self) -> list[Row]:
        return sorted(
            self.rows, key=lambda row: (*_number(row.row), row.pgbouncer, row.postgresql)
        )

    def _told(self) -> Iterator[str]:
        for row in self._in_order():
            where = (
                f"{row.row} {row.title} · PgBouncer {row.pgbouncer} · PostgreSQL {row.postgresql}"
            )
            if not row.held:
                yield f"\n{where} · {row.severity}\n    {row.outcome}"
                if row.awaits:
                    yield f"    It can be held after: {row.awaits}."
            elif row.note:
                yield f"\n{where}\n    {row.note}"
        yield ""
        yield from self._sums()

    def _sums(self) -> Iterable[str]:
        for version in sorted({row.pgbouncer for row in self.rows}):
            rows = [row for row in self.rows if row.pgbouncer == version]
            open_ = sorted(
                {row.row for row in rows if row.outcome.startswith("not held")}, key=_number
            )
            text = f"PgBouncer {version}: {sum(row.held for row in rows)} of {len(rows)} held"
            yield f"{text}; not held: {', '.join(open_)}" if open_ else text
        if serious := [row for row in self._in_order() if row.fails]:
            names = ", ".join(sorted({row.row for row in serious}, key=_number))
            yield f"FAILED: not held with the PgBouncer that we recommend, critical or high: {names}"


def not_held(text: str) -> str:
    """The outcome of an attack that was not held, on a single line."""
    return f"not held: {' '.join(text.split())}"


def _short(text: str) -> str:
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"


def _number(row: str) -> tuple[int, str]:
    found = re.match(r"\d+", row)
    return (int(found[0]) if found else 0, row)
