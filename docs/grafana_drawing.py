"""Draw the panels of the dashboard as HTML, from the dashboard's own JSON and the answers of Prometheus.

It draws what the dashboard uses of Grafana, and nothing else. An unknown kind of panel or unit is an error.
"""

from __future__ import annotations

import html
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

# A column and a line of Grafana's grid, in pixels, and the space between two panels.
COLUMN, LINE, GAP = 50, 34, 8
WIDTH = 24 * COLUMN

COLORS = {
    "green": "#56a64b",
    "yellow": "#e0b400",
    "orange": "#ff780a",
    "red": "#e02f44",
    "blue": "#3274d9",
    "text": "#24292e",
}
SERIES = ("#3274d9", "#ff780a", "#56a64b", "#a352cc", "#e0b400", "#e02f44", "#37872d", "#8f3bb8")

STYLE = f"""
body {{ margin: 0; width: {WIDTH}px; background: #f4f5f5; color: #24292e; position: relative;
  font: 13px "DejaVu Sans Condensed", "Liberation Sans", sans-serif; }}
.row {{ font-size: 17px; font-weight: bold; padding: 6px 10px; }}
.head span {{ background: #fff; border: 1px solid #c8ccd0; padding: 2px 8px; margin-right: 12px;
  font-size: 12px; }}
.panel {{ position: absolute; background: #fff; border: 1px solid #d8dbde; box-sizing: border-box;
  overflow: hidden; }}
.title {{ font-weight: bold; padding: 6px 10px 2px; white-space: nowrap; }}
.legend {{ padding: 0 10px; font-size: 11.5px; line-height: 15px; }}
.legend span {{ margin-right: 12px; white-space: nowrap; }}
.legend i {{ display: inline-block; width: 14px; height: 4px; margin-right: 5px; vertical-align: middle; }}
.stat {{ color: #fff; font-size: 30px; font-weight: bold; text-align: center; margin: 4px 8px;
  height: 84px; line-height: 84px; border-radius: 3px; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ text-align: left; padding: 3px 10px; border-top: 1px solid #e4e6e8; }}
.lines {{ font: 11px "DejaVu Sans Mono", monospace; padding: 2px 10px; line-height: 15px;
  word-break: break-all; }}
.lines div {{ border-left: 3px solid; padding-left: 6px; margin-bottom: 2px; }}
svg text {{ font: 11px "DejaVu Sans Condensed", "Liberation Sans", sans-serif; fill: #4a5056; }}
"""

Json = Mapping[str, Any]


class Series(NamedTuple):
    """The values of a series by their moments, and its name in the legend."""

    name: str
    labels: Json
    values: dict[float, float]


class Line(NamedTuple):
    """A line of a log."""

    moment: float
    text: str


class Data(NamedTuple):
    """What was asked for a panel: the series of each query, the lines of a log, and the range of moments."""

    series: Sequence[Sequence[Series]]
    lines: Sequence[Line]
    start: float
    end: float
    step: float


def page(
    row: Json, panels: Sequence[Json], data: Callable[[Json], Data], head: str
) -> tuple[str, int]:
    """Return the HTML of a row with its panels, and its height in pixels."""
    top = row["gridPos"]["y"]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    lead = 40 if head else 0
    parts = [
        f'<div class="row head" style="height: {lead - 12}px">{head}</div>' if head else "",
        f'<div class="row">▾ {html.escape(row["title"])}</div>',
    ]
    for panel in panels:
        place = panel["gridPos"]
        box = {
            "left": place["x"] * COLUMN + GAP / 2,
            "top": (place["y"] - top) * LINE + lead + GAP / 2,
            "width": place["w"] * COLUMN - GAP,
            "height": place["h"] * LINE - GAP,
        }
        style = "; ".join(f"{name}: {value}px" for name, value in box.items())
        body = _KINDS[panel["type"]](panel, data(panel), box["width"], box["height"] - 26)
        title = html.escape(panel["title"])
        parts.append(
            f'<div class="panel" style="{style}"><div class="title">{title}</div>{body}</div>'
        )
    text = (
        f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style><body>{"".join(parts)}</body>'
    )
    return text, (bottom - top) * LINE + lead + GAP


