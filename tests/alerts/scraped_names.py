"""The names in expressions, and whether the scrapes of real exporters have them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from domain.alerts import as_groups, metric_rules, recording_rules, slo
from domain.dashboard import dashboard
from domain.settings import Settings

_TOKEN = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*")|(?P<range>\[[^\]]*\])|(?P<name>[A-Za-z_:][\w:]*)'
    r"|(?P<number>\d[\w.]*)|(?P<sign>=~|!~|!=|==|[^\s])"
)
_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan"}


class Names(NamedTuple):
    """What an expression names: metrics, patterns of metrics, and labels."""

    metrics: frozenset[str]
    patterns: frozenset[str]
    labels: frozenset[str]


def names_in(expression: str) -> Names:
    """Return the metrics and labels that a PromQL expression names."""
    tokens = [(found.lastgroup, found[0]) for found in _TOKEN.finditer(expression)]
    metrics, patterns, labels = set[str](), set[str](), set[str]()
    depth, listing, place = 0, False, 0
    while place < len(tokens):
        kind, text = tokens[place]
        following = tokens[place + 1][1] if place + 1 < len(tokens) else ""
        if text in "{}" and kind == "sign":
            depth += 1 if text == "{" else -1
        elif kind == "name" and depth:
            if text == "__name__":
                patterns.add(tokens[place + 2][1].strip('"'))
            else:
                labels.add(text)
        elif kind == "name" and text in _LISTS and following == "(":
            listing = True
        elif listing and text == ")":
            listing = False
        elif kind == "name" and listing:
            labels.add(text)
        elif (
            kind == "name"
            and following not in {"(", "by", "without"}
            and text.lower() not in _WORDS | _LISTS
        ):
            metrics.add(text)
        elif kind == "name" and text == "label_replace":
            labels.update(_replaced(expression, metrics))
        place += 1
    return Names(frozenset(metrics), frozenset(patterns), frozenset(labels))


def _replaced(expression: str, _: object) -> Iterator[str]:
    """Yield the labels that label_replace reads."""
    for found in re.finditer(r'"\w+", "\$1", "(\w+)"', expression):
        yield found[1]


def expressions() -> Iterator[tuple[str, str]]:
    """Yield the place and the expression of everything that we ship."""
    settings = Settings(query_timeout=1)
    for group in as_groups((*metric_rules(settings), *recording_rules(settings))):
        rules: Any = group["rules"]
        for rule in rules:
            yield rule.get("alert") or rule["record"], rule["expr"]
    sli: Any = slo(settings)
    for query, text in sli["slos"][0]["sli"]["events"].items():
        yield f"sloth {query}", text.replace("{{.window}}", "5m")
    panels: Any = dashboard()["panels"]
    for panel in panels:
        for target in panel.get("targets", []):
            if target["datasource"]["uid"] == "${prometheusds}":
                text = re.sub(r"\$\{?__\w+\}?", "5m", target["expr"])
                yield f"panel {panel['title']}", text


def unknown(expression: str, series: Mapping[str, frozenset[str]]) -> list[str]:
    """Return the names in an expression that no series has. `series` has the labels of each metric."""
    names = names_in(expression)
    missing = [name for name in sorted(names.metrics) if name not in series]
    matched = {
        pattern: [name for name in series if re.fullmatch(pattern, name)]
        for pattern in sorted(names.patterns)
    }
    missing += [pattern for pattern, found in matched.items() if not found]
    used = [*names.metrics, *(name for found in matched.values() for name in found)]
    # A label has to be one of a metric of this expression: `database` of another metric does not help.
    known = frozenset[str]().union(*(series.get(name, frozenset()) for name in used))
    return missing + [f"label {label}" for label in sorted(names.labels - known)]
