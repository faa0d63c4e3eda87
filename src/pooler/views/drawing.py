"""Draw the views with rich: tables and sentences. Every text of a client is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from pooler.called import as_called
from pooler.screen import Size
from pooler.views.text import duration, printable, units_text
from pooler.views.top import SAMPLES

if TYPE_CHECKING:
    from rich.console import RenderableType

    from pooler.views.checks import Doctor
    from pooler.views.status import ObserversView, ProblemView, StatusView
    from pooler.views.top import PoolView, TopView

_STYLES = {
    **dict.fromkeys(("active", "running", "ok"), "green"),
    **dict.fromkeys(("waiting", "paused", "warning"), "yellow"),
    **dict.fromkeys(("blocked", "stopped", "absent", "failure"), "bold red"),
}
_HEAD = "bold"
_QUIET = "dim"
_ALARM = "bold red"

# Columns between two columns of a table.
_GAP = 2


def _text(text: str, style: str = "") -> Text:
    return Text(printable(as_called(text)), style=style)


def _table(*heads: str, right: Sequence[str] = ()) -> Table:
    """Return a table without lines; the columns in `right` are aligned to the right."""
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style=_HEAD)
    for head in heads:
        justify = "right" if head in right else "left"
        table.add_column(head, justify=justify, no_wrap=True, overflow="ellipsis")
    return table


def status(view: StatusView) -> list[RenderableType]:
    """Return the parts of `pooler status`."""
    parts: list[RenderableType] = [_summary(view)]
    if view.observers:
        parts.append(_observers(view.observers))
    if view.units:
        parts += [Text(), _units(view)]
    if view.applications:
        parts += [Text(), _applications(view)]
    elif view.units:
        parts += [
            Text(),
            _text("no application is related: `pooler relate NAME` gives an application access"),
        ]
    if view.problems:
        parts += [Text(), _problems(view.problems, len(view.units))]
    return parts


def _summary(view: StatusView) -> Text:
    line = Text().append(view.state, style=_STYLES[view.state])
    if view.pgbouncer:
        line.append(printable(f"  PgBouncer {view.pgbouncer}"))
    if view.postgresql_endpoints:
        first, *more = view.postgresql_endpoints
        others = f" and {len(more)} more" if more else ""
        line.append(printable(f"  PostgreSQL {view.postgresql} at {first}{others}"))
    return line


def _observers(view: ObserversView) -> Text:
    few = view.running < view.exporters
    line = (
        Text()
        .append("exporters ")
        .append(f"{view.running}/{view.exporters}", _ALARM if few else "")
    )
    if view.version:
        line.append(printable(f"  pgbouncer_exporter {view.version}"))
    if view.prometheus:
        line.append(f"  Prometheus at {view.prometheus}")
    return line


def _units(view: StatusView) -> Table:
    table = _table("unit", "address", "status", "processes", "query", right=("processes", "query"))
    for unit in view.units:
        few = unit.running < unit.processes or not unit.processes
        table.add_row(
            _text(unit.unit + ("*" if unit.leader else "")),
            _text(f"{unit.address}:{unit.port or '-'}"),
            _text(unit.status, _STYLES[unit.status]),
            _text(f"{unit.running}/{unit.processes}", _ALARM if few else ""),
            _text("-" if unit.query_seconds is None else duration(unit.query_seconds)),
        )
    return table


def _applications(view: StatusView) -> Table:
    counts = ("clients", "waiting", "servers")
    table = _table("application", "database", "mode", *counts, right=counts)
    table.columns[0].max_width = table.columns[1].max_width = 20
    for row in view.applications:
        table.add_row(
            _text(row.application),
            _text(row.database),
            _text(row.pool_mode if row.connected else "no access yet"),
            _text(str(row.clients)),
            _text(str(row.waiting), _ALARM if row.waiting else ""),
            _text(f"{row.servers_active}/{row.servers}"),
        )
    return table


def _problems(problems: Sequence[ProblemView], units: int) -> Table:
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    for problem in problems:
        whose = units_text(problem.units, units)
        text = _text(f"{whose}: {problem.text}" if whose else problem.text)
        if problem.command:
            text.append(printable(as_called(f" → `{problem.command}`")), style="bold")
        # A text may begin with `waiting`, so that word is not repeated before it.
        word = "warning" if problem.severity == "warning" else "problem"
        grid.add_row(_text(word, _STYLES[problem.severity]), text)
    return grid


def top(view: TopView, size: Size, *, each: bool) -> list[RenderableType]:
    """Return the parts of `pooler top` for a terminal of this size."""
    width, height = size
    header = Text()
    header.append(f"{view.time:%H:%M:%S}  ", style=_HEAD)
    header.append(printable(f"clients {view.clients}  "))
    header.append(f"waiting {view.waiting}", style=_ALARM if view.waiting else "")
    header.append(f"  servers {view.servers_active}/{view.servers}")
    header.append(f"  longest wait {duration(view.longest_wait)}")
    parts: list[RenderableType] = [header]
    if len(view.waiting_last_minute) > 1:
        parts.append(_last_minute(view.waiting_last_minute, width))
    problems = [*view.problems[:3]]
    if len(view.problems) > len(problems):
        problems.append(f"… {len(view.problems) - len(problems)} more problems")
    # The heads of the columns, an empty line above them, a line about rows that are not shown, and the keys.
    room = max(1, height - len(parts) - len(problems) - 4)
    shown = view.rows[:room]
    parts += [Text(), _pools(shown, width, each=each)]
    notes: list[str] = []
    if len(view.rows) > len(shown):
        notes.append(f"… {len(view.rows) - len(shown)} more")
    if view.hidden:
        notes.append(f"{view.hidden} idle or internal hidden (--all shows them)")
    if view.paused:
        notes.append("paused: `pooler resume` lets transactions continue")
    if notes:
        parts.append(_text("; ".join(notes), _QUIET))
    parts += [_cut(_text(problem, _STYLES["warning"])) for problem in problems]
    return parts


def _cut(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


_BARS = " ▁▂▃▄▅▆▇█"

# Columns beside the bars, for `waiting` and `most 10000`.
_BESIDE_BARS = 20


def _last_minute(samples: Sequence[int], width: int) -> Text:
    """Return a line with a bar for each sample: the clients that waited in the last minute."""
    samples = samples[-max(1, min(SAMPLES, width - _BESIDE_BARS)) :]
    most = max(samples)
    bars = "".join(_BARS[-(-sample * 8 // most) if most else 0] for sample in samples)
    line = _text("waiting  ")
    line.append(bars, style="red" if most else _QUIET)
    line.append(f"  most {most}")
    return _cut(line)


def _pools(rows: Sequence[PoolView], width: int, *, each: bool) -> Table:
    counts = ("clients", "waiting", "servers", "longest wait")
    place = ("unit", "process") if each else ()
    table = _table(*place, "application", "database", "mode", *counts, right=counts)
    fixed = sum(map(len, counts)) + (20 if each else 0) + len("transaction")
    names = max(8, (width - fixed - _GAP * len(table.columns)) // 2)
    for column in table.columns:
        if column.header in ("application", "database"):
            column.max_width = names
    for row in rows:
        alarm = _ALARM if row.waiting else ""
        table.add_row(
            *((_text(row.unit), _text(str(row.process))) if each else ()),
            _text(row.application or f"user {row.user}"),
            _text(row.database),
            _text(row.pool_mode),
            _text(str(row.clients)),
            _text(str(row.waiting), alarm),
            _text(f"{row.servers_active}/{row.servers}"),
            _text(duration(row.longest_wait) if row.longest_wait else "-", alarm),
        )
    return table


def doctor(view: Doctor) -> list[RenderableType]:
    """Return the parts of `pooler doctor`."""
    grid = Table.grid(padding=(0, _GAP, 0, 0))
    group = ""
    for check in view.checks:
        if check.group != group:
            group = check.group
            grid.add_row(Text(), _text(group, _HEAD))
        text = _text(check.text)
        if check.command:
            text.append(printable(as_called(f" → `{check.command}`")), style="bold")
        if check.page:
            text.append(printable(f" ({check.page})"), style=_QUIET)
        grid.add_row(_text(check.level, _STYLES[check.level]), text)
    levels = [check.level for check in view.checks]
    counts = f"ok {levels.count('ok')}, warnings {levels.count('warning')}"
    counts += f", failures {levels.count('failure')}"
    return [grid, Text(), _text(counts, _STYLES["ok" if view.ok else "failure"])]
