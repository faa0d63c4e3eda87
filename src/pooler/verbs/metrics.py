"""The verb `metrics`: print the metrics of all PgBouncer processes in Prometheus' text format."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from adapters.local.exporter_processes import LocalExporter
from domain.value import Value
from pooler import binaries, exporters, scraping
from pooler.arguments import CommandError
from pooler.exit_codes import DONE, FAILED
from pooler.invocation import Invocation
from pooler.output import print_error, print_line
from pooler.scraping import MetricRow
from pooler.survey import in_parallel
from pooler.views.text import json_of, printable


class ExporterView(Value):
    """Where the exporter of a process listens; `url` is '' if it runs for a single command only."""

    unit: str
    process: int
    url: str
    # '' if the exporter answers.
    error: str = ""


class MetricsView(Value):
    """Everything that `pooler metrics --json` prints."""

    exporters: tuple[ExporterView, ...]
    metrics: tuple[MetricRow, ...]


def metrics(run: Invocation, arguments: argparse.Namespace) -> int:
    """Print the metrics of all processes; without `up --metrics` by exporters that run for a moment."""
    platform = run.platform()
    if platform.state.metrics:
        return _show(exporters.kept(platform), arguments, stay=True)
    program = str(binaries.exporter(binaries.default_cache(), print_error))
    with exporters.temporary(platform, program) as found:
        return _show(found, arguments, stay=False)


def _show(found: Sequence[LocalExporter], arguments: argparse.Namespace, *, stay: bool) -> int:
    """Print the metrics of these exporters, of which each `stay`s or runs for this command only."""
    if not found:
        raise CommandError("no process of PgBouncer is configured: run `pooler up`")
    answers = in_parallel(_answer, found)
    pages = [
        (each, answer)
        for each, answer in zip(found, answers, strict=True)
        if isinstance(answer, str)
    ]
    families = scraping.joined(pages, everything=arguments.all)
    views = [
        ExporterView(
            unit=each.unit,
            process=each.process,
            url=each.url if stay else "",
            error="" if isinstance(answer, str) else str(answer),
        )
        for each, answer in zip(found, answers, strict=True)
    ]
    if arguments.json:
        rows = tuple(sample.as_row for family in families for sample in family.samples)
        print(json_of(MetricsView(exporters=tuple(views), metrics=rows)))
    else:
        _print(views, families, stay=stay)
    for view in views:
        if view.error:
            print_error(
                f"pooler: the exporter of {view.unit}, process {view.process}, does not answer"
                f" ({view.error}): run `pooler up`"
            )
    return FAILED if any(view.error for view in views) else DONE


def _print(
    views: Sequence[ExporterView], families: Sequence[scraping.Family], *, stay: bool
) -> None:
    if not stay:
        print_line("# no exporter stays: `pooler up --metrics` keeps exporters running")
    for view in views:
        where = f": {view.url}" if view.url else ""
        print_line(f"# unit {view.unit}, process {view.process}{where}")
    for line in scraping.lines_of(families):
        print(printable(line))


def _answer(exporter: LocalExporter) -> str | scraping.Silent:
    try:
        return scraping.scraped(exporter)
    except scraping.Silent as silent:
        return silent
