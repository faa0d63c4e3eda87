"""Does a test fail whenever the code is wrong? mutmut changes domain and app in thousands of places, one by one.

mutmut writes the mutants, and forked.py lets them meet the quick tests. What no test notices survives. Of some
survivors survivors.toml says why that is no hole, and another wording of a sentence is none. Of all others 95 %
have to be noticed. Those that are not are written down: a new one is a test that is missing.

mutmut leaves alone what is decorated (properties, validators), what is outside of functions, and the
dashboard, which tests with a real Prometheus read.
"""

from __future__ import annotations

import ast
import collections
import difflib
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

import forked
from suites import ROOT, Found

from columns import columns

LEAST = 0.95
LISTED = pathlib.Path(__file__).with_name("survivors.toml")
SURVIVORS = ROOT / "build" / "survivors.toml"
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

TESTS = ("tests/unit/domain", "tests/unit/app")

#: mutmut's first step alone: beside each module of a copy, a file with the names of its mutants.
WRITE = """
import os, pathlib
from mutmut import __main__ as mutmut
pathlib.Path("mutants").mkdir()
mutmut.copy_src_dir()
mutmut.create_mutants(os.cpu_count())
"""

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
            say("mutmut writes the mutants")
            if failure := _output(copy, ("-c", WRITE), say):
                return Found(0, (failure,))
            meet = ("-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-p", "forked", *TESTS)
            if failure := _output(copy, meet, say):
                return Found(0, (failure,))
            return _judged(copy)


def _output(folder: pathlib.Path, command: tuple[str, ...], say: Callable[[str], None]) -> str:
    """`say` is told how far a Python program is; '' or why it failed."""
    places = (str(pathlib.Path(__file__).parent), "src", "tests", "tests/unit")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(places),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MUTANT_UNDER_TEST": "",
    }
    with subprocess.Popen(
        (sys.executable, *command),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as running:
        output = []
        for line in running.stdout or ():
            output.append(line)
            if " mutants, " in line:
                say(line.strip())
    return (
        f"{' '.join(command[:2])} ended with {running.returncode}: {''.join(output[-20:])}"
        if running.returncode
        else ""
    )


def _judged(copy: pathlib.Path) -> Found:
    known, verdicts = _listed(), forked.verdicts(copy)
    found = list(_changes(copy, {name for name, survives in verdicts.items() if survives}))
    survivors = sorted(one for one in found if one not in known)
    total, noticed = len(verdicts), len(verdicts) - sum(verdicts.values())
    score = noticed / (noticed + len(survivors)) if total else 0.0
    text = (
        f"{noticed:,} of {total:,} mutants are noticed: {score:.1%} without other wordings, and"
        f" without {len(found) - len(survivors)} that {LISTED.name} lists"
    )
    notes = [text, *_where(survivors)]
    if survivors:
        SURVIVORS.parent.mkdir(exist_ok=True)
        SURVIVORS.write_text(_as_toml(survivors))
        notes.append(f"All {len(survivors)} others, as lines for {LISTED.name}: {SURVIVORS}")
    functions = {function for function, _ in known}
    met = {name for name in verdicts if not verdicts[name] and _function(name) in functions}
    if gone := sorted(known.intersection(_changes(copy, met)).difference(found)):
        notes.append(f"{LISTED.name} lists {len(gone)} that are noticed:\n{_as_toml(gone)}")
    failures = () if score >= LEAST else (f"{text}, and {LEAST:.0%} have to be",)
    return Found(total, failures, notes=tuple(notes))


def _where(survivors: list[Survivor]) -> Iterator[str]:
    """The functions with most survivors."""
    counts = collections.Counter(function for function, _ in survivors)
    return columns([(name, str(count)) for name, count in counts.most_common(20)], numbers=(1,))


def _listed() -> set[Survivor]:
    return {
        (function, line)
        for functions in tomllib.loads(LISTED.read_text()).values()
        for function, lines in functions.items()
        for line in lines
    }


def _changes(copy: pathlib.Path, mutants: set[str]) -> Iterator[Survivor]:
    """What these mutants change, except another wording."""
    texts: dict[str, dict[str, list[str]]] = {}
    for name in sorted(mutants):
        module, _, mutant = name.rpartition(".")
        functions = texts.get(module) or texts.setdefault(module, _functions(copy, module))
        written = functions[f"{mutant.partition('__mutmut_')[0]}__mutmut_orig"]
        gone, added = _changed(written, functions[mutant])
        if not _is_wording(gone, added):
            yield _function(name), _replacement(gone, added)


def _functions(copy: pathlib.Path, module: str) -> dict[str, list[str]]:
    """The lines of each function that mutmut wrote, without its name."""
    place = copy / forked.MUTANTS / module.replace(".", "/")
    text = (place / "__init__.py" if place.is_dir() else place.with_suffix(".py")).read_text()
    lines = text.splitlines()
    return {
        node.name: [
            line.replace(node.name, "") for line in lines[node.lineno - 1 : node.end_lineno]
        ]
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    }


def _function(name: str) -> str:
    """What mutmut calls `app.hooks.pause.xǁPauseǁ_paused__mutmut_4`, as Python would."""
    module, _, mangled = name.rpartition(".")
    parts = mangled.rpartition("__mutmut_")[0].removeprefix("x").strip("ǁ").split("ǁ")
    return ".".join((module, *(parts if len(parts) > 1 else [parts[0].removeprefix("_")])))


def _changed(written: list[str], mutant: list[str]) -> tuple[list[str], list[str]]:
    """The lines that are gone, and those in their place."""
    lines = list(difflib.ndiff(written, mutant))
    gone = [line[2:].strip() for line in lines if line.startswith("- ")]
    return gone, [line[2:].strip() for line in lines if line.startswith("+ ")]


def _is_wording(gone: list[str], added: list[str]) -> bool:
    """Whether only letters of a sentence are other letters: mutmut adds XX, or changes the case."""
    before, after = " ".join(gone), " ".join(added)
    sentence = re.search(r"[\"'][^\"']*[A-Za-z]+ [A-Za-z]+ [A-Za-z]+", before)
    return bool(sentence) and before.casefold() == after.replace("XX", "").casefold()


def _replacement(gone: list[str], added: list[str]) -> str:
    """The changed lines, as one."""
    # Where a line is left out, what closes it may be put elsewhere.
    return (
        " ".join(added)
        if any(one.strip("()[]{},") for one in added)
        else f"without {' '.join(gone)}"
    )


def _as_toml(survivors: list[Survivor]) -> str:
    functions: dict[str, list[str]] = {}
    for function, line in survivors:
        functions.setdefault(function, []).append(line)
    return "\n".join(
        f"{json.dumps(function)} = {json.dumps(lines, ensure_ascii=False, indent=4)}"
        for function, lines in functions.items()
    )
