"""The verb `observe`: run Prometheus with the metrics of the units, and say where to look."""

from __future__ import annotations

import argparse
import contextlib
import urllib.parse

from pooler import binaries, exporters, observers
from pooler.arguments import CommandError
from pooler.exit_codes import DONE
from pooler.invocation import Invocation
from pooler.output import print_error, print_line
from pooler.platform import LocalPlatform
from pooler.prometheus import Prometheus, Running
from pooler.store import Unreadable

# What to look at first, and an expression that shows it.
_GRAPHS = (
    (
        "clients that wait, by database and user",
        'sum by (database, user) (pgbouncer_pools_client_waiting_connections{database!="pgbouncer"})',
    ),
    (
        "transactions per second, by database",
        'sum by (database) (rate({__name__=~"pgbouncer_stats(_totals)?_sql_transactions_pooled_total",'
        'database!="pgbouncer"}[2m]))',
    ),
)


def observe(run: Invocation, arguments: argparse.Namespace) -> int:
    """Run Prometheus until Ctrl-C, or in the background with `--detach`."""
    prometheus = Prometheus(run.store)
    if arguments.stop:
        _stop(run, prometheus)
        return DONE
    run.platform()
    programs = binaries.prometheus(binaries.default_cache(), run.say)
    with run.store.locked(print_error):
        platform = run.platform()
        if platform.state.metrics is None:
            exporters.set_wanted(platform.state, run.say)
            run.say("exporters run from now on: `pooler up --no-metrics` ends them")
        observers.follow(platform, run.say)
        observers.configure(platform)
        if found := prometheus.running():
            run.say(
                f"Prometheus runs already (process {found.pid}): `pooler observe --stop` ends it"
            )
            _say_where(found)
            return DONE
        # `pooler watch` starts a Prometheus in the background again.
        _keep(platform, str(programs) if arguments.detach else "")
        try:
            process = prometheus.start(programs, ends_with_command=not arguments.detach)
        except (CommandError, OSError):
            _keep(platform, "")
            raise
    found = prometheus.running()
    if found is None:
        raise CommandError(f"Prometheus ended at once: see {prometheus.log}")
    run.say(f"Prometheus {binaries.version_of(programs / 'prometheus', 'prometheus')} started")
    _say_where(found)
    if arguments.detach:
        print_line("`pooler observe --stop` ends Prometheus, and `pooler down`, too")
        return DONE
    print_line("Ctrl-C ends Prometheus")
    try:
        ended = process.wait()
    except KeyboardInterrupt:
        prometheus.stop()
        process.wait()
        run.say(f"Prometheus stopped; its data stays in {prometheus.directory}")
        return DONE
    if ended:
        raise CommandError(f"Prometheus has ended: see {prometheus.log}")
    run.say("Prometheus was stopped")
    return DONE


def _stop(run: Invocation, prometheus: Prometheus) -> None:
    """End Prometheus, also if no unit exists any more, or the state cannot be read."""
    if run.store.exists():
        # A process that watches cannot read such a state, and starts no Prometheus.
        with run.store.locked(print_error), contextlib.suppress(Unreadable):
            _keep(run.platform(stopped=True), "")
    ended = prometheus.stop()
    run.say(
        f"Prometheus stopped; its data stays in {prometheus.directory}"
        if ended
        else "no Prometheus runs: `pooler observe` starts Prometheus"
    )


def _keep(platform: LocalPlatform, programs: str) -> None:
    """Note in the state with which programs Prometheus runs in the background; '' if it does not."""
    if platform.state.prometheus != programs:
        platform.state.prometheus = programs
        platform.store.save(platform.state)


def _say_where(found: Running) -> None:
    """Print the addresses of the pages to look at first."""
    pages = found.pages
    print_line()
    print_line(f"alerts: {pages}/alerts")
    print_line(f"exporters, and whether they answer: {pages}/targets")
    for text, expression in _GRAPHS:
        words = urllib.parse.urlencode({"g0.expr": expression, "g0.tab": "0"})
        print_line(f"{text}: {pages}/graph?{words}")
    print_line()
