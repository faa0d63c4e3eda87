"""Every alert fires by its fault, and by nothing else: on real PgBouncer, exporters, PostgreSQL and Prometheus.

    python tests/alerts [--only PgBouncerDown,…]

Ends with a table, and with 1 if anything failed. There is no Loki: the rules on logs are evaluated by lines.py.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import re
import shutil
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

HERE = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(HERE / place) for place in ("src", "tests", "tests/integration")]

import replay
import scraped_names
from faults import FAULTS, World
from lines import log_rule
from messages import MESSAGES
from observed import EVERY_VERSION, Observed, Place
from postgresql import PostgreSQL
from stack import (
    APPLICATION,
    OPTIONS,
    Platform,
    Process,
    Prometheus,
    every_rule,
    rules_for,
    shorter_rules,
    until,
)

from columns import columns
from domain.alerts import log_rules
from domain.rules import Alert
from domain.settings import Settings
from loops import in_threads
from pooler import binaries

# What an alert may take, on a machine that is busy.
MOST_SECONDS = 90
HEALTHY_SECONDS = 15
# All rules on logs, also those of options that are off by default.
LOG_SETTINGS = Settings(query_timeout=1, idle_transaction_timeout=1)
# Clients that wait until their timeout wait, too. With real durations, the alert on waiting fires minutes later.
COMPANIONS = {
    "PgBouncerWaitNearTimeout": ("PgBouncerClientsWaiting", "PgBouncerPoolFull"),
    # A client that comes before the next try of server_login_retry is told that logins to PostgreSQL fail.
    "PgBouncerPostgreSQLFull": ("PgBouncerServerLoginFailing",),
}

HEAD = ("alert", "what was done", "seconds", "other alerts", "PgBouncer")


class Report:
    """Lines while it runs, the table, and what failed."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []
        self.failures: list[str] = []
        self._begin = time.monotonic()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begin:6.1f} s  {text}", flush=True)

    def row(self, alert: str, done: str, seconds: float, others: list[str], version: str) -> None:
        shown = ", ".join(others) or "none"
        self.rows.append((alert, done, f"{seconds:.1f}", shown, version))
        self.say(f"{alert}: {done}: {seconds:.1f} s, other alerts: {shown} ({version})")

    def fail(self, text: str) -> None:
        self.failures.append(text)
        self.say(f"FAILED: {text}")

    @contextlib.contextmanager
    def part(self, name: str):
        """Whatever goes wrong inside is a failure of this part alone."""
        try:
            yield
        except Exception as error:
            self.fail(f"{name}: {type(error).__name__}: {error}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=lambda text: set(text.split(",")), metavar="ALERT,…")
    only = parser.parse_args().only
    # A run that is ended leaves no process behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped half-way"))
    report = Report()
    cache = binaries.default_cache()
    prometheus = Prometheus(binaries.prometheus(cache, report.say))
    suites = (binaries.SUITE, binaries.OLDER_SUITE)
    exporters = {suite: binaries.exporter(cache, report.say, suite) for suite in suites}
    programs = {suite: binaries.pgbouncer(cache, report.say, suite=suite) for suite in suites}
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(prometheus.close)
            _rules_on_paper(report, prometheus)
            report.say("promtool has read the rules, and evaluated a failover and the objective")
            servers = [stack.enter_context(_server()) for _ in suites]
            report.say("PostgreSQL runs")
            with ThreadPoolExecutor() as pool:
                starting = [
                    pool.submit(Platform, programs[suite], server, f"{APPLICATION}/{number}")
                    for number, (suite, server) in enumerate(zip(suites, servers, strict=True))
                ]
                platforms = []
                for future in starting:
                    platforms.append(future.result())
                    stack.callback(platforms[-1].close)
            for platform, suite in zip(platforms, suites, strict=True):
                for process in platform.processes:
                    process.start_exporter(exporters[suite])
            newer, older = platforms
            prometheus.start(newer.processes, shorter_rules(rules_for(OPTIONS)))
            report.say(f"PgBouncer {newer.version} and {older.version} run, with exporters")
            _healthy(report, newer, prometheus)
            messages = threading.Thread(target=_messages, args=(report, older, only))
            messages.start()

            def start_exporter(process: Process) -> None:
                process.start_exporter(exporters[suites[0]])

            world = World(newer, older, prometheus, start_exporter)
            _faults(report, world, messages, only)
            messages.join()
            _messages(report, newer, only)
        if not only:
            _contract(report)
    finally:
        shutil.rmtree(prometheus.home, ignore_errors=True)
    print("\n" + "\n".join(columns([HEAD, *report.rows], numbers=(2,))))
    for text in report.failures:
        print(f"FAILED: {text}")
    report.say(f"{len(report.rows)} faults, {len(report.failures)} failures")
    return int(bool(report.failures) or not report.rows)


def _server() -> PostgreSQL:
    return PostgreSQL(settings={"max_connections": "40"})


def _rules_on_paper(report: Report, prometheus: Prometheus) -> None:
    """What needs no process: promtool reads the rules, and evaluates them over written series."""
    folder, program = prometheus.home, prometheus.promtool
    for options in (
        {},
        {"query_wait_timeout": 0, "max_db_connections": 0, "slo-wait-target": "0"},
    ):
        with report.part(f"promtool check rules with {options or 'the defaults'}"):
            replay.check(program, folder, every_rule(options))
    with report.part("a failover while an alert is pending"):
        replay.failover(program, folder)
    with report.part("the objective"):
        replay.objective(program, folder)
    have = {
        rule["alert"] for group in every_rule({}) for rule in group["rules"] if "alert" in rule
    }
    if missing := have ^ {fault[0] for fault in FAULTS}:
        report.fail(f"alerts without a fault, or faults without an alert: {sorted(missing)}")
    if missing := set(_log_alerts()) ^ {message[0] for message in MESSAGES}:
        report.fail(f"alerts without a message, or messages without an alert: {sorted(missing)}")


def _log_alerts() -> dict[str, Alert]:
    found = (rule for group in log_rules(LOG_SETTINGS) for rule in group.rules)
    return {rule.name: rule for rule in found if isinstance(rule, Alert)}


@contextlib.contextmanager
def _load(platform: Platform, clients: int = 5):
    """Let this many clients run transactions by the network meanwhile."""
    host, _, port = platform.login["endpoints"].partition(":")

    def run(ending: threading.Event) -> None:
        while not ending.is_set():
            # A client that leaves makes room for another user, and logs in again.
            with platform.client(host=host, port=int(port)) as client:
                for _ in range(50):
                    client.execute("SELECT pg_sleep(0.01)")
                    if ending.wait(0.01):
                        break

    with in_threads([run] * clients):
        yield


def _healthy(report: Report, platform: Platform, prometheus: Prometheus) -> None:
    """Serve load for a while; no alert fires, also in an hour of it, and no line passes a filter."""
    with report.part("a healthy stack"):
        seen: set[str] = set()
        with _load(platform):
            busy = "sum(rate(pgbouncer_process_cpu_seconds_total[10s])) > 0"
            until(lambda: prometheus.query(busy), "the processes have load")
            end = time.monotonic() + HEALTHY_SECONDS
            while time.monotonic() < end:
                seen |= set(prometheus.firing())
                time.sleep(0.5)
            every = f'{{__name__=~"pgbouncer_.+|up"}}[{HEALTHY_SECONDS - 3}s]'
            recorded = prometheus.query(every)
        if seen:
            report.fail(f"alerts fire on a healthy stack: {sorted(seen)}")
        count = replay.healthy_hour(
            prometheus.promtool, prometheus.home, recorded, OPTIONS, len(platform.processes)
        )
        report.say(f"a healthy hour with {count} series: no alert fires")
    with report.part("the log of a healthy stack"):
        logs = (process.log.read_text() for process in platform.processes)
        lines = [line for log in logs for line in log.splitlines()]
        for name, alert in _log_alerts().items():
            if passed := log_rule(alert.expression).passed(lines):
                report.fail(f"{name} matches a line of a healthy stack: {passed[0]}")
        report.say(f"{len(lines)} lines of a healthy log: no rule on logs matches")


def _faults(
    report: Report, world: World, messages: threading.Thread, only: set[str] | None
) -> None:
    for name, done, fault, watching in FAULTS:
        if only and name not in only:
            continue
        if name == "PgBouncerVersionSkew":
            # The faults of the other unit have no part in this one.
            messages.join()
        with report.part(f"{name}: {done}"):
            _fault(report, world, name, done, fault, watching)


def _fault(report, world, name, done, fault, watching) -> None:
    prometheus = world.prometheus
    until(lambda: not prometheus.alerts(), "no alert is pending or fires", MOST_SECONDS)
    seen: dict[str, list] = {}
    begin = time.monotonic()
    seconds = 0.0
    with fault(world):
        while time.monotonic() < begin + MOST_SECONDS:
            seen = prometheus.firing() | seen
            if name in seen and not seconds:
                seconds = time.monotonic() - begin
            if seconds and time.monotonic() > begin + seconds + watching:
                break
            time.sleep(0.3)
    if name not in seen:
        report.fail(f"{name} does not fire after {MOST_SECONDS} s: {done}")
    others = sorted(set(seen) - {name})
    report.row(name, done, seconds, others, world.platform.version)
    if unexpected := [other for other in others if other not in COMPANIONS.get(name, ())]:
        report.fail(f"{name}: {done}: other alerts fire: {', '.join(unexpected)}")
    for alert in seen.get(name, ()):
        text = alert["annotations"]["description"]
        if empty := [label for label in _named(name) if not alert["labels"].get(label)]:
            report.fail(f"{name}: the description names labels without a value, {empty}: {text}")


def _named(name: str) -> set[str]:
    """Return the labels that the description of an alert names."""
    rules = (rule for group in every_rule({}) for rule in group["rules"])
    found = next(rule for rule in rules if rule.get("alert") == name)
    named = set(re.findall(r"\$labels\.(\w+)", found["annotations"]["description"]))
    # Prometheus gives `absent` the labels of matchers, which the consumer of the rules adds.
    return named if name != "HostMetricsMissing" else set()


def _messages(report: Report, platform: Platform, only: set[str] | None) -> None:
    for name, done, provoke in MESSAGES:
        if not only or name in only:
            with report.part(f"{name}: {done} ({platform.version})"):
                _message(report, platform, name, done, provoke)


def _message(report, platform, name, done, provoke) -> None:
    before, begin = len(platform.lines()), time.monotonic()
    labels = {**platform.first.labels(), "pebble_service": "pgbouncer-0"}
    provoke(platform)

    def firing() -> set[str]:
        lines = platform.lines()[before:]
        alerts = _log_alerts().items()
        return {
            other for other, alert in alerts if log_rule(alert.expression).firing(lines, labels)
        }

    until(lambda: name in firing(), f"a line passes the filter of {name}", 20)
    others = sorted(firing() - {name})
    report.row(name, done, time.monotonic() - begin, others, platform.version)
    if unexpected := set(others).difference(COMPANIONS.get(name, ())):
        report.fail(f"{name}: {done}: other alerts match: {', '.join(sorted(unexpected))}")


def _contract(report: Report) -> None:
    """Every metric and label that we name exists in the scrapes of both exporters and both PgBouncers."""
    with report.part("the names of metrics and labels"), Observed() as observed, observed.load():
        scrapes = {place: _scrape(observed, place) for place in EVERY_VERSION}
        every = {name: labels for series in scrapes.values() for name, labels in series.items()}
        count = 0
        for place, series in scrapes.items():
            for where, expression in scraped_names.expressions():
                count += 1
                # A panel names the metrics of both exporters, and has a test of its own for each.
                known = every if where.startswith("panel") else series
                if missing := scraped_names.unknown(expression, known):
                    report.fail(f"{where}: {place}: does not exist: {', '.join(missing)}")
            dead = "pgbouncer_errors_count"
            if scraped_names.unknown(f"{dead} > 0", series) != [dead]:
                report.fail("a rule on a metric that does not exist passes")
        report.say(f"{count} times all names of an expression are in a scrape")


def _scrape(observed: Observed, place: Place) -> dict[str, frozenset[str]]:
    """Return the metrics of a process, each with its labels."""
    selector = f'juju_unit="{place.labels()["juju_unit"]}",process="{place.process}"'
    series: dict[str, frozenset[str]] = {}

    def scraped() -> bool:
        for found in observed.query(f"{{{selector}}}").series:
            labels = dict(found["metric"])
            name = labels.pop("__name__")
            series[name] = series.get(name, frozenset()) | frozenset(labels)
        return "pgbouncer_pools_client_waiting_connections" in series

    observed.wait(scraped, f"a scrape of {place}")
    return series


if __name__ == "__main__":
    sys.exit(main())
