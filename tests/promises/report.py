"""How is told what a demonstration does while it runs, and what it found in the end?"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterable

from columns import columns

EXAMPLES = 4  #: of failures that are alike enough to be told together


@dataclasses.dataclass
class Row:
    """One line of the table."""

    promise: str
    done: str
    version: str
    operations: int = 0
    failures: int = 0
    examples: Counter[str] = dataclasses.field(default_factory=Counter)
    notes: list[str] = dataclasses.field(default_factory=list)

    def fail(self, text: str, count: int = 1) -> None:
        """So many operations failed, for this reason."""
        self.failures += count
        self.examples[text] += 1

    @property
    def reasons(self) -> list[str]:
        """What failed; what failed several times stands there once."""
        return [
            f"{text} ({count} times)" if count > 1 else text
            for text, count in self.examples.most_common()
        ]

    def note(self, text: str) -> None:
        """Something to know that is no failure."""
        self.notes.append(text)


class Report:
    """Lines while it runs, and the table."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._begin = time.monotonic()

    def say(self, text: str) -> None:
        """A line of progress."""
        print(f"{time.monotonic() - self._begin:6.1f} s  {text}", flush=True)

    def row(self, promise: str, done: str, version: str) -> Row:
        """One more line of the table, to be filled in."""
        row = Row(promise, done, version)
        self.rows.append(row)
        return row

    @property
    def failed(self) -> bool:
        """Whether anything failed, or nothing was done."""
        return not self.rows or any(row.failures for row in self.rows)

    def table(self) -> str:
        """All rows, and below them what failed and what there is to know."""
        head = ("promise", "what was done", "operations", "failures", "PgBouncer")
        lines = [
            (row.promise, row.done, f"{row.operations:,}", f"{row.failures:,}", row.version)
            for row in self._in_order()
        ]
        return "\n".join((*columns([head, *lines], numbers=(2, 3)), *self._told()))

    def _in_order(self) -> list[Row]:
        """Those of one promise below one another, as they came."""
        return sorted(self.rows, key=lambda row: (row.version, row.promise))

    def _told(self) -> Iterable[str]:
        for row in self._in_order():
            title = f"{row.promise} · {row.done} · {row.version}"
            if row.examples or row.notes:
                yield f"\n{title}"
            for text in row.reasons[:EXAMPLES]:
                yield f"    FAILED: {text}"
            if len(row.examples) > EXAMPLES:
                yield f"    … and {len(row.examples) - EXAMPLES} more"
            for text in row.notes:
                yield f"    {text}"
