"""What holds for every suite: nothing is skipped in silence.

`-ra` prints each test that did not run, with its reason. Only the suite that needs a Juju controller may
be left out; any other that did not run fails the whole.
"""

from __future__ import annotations

import pytest

MAY_BE_SKIPPED = "tests/integration/juju/"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Here, where they are known whatever is collected."""
    parser.addoption(
        "--pebble",
        choices=("scenario", "real"),
        default="scenario",
        help="what answers the charm in tests/unit/charm: Scenario's Pebble, or a real one, as root",
    )
    parser.addoption(
        "--every-case",
        action="store_true",
        help="try every event in every situation, also where that takes long: some minutes",
    )
    parser.addoption(
        "--points",
        type=int,
        default=1,
        help="at how many points of each verb `pooler` is killed (1); a few seconds each",
    )


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A test that did not run proves nothing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker, whose controller counts
        return
    left_out = [
        report.nodeid
        for report in reporter.stats.get("skipped", ())
        if not report.nodeid.startswith(MAY_BE_SKIPPED)
    ]
    if left_out and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"FAILED, because {len(left_out)} did not run: {', '.join(left_out)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
