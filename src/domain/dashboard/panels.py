"""What a row and a panel are, and Grafana's JSON for them."""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

Kind = Literal["timeseries", "stat", "table", "logs", "bargauge", "state-timeline"]

# Names that Grafana knows. `percentunit` shows 1 as 100 %, and `dtdurations` shows seconds as a duration.
Unit = Literal["short", "s", "percentunit", "ops", "reqps", "Bps", "bytes", "dtdurations", "none"]

Color = Literal["green", "yellow", "orange", "red", "blue", "text"]

# The height of the line above the panels of a row, and the width of the dashboard, in Grafana's units.
_HEAD, _WIDTH = 1, 24

# The interval of scrapes in COS. `$__rate_interval` then spans at least four scrapes.
_SCRAPE = "1m"

_SOURCES = {
    "prometheus": {"type": "prometheus", "uid": "${prometheusds}"},
    "loki": {"type": "loki", "uid": "${lokids}"},
}


class Query(NamedTuple):
    """An expression, and the name of its series: a text with labels in `{{}}`.

    In a table, the name is the heading of the column of its values.
    """

    expression: str
    name: str = ""


class Step(NamedTuple):
    """A value from which on a number is shown in a colour."""

    value: float
    color: Color


class Text(NamedTuple):
    """What is shown in place of a value."""

    text: str
    color: Color


class Column(NamedTuple):
    """A label or the name of a query that a table shows, its heading, and the unit of its values."""

    source: str
    heading: str
    unit: Unit = "none"


class Panel(NamedTuple):
    """A panel: what it shows, how, and what the reader learns from it."""

    kind: Kind
    title: str
    # What the text behind the `i` of the panel says.
    says: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    # Of the 24 columns of the dashboard.
    width: int = 12
    height: int = 7
    # The end of the axis; without it, the axis ends at the highest value.
    most: float | None = None
    decimals: int | None = None
    # The values of the queries add up to a whole.
    stacked: bool = False
    # The colour of a value is that of the last step that it reaches; below all steps it is green.
    steps: tuple[Step, ...] = ()
    texts: Mapping[int, Text] = {}
    # What is shown in place of values if there are none.
    empty: str = ""
    # Of a table, from left to right.
    columns: tuple[Column, ...] = ()
    source: Literal["prometheus", "loki"] = "prometheus"


class Row(NamedTuple):
    """A row: the question that its title asks or names, and its panels from left to right."""

    title: str
    panels: tuple[Panel, ...]


def panels_of(rows: tuple[Row, ...]) -> list[dict[str, object]]:
    """Return Grafana's list of panels, each with its number and its place."""
    return list(_placed(rows))


def _placed(rows: tuple[Row, ...]) -> Iterator[dict[str, object]]:
    top, number = 0, 1
    for row in rows:
        place = {"x": 0, "y": top, "w": _WIDTH, "h": _HEAD}
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        top, left, height = top + _HEAD, 0, 0
        for panel in row.panels:
            number += 1
            if left + panel.width > _WIDTH:
                top, left, height = top + height, 0, 0
            place = {"x": left, "y": top, "w": panel.width, "h": panel.height}
            yield {"id": number, "gridPos": place} | _json(panel)
            left, height = left + panel.width, max(height, panel.height)
        top, number = top + height, number + 1


def _json(panel: Panel) -> dict[str, object]:
    """Return Grafana's JSON of a panel without its place."""
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _SOURCES[panel.source],
        "targets": [_target(panel, index) for index in range(len(panel.queries))],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _OPTIONS[panel.kind],
        "transformations": _transformations(panel),
    }


def _target(panel: Panel, index: int) -> dict[str, object]:
    query = panel.queries[index]
    # Prometheus answers a single moment where a panel shows no history.
    instant = panel.kind in {"stat", "table", "bargauge"}
    target: dict[str, object] = {
        "refId": _letter(index),
        "datasource": _SOURCES[panel.source],
        "expr": query.expression,
        "legendFormat": query.name,
    }
    if panel.source == "loki":
        return target | {"queryType": "range"}
    return target | {
        "editorMode": "code",
        "interval": _SCRAPE,
        "instant": instant,
        "range": not instant,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _defaults(panel: Panel) -> dict[str, object]:
    """Return how each value is shown."""
    steps = [{"value": None, "color": "green"}, *(step._asdict() for step in panel.steps)]
    defaults: dict[str, object] = {
        "unit": panel.unit,
        "min": 0,
        "thresholds": {"mode": "absolute", "steps": steps},
        "mappings": _mappings(panel.texts),
    }
    if panel.most is not None:
        defaults["max"] = panel.most
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    if panel.empty:
        defaults["noValue"] = panel.empty
    if panel.kind == "timeseries":
        defaults |= {"color": {"mode": "palette-classic"}, "custom": _drawing(panel)}
    else:
        defaults["color"] = {"mode": "thresholds"}
    return defaults


def _drawing(panel: Panel) -> dict[str, object]:
    """Return how the lines of a time series are drawn."""
    return {
        "lineWidth": 1,
        "fillOpacity": 40 if panel.stacked else 0,
        "showPoints": "never",
        # A process that was not scraped leaves a gap.
        "spanNulls": False,
        "axisSoftMax": 1,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if panel.steps else "off"},
    }


def _mappings(texts: Mapping[int, Text]) -> list[dict[str, object]]:
    options = {
        str(value): {"index": index, "text": shown.text, "color": shown.color}
        for index, (value, shown) in enumerate(texts.items())
    }
    return [{"type": "value", "options": options}] if options else []


def _overrides(panel: Panel) -> list[dict[str, object]]:
    """Return the units of the columns of a table."""
    return [
        {
            "matcher": {"id": "byName", "options": column.heading},
            "properties": [{"id": "unit", "value": column.unit}],
        }
        for column in panel.columns
        if column.unit != "none"
    ]


def _transformations(panel: Panel) -> list[dict[str, object]]:
    """Return how a table joins its queries: a line for each set of labels, and a column for each value."""
    if panel.kind != "table":
        return []
    fields = {query.name: f"Value #{_letter(n)}" for n, query in enumerate(panel.queries)}
    names = [fields.get(column.source, column.source) for column in panel.columns]
    return [
        {"id": "merge", "options": {}},
        {"id": "filterFieldsByName", "options": {"include": {"names": names}}},
        {
            "id": "organize",
            "options": {
                "indexByName": {name: index for index, name in enumerate(names)},
                "renameByName": {
                    name: column.heading for name, column in zip(names, panel.columns, strict=True)
                },
            },
        },
    ]


def _letter(index: int) -> str:
    """Return Grafana's name of a query: A for the first."""
    return chr(ord("A") + index)


_LEGEND = {"displayMode": "list", "placement": "bottom", "showLegend": True}
_LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}

_OPTIONS: dict[Kind, dict[str, object]] = {
    "timeseries": {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    "stat": {
        "reduceOptions": _LAST,
        "colorMode": "background",
        "graphMode": "none",
        "justifyMode": "center",
        "textMode": "value",
    },
    "bargauge": {
        "reduceOptions": _LAST,
        "displayMode": "basic",
        "orientation": "horizontal",
        "showUnfilled": True,
        "valueMode": "color",
    },
    "state-timeline": {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
        "mergeValues": True,
        "rowHeight": 0.8,
        "showValue": "auto",
    },
    "table": {"showHeader": True, "cellHeight": "sm"},
    "logs": {
        "showTime": True,
        "showLabels": False,
        "showCommonLabels": False,
        "wrapLogMessage": True,
        "enableLogDetails": True,
        "sortOrder": "Descending",
        "dedupStrategy": "none",
    },
}
