"""Rules of every suite: a skipped test fails the run, and tests that need root are named, not skipped.

A test with the marker `root` is left out unless root runs it. Another test that is skipped fails the run,
except in the suite that needs a Juju controller.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

import pytest

# ops would import ops-tracing, which the charm leaves out before it imports ops.
sys.modules["ops_tracing"] = None

MAY_BE_SKIPPED = "tests/integration/juju/"

# The number of tests that an ordinary user cannot run: of this process, and the sum over xdist's workers.
NEED_ROOT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare options here, where pytest knows them for every path."""
    parser.addoption(
        "--pebble",
        choices=("scenario", "real", "root"),
        default="scenario",
        help="which Pebble the charm uses in tests/unit/charm: Scenario's, a real Pebble, or that as root",
    )
    parser.addoption(
        "--juju",
        choices=("3", "4", "each"),
        default="each",
        help="the release of Juju in tests/unit/charm: 3 (3.6), 4, or each test with its own of both",
    )
    parser.addoption(
        "--every-case",
        action="store_true",
        help="run every event in every situation: some minutes",
    )
    parser.addoption(
        "--points",
        type=int,
        default=1,
        help="at how many points of each verb `pooler` is killed (1); a few seconds each",
    )


def pytest_collection_finish() -> None:
    """Let Python look for garbage seldom, and never among the modules: that took a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 20)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what needs root for an ordinary user, before `-m` and `-k` select."""
    if os.geteuid() == 0:
        return
    need_root = [item for item in items if item.get_closest_marker("root")]
    config.stash[NEED_ROOT] = len(need_root)
    items[:] = [item for item in items if item not in need_root]
    config.hook.pytest_deselected(items=need_root)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object | None) -> None:
    """Take over the number that a worker of xdist counted: every worker collects all tests."""
    node.config.stash[NEED_ROOT] = getattr(node, "workeroutput", {}).get("need_root", 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print how many tests need root, and the command for them."""
    if count := config.stash.get(NEED_ROOT, 0):
        terminalreporter.write_line(f"{count} tests need root: run `make test-root` as root")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run if a test was skipped: it proves nothing."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["need_root"] = session.config.stash.get(NEED_ROOT, 0)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker of xdist: its controller counts
        return
    skipped = [
        report.nodeid
        for report in reporter.stats.get("skipped", ())
        if not report.nodeid.startswith(MAY_BE_SKIPPED)
    ]
    if skipped and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"FAILED, because {len(skipped)} were skipped: {', '.join(skipped)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
