"""The parts of expressions in PromQL and LogQL that several panels share."""

# What the variables in the head of the dashboard select, of metrics and of lines.
_TOPOLOGY = ",".join(
    f'{label}=~"${label}"'
    for label in ("juju_model", "juju_model_uuid", "juju_application", "juju_unit")
)
SELECTED = f'{_TOPOLOGY},process=~"$process"'

# The console is a database of PgBouncer, too: every scrape of an exporter uses it.
_NO_CONSOLE = '!="pgbouncer"'

# A process: its number is unique within a unit only.
EACH_PROCESS = "juju_model, juju_application, juju_unit, process"
PROCESS = "{{juju_unit}}, process {{process}}"


def of(metric: str) -> str:
    """Return the selector of a metric with a series for each process."""
    return f"pgbouncer_{metric}{{{SELECTED}}}"


def pools(metric: str) -> str:
    """Return the selector of a metric with a series for each database and user."""
    return f"pgbouncer_pools_{metric}{{{SELECTED},database{_NO_CONSOLE}}}"


def databases(metric: str) -> str:
    """Return the selector of a metric with a series for each database, which the label `name` names."""
    return f"pgbouncer_databases_{metric}{{{SELECTED},name{_NO_CONSOLE}}}"


def rate(metric: str) -> str:
    """Return the rate of a counter of SHOW STATS, with a series for each process and database.

    Exporters before 0.11 name these metrics `stats_`, later exporters `stats_totals_`. A selector for both
    names would fail for as long as the graph shows a moment at which the exporter of a process was replaced,
    because `rate` drops the names, and two series would have equal labels.
    """
    newer, older = (
        f"rate(pgbouncer_{group}_{metric}_total{{{SELECTED},database{_NO_CONSOLE}}}"
        "[$__rate_interval])"
        for group in ("stats_totals", "stats")
    )
    return f"({newer} or {older})"


def summed(expression: str, by: str = "") -> str:
    """Return the sum of an expression, for each value of the labels `by`."""
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def clients(by: str) -> str:
    """Return the number of clients that are logged in, for each value of the labels `by`.

    A process without any pool counts as 0.
    """
    active, waiting = pools("client_active_connections"), pools("client_waiting_connections")
    return f"sum by ({by}) ({active} + {waiting} or 0 * {of('up')})"


def lines(contain: str = "") -> str:
    """Return the lines of PgBouncer's log that contain the regular expression."""
    stream = f'{{charm="pgbouncer-k8s",{_TOPOLOGY},pebble_service=~"pgbouncer-$process"}}'
    return f"{stream} |~ `{contain}`" if contain else stream
