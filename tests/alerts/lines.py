"""An evaluator for the form of LogQL that our rules on logs have; there is no Loki on a machine for tests.

It knows a single form, and refuses every other:
`sum by (labels) (count_over_time({stream} |~ filter | regexp parser [5m])) > number`.
Loki matches by Go's RE2, of which our filters use only what Python reads alike: a filter with a look-around, a
back-reference or another extension is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_FORM = re.compile(
    r"sum by \((?P<by>[\w, ]+)\) \(count_over_time\(\{pebble_service=~\"(?P<service>[^\"]+)\"\}"
    r" \|~ `(?P<filter>[^`]+)`(?: \| regexp `(?P<parser>[^`]+)`)? \[(?P<window>\d+m)\]\)\)"
    r" > (?P<number>\d+)"
)
_EXTENSION = re.compile(r"\\[1-9bBAZ]|\(\?(?!P<\w+>|:)")


class LogRule(NamedTuple):
    """The parts of an expression."""

    service: re.Pattern[str]
    filter: re.Pattern[str]
    parser: re.Pattern[str] | None
    by: tuple[str, ...]
    more_than: int

    def passed(self, lines: Iterable[str]) -> list[str]:
        """Return the lines that pass the filter."""
        return [line for line in lines if self.filter.search(line)]

    def firing(
        self, lines: Iterable[str], labels: Mapping[str, str]
    ) -> dict[tuple[str, ...], int]:
        """Return the groups of lines whose number is larger than the number of the rule.

        `labels` are those of the stream. A group is the values of the labels in `sum by`.
        """
        if not self.service.fullmatch(labels["pebble_service"]):
            return {}
        counted: Counter[tuple[str, ...]] = Counter()
        for line in self.passed(lines):
            parsed = self.parser.search(line) if self.parser else None
            every = {**labels, **(parsed.groupdict() if parsed else {})}
            counted[tuple(every.get(label, "") for label in self.by)] += 1
        return {group: count for group, count in counted.items() if count > self.more_than}


def log_rule(expression: str) -> LogRule:
    """Return the parts of an expression of a rule. Raises ValueError for a form that is not known."""
    found = _FORM.fullmatch(expression)
    if not found:
        raise ValueError(f"not the form of our rules on logs: {expression}")
    for pattern in (found["service"], found["filter"], found["parser"] or ""):
        if _EXTENSION.search(pattern):
            raise ValueError(f"Loki reads this pattern in another way: {pattern}")
    return LogRule(
        service=re.compile(found["service"]),
        filter=re.compile(found["filter"]),
        parser=re.compile(found["parser"]) if found["parser"] else None,
        by=tuple(found["by"].split(", ")),
        more_than=int(found["number"]),
    )