def shown(value: float, unit: str, decimals: int | None = None) -> str:
    """Return a value with its unit, as Grafana shows it."""
    if unit == "dtdurations":
        minutes, seconds = divmod(int(value), 60)
        return f"{minutes} minutes {seconds} seconds" if minutes else f"{seconds} seconds"
    if unit == "percentunit":
        return f"{_digits(value * 100, decimals)} %"
    factor, *names = _UNITS[unit]
    if unit == "s" and 0 < value < 1:
        value, names = value * 1000, ["ms"]
    while value >= factor and len(names) > 1:
        value, names = value / factor, names[1:]
    return f"{_digits(value, decimals)} {names[0]}".rstrip()


# The factor between the names of a unit, and its names from the smallest to the largest.
_UNITS: Mapping[str, tuple[Any, ...]] = {
    "short": (1000, ""),
    "none": (1000, ""),
    "s": (1000, "s"),
    "bytes": (1024, "B", "KiB", "MiB", "GiB"),
    "Bps": (1000, "B/s", "kB/s", "MB/s"),
}


def _digits(value: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    return str(round(value)) if value == round(value) or value >= _MANY else f"{value:.3g}"


# Numbers from here on are shown without a fraction.
_MANY = 100


def _color(panel: Json, value: float) -> str:
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
    reached = [step for step in steps if step["value"] is None or value >= step["value"]]
    return COLORS[reached[-1]["color"]]


def _mapped(panel: Json, value: float) -> tuple[str, str]:
    """Return the text and the colour of a value."""
    defaults = panel["fieldConfig"]["defaults"]
    for mapping in defaults["mappings"]:
        if found := mapping["options"].get(str(int(value))):
            return found["text"], COLORS[found["color"]]
    return shown(value, defaults["unit"], defaults.get("decimals")), _color(panel, value)


def _last(series: Series) -> float:
    return series.values[max(series.values)]


def _stat(panel: Json, data: Data, *_: float) -> str:
    text, color = _mapped(panel, _last(data.series[0][0]))
    return f'<div class="stat" style="background: {color}">{html.escape(text)}</div>'


def _bars(panel: Json, data: Data, width: float, height: float) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    series = sorted(data.series[0], key=lambda each: each.name)
    room = (height - 6) / len(series)
    # The names are as wide as the longest, and the values stand to the right.
    left = 16 + max(len(each.name) for each in series) * 6.2
    whole = width - left - 66
    parts = []
    for index, each in enumerate(series):
        value, top = _last(each), index * room + 4
        long = whole * min(1, value / defaults["max"])
        color = _color(panel, value)
        parts.append(
            f'<text x="10" y="{top + room / 2 + 3}">{html.escape(each.name)}</text>'
            f'<rect x="{left}" y="{top + 2}" width="{whole}" height="{room - 6}" fill="#eef0f1"/>'
            f'<rect x="{left}" y="{top + 2}" width="{long:.1f}" height="{room - 6}" fill="{color}"/>'
            f'<text x="{left + whole + 8}" y="{top + room / 2 + 3}" style="font-weight: bold">'
            f"{shown(value, defaults['unit'], defaults.get('decimals'))}</text>"
        )
    return _svg(width, height, parts)


def _timeline(panel: Json, data: Data, width: float, height: float) -> str:
    series = sorted(data.series[0], key=lambda each: each.name)
    left = 16 + max(len(each.name) for each in series) * 6.2
    whole, bottom = width - left - 14, height - 20
    room = bottom / len(series)
    scale = whole / (data.end - data.start)
    parts = []
    for index, each in enumerate(series):
        top = index * room + 4
        parts.append(f'<text x="10" y="{top + room / 2 + 3}">{html.escape(each.name)}</text>')
        for begin, end, value in _spans(each.values, data.step):
            text, color = _mapped(panel, value)
            x = left + (begin - data.start) * scale
            long = (min(end, data.end) - begin) * scale
            parts.append(
                f'<rect x="{x:.1f}" y="{top}" width="{long:.1f}" height="{room - 4}" fill="{color}"/>'
            )
            if long > len(text) * 7:
                parts.append(
                    f'<text x="{x + 6:.1f}" y="{top + room / 2 + 2}" style="fill: #fff">{text}</text>'
                )
    parts += _moments(data, left, whole, height)
    return _svg(width, height, parts)


def _spans(values: Mapping[float, float], step: float) -> Iterable[tuple[float, float, float]]:
    """Yield begin, end and value for each time in which the value stays the same."""
    begin = end = value = None
    for moment in sorted(values):
        if value == values[moment] and end is not None and moment - end < step * 0.1:
            end = moment + step
            continue
        if begin is not None and end is not None and value is not None:
            yield begin, end, value
        begin, end, value = moment, moment + step, values[moment]
    if begin is not None and end is not None and value is not None:
        yield begin, end, value


def _graph(panel: Json, data: Data, width: float, height: float) -> str:
    defaults = panel["fieldConfig"]["defaults"]
    series = [each for found in data.series for each in sorted(found, key=lambda each: each.name)]
    stacked = defaults["custom"]["stacking"]["mode"] == "normal"
    moments = [
        data.start + n * data.step for n in range(int((data.end - data.start) / data.step) + 1)
    ]
    below = dict.fromkeys(moments, 0.0)
    drawn: list[tuple[Series, list[tuple[float, float, float]]]] = []
    for each in series:
        near = {round((at - data.start) / data.step): value for at, value in each.values.items()}
        points = []
        for number, moment in enumerate(moments):
            value = near.get(number, math.nan)
            base = below[moment] if stacked else 0.0
            points.append((moment, base, base + value))
            if stacked and not math.isnan(value):
                below[moment] += value
        drawn.append((each, points))
    top = max((p[2] for _, points in drawn for p in points if not math.isnan(p[2])), default=1)
    soft = 0 if defaults["unit"] in {"s", "percentunit", "bytes", "Bps"} else 1
    most, every = _axis(defaults.get("max") or max(top, soft) or 1, defaults["unit"])
    names = "".join(
        f'<span><i style="background: {SERIES[n % len(SERIES)]}"></i>{html.escape(each.name)}</span>'
        for n, each in enumerate(series)
    )
    long = sum(len(each.name) * 6 + 34 for each in series)
    legend = 15 * math.ceil(long / (width - 20)) + 4
    height -= legend
    left, bottom = 62, height - 20
    whole, tall = width - left - 16, bottom - 8
    parts = []
    for number in range(round(most / every) + 1):
        y = bottom - tall * number * every / most
        text = shown(number * every, defaults["unit"])
        parts.append(
            f'<line x1="{left}" x2="{left + whole}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e6e8"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        )
    for number, (_, points) in enumerate(drawn):
        color = SERIES[number % len(SERIES)]
        for piece in _pieces(points):
            at = [
                (
                    left + whole * (moment - data.start) / (data.end - data.start),
                    bottom - tall * low / most,
                    bottom - tall * high / most,
                )
                for moment, low, high in piece
            ]
            line = " ".join(f"{x:.1f},{y:.1f}" for x, _, y in at)
            area = line + " " + " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in reversed(at))
            opacity = defaults["custom"]["fillOpacity"] / 100
            parts.append(
                f'<polygon points="{area}" fill="{color}" fill-opacity="{opacity}"/>'
                f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="1.5"/>'
            )
    if defaults["custom"]["thresholdsStyle"]["mode"] != "off":
        for step in defaults["thresholds"]["steps"][1:]:
            y = bottom - tall * step["value"] / most
            if y > 0:
                parts.append(
                    f'<line x1="{left}" x2="{left + whole}" y1="{y:.1f}" y2="{y:.1f}"'
                    f' stroke="{COLORS[step["color"]]}" stroke-dasharray="6 4"/>'
                )
    parts += _moments(data, left, whole, height)
    return _svg(width, height, parts) + f'<div class="legend">{names}</div>'


def _axis(top: float, unit: str) -> tuple[float, float]:
    """Return the end of an axis that shows `top`, and the distance of its lines."""
    base = 1024 ** int(math.log(top, 1024)) if unit == "bytes" and top >= 1 else 1
    raw = top / base / 4
    power = 10 ** math.floor(math.log10(raw))
    every = next(power * n for n in (1, 2, 2.5, 5, 10) if power * n >= raw * 0.999)
    if unit == "short":
        # A number of things has no fraction.
        every = max(every, 1)
    return math.ceil(top / base / every - 0.001) * every * base, every * base


def _pieces(
    points: Sequence[tuple[float, float, float]],
) -> Iterable[list[tuple[float, float, float]]]:
    """Yield the points between two gaps."""
    piece: list[tuple[float, float, float]] = []
    for point in points:
        if math.isnan(point[2]):
            if piece:
                yield piece
            piece = []
        else:
            piece.append(point)
    if piece:
        yield piece


def _moments(data: Data, left: float, whole: float, height: float) -> list[str]:
    """Return the times below a graph."""
    every = next(
        n for n in (15, 30, 60, 120, 300, 900) if (data.end - data.start) / n <= whole / 90
    )
    first = math.ceil(data.start / every) * every
    return [
        f'<text x="{left + whole * (at - data.start) / (data.end - data.start):.1f}" y="{height - 5}"'
        f' text-anchor="middle">{time.strftime("%H:%M:%S", time.gmtime(at))}</text>'
        for at in range(first, int(data.end - every / 4), every)
    ]


def _table(panel: Json, data: Data, *_: float) -> str:
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    organize = next(t["options"] for t in panel["transformations"] if t["id"] == "organize")
    names = sorted(organize["indexByName"], key=organize["indexByName"].__getitem__)
    keys = [name for name in names if not name.startswith("Value #")]
    labels = set(keys)
    for target, found in zip(panel["targets"], data.series, strict=True):
        for each in found:
            key = tuple((label, each.labels.get(label)) for label in keys)
            # A query without a label of the table adds its value to each line that has its other labels.
            missing = labels - each.labels.keys()
            lines = [
                line
                for known, line in merged.items()
                if all(pair in known for pair in key if pair[0] not in missing)
            ] or [merged.setdefault(key, dict(key))]
            for line in lines:
                line[f"Value #{target['refId']}"] = _last(each)
    units = {
        override["matcher"]["options"]: override["properties"][0]["value"]
        for override in panel["fieldConfig"]["overrides"]
    }
    heads = [organize["renameByName"][name] for name in names]
    rows = []
    for line in sorted(merged.values(), key=lambda line: [str(line.get(key)) for key in keys]):
        cells = []
        for name, heading in zip(names, heads, strict=True):
            value = line.get(name, "")
            unit = units.get(heading, "none")
            cells.append(shown(value, unit) if isinstance(value, float) else str(value))
        rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _log(_panel: Json, data: Data, *_: float) -> str:
    parts = []
    for line in sorted(data.lines, reverse=True)[:40]:
        severe = any(word in line.text for word in (" WARNING ", " ERROR ", " FATAL "))
        color = COLORS["orange" if severe else "green"]
        at = time.strftime("%H:%M:%S", time.gmtime(line.moment))
        parts.append(f'<div style="border-color: {color}">{at} {html.escape(line.text)}</div>')
    return f'<div class="lines">{"".join(parts)}</div>'


def _svg(width: float, height: float, parts: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' style="display: block">{"".join(parts)}</svg>'
    )


_KINDS: Mapping[str, Callable[[Json, Data, float, float], str]] = {
    "stat": _stat,
    "bargauge": _bars,
    "state-timeline": _timeline,
    "timeseries": _graph,
    "table": _table,
    "logs": _log,
}
