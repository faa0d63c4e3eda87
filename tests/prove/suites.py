"""Proofs that are tests: run by pytest, for longer than `make test` does."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping

ROOT = pathlib.Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Found:
    """What a proof came to."""

    cases: int
    failures: tuple[str, ...]  #: each as a line
    skipped: tuple[str, ...] = ()  #: likewise, with the reason
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Suite:
    """Tests that pytest runs, with what makes them thorough."""

    tests: tuple[str, ...]
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    workers: str = "0"  #: as `pytest -n` takes it: for tests that keep out of each other's way

    def run(self, say: Callable[[str], None]) -> Found:
        """All of it; `say` is told how far it is."""
        with tempfile.TemporaryDirectory(prefix="prove-") as folder:
            report = pathlib.Path(folder, "junit.xml")
            command = [
                sys.executable, "-m", "pytest", "-v", "--color=no", f"--junitxml={report}",
                "-n", self.workers, *self.options, *self.tests,
            ]  # fmt: skip
            environment = {**os.environ, **self.environment}
            with subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                errors="replace",
            ) as running:
                output = [self._heard(line, say) for line in running.stdout or ()]
            if not report.exists():
                return Found(
                    0, (f"pytest ended with {running.returncode}: {''.join(output[-20:])}",)
                )
            return _read(report, "".join(output))

    def _heard(self, line: str, say: Callable[[str], None]) -> str:
        if far := re.search(r"\[ *(\d+)%\]", line):
            say(f"{far[1]} % of {', '.join(self.tests)}")
        return line


def _read(report: pathlib.Path, output: str) -> Found:
    cases = ET.parse(report).getroot().findall(".//testcase")
    failed = tuple(_name(case) for case in cases if _child(case, "failure", "error") is not None)
    skipped = tuple(
        f"{_name(case)}: {why.get('message')}"
        for case in cases
        if (why := _child(case, "skipped")) is not None
    )
    # What Hypothesis says to repeat a failure, and whatever else stands in the log of a test.
    notes = (output[-6000:],) if failed else ()
    return Found(len(cases), failed, skipped, notes)


def _child(case: ET.Element, *names: str) -> ET.Element | None:
    return next((found for name in names if (found := case.find(name)) is not None), None)


def _name(case: ET.Element) -> str:
    return f"{case.get('classname')}::{case.get('name')}"
