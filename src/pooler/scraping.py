"""Read the metrics of exporters, and join them to a single page in Prometheus' text format."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from adapters.local.exporter_processes import ADDRESS, LocalExporter
from domain.value import Value

# Seconds in which an exporter has to answer, and the most bytes that are read of its answer.
SECONDS = 5.0
MOST_BYTES = 64 << 20
_BLOCK = 1 << 16

# A line of the text format: `name{labels} value`, or `name value`.
_NUMBER = r"[-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?|NaN|[-+]Inf"
_SAMPLE = re.compile(
    rf"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{(?P<labels>.*)\}})? (?P<value>{_NUMBER})"
)
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ABOUT = re.compile(r"# (?P<what>HELP|TYPE) (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*) ")

# The metrics of PgBouncer begin so; the remaining metrics are those of the exporter's own process.
OF_PGBOUNCER = "pgbouncer_"

_ESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


class Silent(Exception):
    """An exporter does not answer; the text says why."""


class Sample(NamedTuple):
    """A value of a metric, with its labels as the exporter writes them."""

    name: str
    labels: str
    value: str

    @property
    def line(self) -> str:
        """Return the line of the text format."""
        return f"{self.name}{{{self.labels}}} {self.value}"

    @property
    def as_row(self) -> MetricRow:
        """Return the value and the labels without escapes."""
        labels = {name: _unescaped(text) for name, text in _LABEL.findall(self.labels)}
        return MetricRow(name=self.name, labels=labels, value=float(self.value))


class MetricRow(Value):
    """A value of a metric, for JSON."""

    name: str
    labels: dict[str, str]
    # null in JSON if it is no number.
    value: float


class Family:
    """A metric: the lines that describe it, and its values of all processes."""

    def __init__(self) -> None:
        self.about: dict[str, str] = {}
        self.samples: list[Sample] = []


def scraped(exporter: LocalExporter) -> str:
    """Return the page of an exporter. Raises Silent."""
    connection = http.client.HTTPConnection(ADDRESS, exporter.port, timeout=SECONDS)
    end, text = time.monotonic() + SECONDS, b""
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise Silent(f"it answers {answer.status}")
        while block := answer.read(_BLOCK):
            text += block
            if len(text) > MOST_BYTES or time.monotonic() > end:
                raise Silent("its answer does not end")
    except (OSError, http.client.HTTPException) as error:
        raise Silent(str(error) or type(error).__name__) from None
    finally:
        connection.close()
    return text.decode(errors="replace")


def joined(
    pages: Iterable[tuple[LocalExporter, str]], *, everything: bool = False
) -> list[Family]:
    """Return the metrics of several pages; each value has the labels `unit` and `process`.

    Without `everything` only the metrics of PgBouncer are returned, not those of the exporters.
    """
    families: dict[str, Family] = {}
    for exporter, page in pages:
        own = f'unit="{exporter.unit}",process="{exporter.process}"'
        current = ""
        for line in page.split("\n"):
            if about := _ABOUT.match(line):
                current = about["name"]
                families.setdefault(current, Family()).about.setdefault(about["what"], line)
            elif sample := _SAMPLE.fullmatch(line):
                name = sample["name"]
                if not current or not name.startswith(current):
                    current = name
                labels = ",".join(filter(None, (own, sample["labels"])))
                families.setdefault(current, Family()).samples.append(
                    Sample(name, labels, sample["value"])
                )
    return [
        family for name, family in families.items() if everything or name.startswith(OF_PGBOUNCER)
    ]


def lines_of(families: Iterable[Family]) -> Iterator[str]:
    """Yield the lines of the text format."""
    for family in families:
        yield from family.about.values()
        for sample in family.samples:
            yield sample.line


def _unescaped(text: str) -> str:
    return re.sub(r'\\[\\"n]', lambda found: _ESCAPED[found[0]], text)
