"""Rules over series that are written down, which promtool evaluates: a healthy hour, a failover, the objective."""

from __future__ import annotations

import json
import pathlib
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

from stack import rules_for

from domain.alerts import slo
from domain.settings import Settings

STEP, MINUTES = 15, 60
_SAMPLES = MINUTES * 60 // STEP
_UNIT = {"juju_application": "pgbouncer-k8s", "juju_unit": "pgbouncer-k8s/0", "process": "0"}


_BUSY = 'count(sum(rate({__name__=~"pgbouncer_stats(_totals)?_queries_pooled_total"}[5m])) > 1)'


class Refused(Exception):
    """promtool found a mistake, or a test of rules failed."""


def promtool(program: pathlib.Path, *words: object) -> str:
    """Return what promtool prints. Raises Refused."""
    done = subprocess.run(
        [str(program), *map(str, words)], capture_output=True, text=True, check=False, timeout=120
    )
    if done.returncode:
        raise Refused((done.stdout + done.stderr)[-3000:])
    return done.stdout


def check(program: pathlib.Path, folder: pathlib.Path, groups: list[dict[str, Any]]) -> None:
    """Let promtool read the rules, also with its linter."""
    file = folder / "checked.json"
    file.write_text(json.dumps({"groups": groups}))
    promtool(program, "check", "rules", "--lint=all", "--lint-fatal", file)


def healthy_hour(
    program: pathlib.Path,
    folder: pathlib.Path,
    recorded: list[dict[str, Any]],
    options: Mapping[str, object],
    processes: int,
) -> int:
    """Extend the recorded series to an hour, evaluate the rules as we ship them; return the number of series.

    A counter grows as it grew on average, and another series repeats its values. An alert that fires is a failure.
    """
    groups = rules_for(options)
    names = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    _test(
        program,
        folder,
        "healthy",
        groups,
        {
            "interval": f"{STEP}s",
            "input_series": [
                {"series": _name(series["metric"]), "values": _extended(series)}
                for series in recorded
            ],
            "alert_rule_test": [
                {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []}
                for minute in range(1, MINUTES)
                for name in names
            ],
            # Without these the replay could be one of nothing.
            "promql_expr_test": [
                {
                    "expr": "count(pgbouncer_up == 1)",
                    "eval_time": "59m",
                    "exp_samples": [{"labels": "{}", "value": processes}],
                },
                {
                    "expr": _BUSY,
                    "eval_time": "59m",
                    "exp_samples": [{"labels": "{}", "value": 1}],
                },
            ],
        },
    )
    return len(recorded)


def _name(labels: Mapping[str, str]) -> str:
    rest = ",".join(
        f"{name}={json.dumps(value)}"
        for name, value in sorted(labels.items())
        if name != "__name__"
    )
    return f"{labels['__name__']}{{{rest}}}"


def _extended(series: Mapping[str, Any]) -> str:
    values = [float(value) for _, value in series["values"]]
    if series["metric"]["__name__"].endswith("_total") and len(values) > 1:
        seconds = series["values"][-1][0] - series["values"][0][0]
        growth = (values[-1] - values[0]) / seconds * STEP
        return f"{values[0]:.6f}+{growth:.6f}x{_SAMPLES}"
    repeated = (values * (_SAMPLES // len(values) + 1))[:_SAMPLES]
    return " ".join(f"{value:.6f}" for value in repeated)


def failover(program: pathlib.Path, folder: pathlib.Path) -> None:
    """Let the address of PostgreSQL and the busy process change: an alert that is pending fires in its time."""
    groups = rules_for({})
    busy = {
        "pgbouncer_databases_current_connections": "10",
        "pgbouncer_databases_max_connections": "10",
    }
    database = {
        "name": "shop",
        "database": "shop",
        "force_user": "",
        "pool_mode": "",
        "port": "5432",
    }
    series = []
    for name, value in busy.items():
        for host, values in (("10.0.0.1", f"{value}x8 stale"), ("10.0.0.2", f"_x8 {value}x40")):
            labels = {"__name__": name, **_UNIT, **database, "host": host}
            series.append({"series": _name(labels), "values": values})
    for process, values in (("0", "3x8 0x40"), ("1", "0x8 3x40")):
        labels = {
            "__name__": "pgbouncer_pools_client_waiting_connections",
            **_UNIT, "process": process, "database": "shop", "user": "web",
        }  # fmt: skip
        series.append({"series": _name(labels), "values": values})
    for name, value in busy.items():
        labels = {"__name__": name, **_UNIT, **database, "host": "10.0.0.2", "process": "1"}
        series.append({"series": _name(labels), "values": f"_x8 {value}x40"})
    _test(
        program,
        folder,
        "failover",
        groups,
        {
            "interval": f"{STEP}s",
            "input_series": series,
            "promql_expr_test": [
                {
                    "expr": 'count(ALERTS{alertname="PgBouncerPoolFull",alertstate="firing"})',
                    "eval_time": "210s",
                    "exp_samples": [{"labels": "{}", "value": 1}],
                }
            ],
        },
    )


def objective(program: pathlib.Path, folder: pathlib.Path) -> None:
    """Clients that wait for 0.5 % of their time meet 99 %, and with 5 % they do not; no clients give no value.

    The expressions are those of the recorded series, and those that Sloth gets. Both names of the metrics count.
    """
    sli: Any = slo(Settings(), _UNIT.items())
    events = sli["slos"][0]["sli"]["events"]
    ratio = f"({events['error_query']}) / ({events['total_query']})".replace("{{.window}}", "5m")
    allowed = 1 - sli["slos"][0]["objective"] / 100
    for prefix in ("pgbouncer_stats", "pgbouncer_stats_totals"):
        for share, exceeds in ((0.005, False), (0.05, True), (None, False)):
            grows = (0, 0) if share is None else (share * STEP, (1 - share) * STEP)
            _test(
                program,
                folder,
                "objective",
                rules_for({}),
                {
                    "interval": f"{STEP}s",
                    "input_series": [
                        {
                            "series": _name(
                                {"__name__": f"{prefix}_{name}", **_UNIT, "database": "shop"}
                            ),
                            "values": f"0+{growth:.6f}x80",
                        }
                        for name, growth in zip(
                            ("client_wait_seconds_total", "server_in_transaction_seconds_total"),
                            grows,
                            strict=True,
                        )
                    ],
                    "promql_expr_test": [
                        _expected(f"count(({expression}) > {allowed:.6f})", int(exceeds))
                        for expression in (ratio, "pgbouncer:client_wait:ratio_rate5m")
                    ]
                    + [
                        _expected(f"count({expression})", int(share is not None))
                        for expression in (ratio, "pgbouncer:client_wait:ratio_rate5m")
                    ],
                },
            )


def _expected(expression: str, count: int) -> dict[str, Any]:
    samples: Iterable[object] = [{"labels": "{}", "value": count}] if count else []
    return {"expr": expression, "eval_time": "15m", "exp_samples": samples}


def _test(
    program: pathlib.Path,
    folder: pathlib.Path,
    name: str,
    groups: list[dict[str, Any]],
    test: dict[str, Any],
) -> None:
    rules, tests = folder / f"{name}-rules.json", folder / f"{name}-tests.json"
    rules.write_text(json.dumps({"groups": groups}))
    tests.write_text(
        json.dumps(
            {"rule_files": [rules.name], "evaluation_interval": f"{STEP}s", "tests": [test]}
        )
    )
    promtool(program, "test", "rules", tests)
