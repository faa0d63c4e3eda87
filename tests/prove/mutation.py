"""Does a test fail whenever the code is wrong? mutmut changes domain and app in thousands of places, one by one.

What no test notices survives. Each survivor stands in survivors.toml, below the reason why that is no
hole; one that does not is a failure, and so is a score below 90 %. Another wording of a sentence is no failure.

mutmut leaves alone what is decorated (properties, validators), what is outside of functions, and the
dashboard, which tests with a real Prometheus read.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator

from suites import ROOT, Found

LEAST = 0.9
LISTED = pathlib.Path(__file__).with_name("survivors.toml")
COPIED = (
    "src",
    "tests",
    "docs",
    "templates",
    "pyproject.toml",
    "actions.yaml",
    "charmcraft.yaml",
    "config.yaml",
    "metadata.yaml",
)

Survivor = tuple[str, str]  #: a function, and the lines that are in the place of others


class Mutation:
    """The mutants of domain and app, and the core's tests."""

    def run(self, say: Callable[[str], None]) -> Found:
        """All of them; `say` is told how far it is."""
        with tempfile.TemporaryDirectory(prefix="prove-mutants-") as folder:
            copy = pathlib.Path(folder)
            for name in COPIED:
                place = ROOT / name
                (shutil.copytree if place.is_dir() else shutil.copy)(place, copy / name)
            if failure := _mutate(copy, say):
                return Found(0, (failure,))
            return _judged(copy)


def _mutate(copy: pathlib.Path, say: Callable[[str], None]) -> str:
    """All mutants have met the tests; '' or why not."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(os.cpu_count() or 1)]
    with subprocess.Popen(
        command,
        cwd=copy,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as running:
        output = []
        for line in running.stdout or ():  # universal newlines: each turn of its spinner is a line
            output.append(line)
            if far := re.search(r"(\d+)/(\d+) .*?🙁 (\d+)", line):
                say(f"{far[1]} of {far[2]} mutants, {far[3]} survive")
    return (
        f"mutmut ended with {running.returncode}: {''.join(output[-20:])}"
        if running.returncode
        else ""
    )


def _judged(copy: pathlib.Path) -> Found:
    _mutmut(copy, "export-cicd-stats")
    stats = json.loads((copy / "mutants" / "mutmut-cicd-stats.json").read_text())
    total, killed = stats["total"], stats["killed"] + stats["timeout"]
    known = {
        (function, line): why
        for why, functions in tomllib.loads(LISTED.read_text()).items()
        for function, lines in functions.items()
        for line in lines
    }
    survivors = sorted(_survivors(copy))
    unlisted = [one for one in survivors if one not in known]
    score = killed / total if total else 0.0
    failures = [f"{function}: {line}" for function, line in unlisted]
    if score < LEAST:
        failures.append(f"only {score:.1%} of the mutants are noticed, {LEAST:.0%} have to be")
    notes = [f"{killed} of {total} mutants are noticed: {score:.1%}; {len(survivors)} survive"]
    if unlisted:
        notes.append(f"as lines for {LISTED.name}:\n{_as_toml(unlisted)}")
    if gone := sorted(known.keys() - set(survivors)):
        notes.append(
            f"{LISTED.name} names {len(gone)} that do not survive any more:\n{_as_toml(gone)}"
        )
    return Found(total, tuple(failures), notes=tuple(notes))


def _survivors(copy: pathlib.Path) -> Iterator[Survivor]:
    for line in _mutmut(copy, "results").splitlines():
        name, _, verdict = line.strip().partition(": ")
        if verdict and verdict not in {"killed", "timeout"}:
            diff = _mutmut(copy, "show", name)
            if not _is_wording(diff):
                yield _function(name), _replacement(diff)


def _function(name: str) -> str:
    """What mutmut calls `app.hooks.pause.xǁPauseǁ_paused__mutmut_4`, as Python would."""
    module, _, mangled = name.rpartition(".")
    parts = mangled.rpartition("__mutmut_")[0].removeprefix("x").strip("ǁ").split("ǁ")
    return ".".join((module, *(parts if len(parts) > 1 else [parts[0].removeprefix("_")])))


def _changed(diff: str) -> tuple[list[str], list[str]]:
    """The lines that are gone, and those in their place."""
    lines = diff.splitlines()
    gone = [line[1:].strip() for line in lines if re.match(r"-(?!--)", line)]
    added = [line[1:].strip() for line in lines if re.match(r"\+(?!\+\+)", line)]
    return gone, added


def _is_wording(diff: str) -> bool:
    """Whether only letters of a sentence are other letters: mutmut adds XX, or changes the case."""
    gone, added = (" ".join(lines) for lines in _changed(diff))
    sentence = re.search(r"[\"'][^\"']*[A-Za-z]+ [A-Za-z]+ [A-Za-z]+", gone)
    return bool(sentence) and gone.casefold() == added.replace("XX", "").casefold()


def _replacement(diff: str) -> str:
    """The changed lines, as one."""
    gone, added = _changed(diff)
    # Where a line is left out, what closes it may be put elsewhere.
    return (
        " ".join(added)
        if any(one.strip("()[]{},") for one in added)
        else f"without {' '.join(gone)}"
    )


def _mutmut(copy: pathlib.Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments],
        cwd=copy,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def _as_toml(survivors: list[Survivor]) -> str:
    functions: dict[str, list[str]] = {}
    for function, line in survivors:
        functions.setdefault(function, []).append(line)
    return "\n".join(
        f"{json.dumps(function)} = {json.dumps(lines, ensure_ascii=False, indent=4)}"
        for function, lines in functions.items()
    )
