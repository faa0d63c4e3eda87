"""A pytest plugin: the tests are collected once, and each mutant meets them in a process that is forked then.

mutmut itself begins pytest anew for each mutant, which takes longer than most mutants need to be noticed; and each
call of a function asks which mutant there is. Here a mutant has the code of its function in a process of its own.

First all tests run without a mutant: they have to pass, and what lines each of them runs is kept. A mutant meets
the quick tests that run its statement, first those that noticed its neighbours, until they have taken some
seconds. The slowest tests, which kill a hook at each of its effects, are left out.
"""

from __future__ import annotations

import ast
import collections
import contextlib
import functools
import gc
import importlib.util
import inspect
import itertools
import json
import math
import os
import pathlib
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator
from types import FunctionType, ModuleType

import coverage
import pytest

MUTANTS = pathlib.Path("mutants", "src")  #: where mutmut wrote them
LINES = "lines.coverage"  #: which test runs which line, as coverage.py keeps it
MEASURED = "measured.json"  #: of each test its seconds, and whether it fails
#: "0 app.reset.x_f__mutmut_4": 0 if it survives, and the test that notices it.
VERDICTS = "verdicts.txt"
QUICK = 0.9  #: the part of all tests that is called quick
NOTICED = 30  #: so many tests that noticed neighbours come first
PATIENCE = 10.0  #: seconds that the tests of a mutant take without it
MEMORY = 4 << 30  #: bytes of addresses: a mutant that collects without end fails

#: Seconds of a processor, and seconds, that a test may take with a mutant.
LIMITS = ((signal.ITIMER_PROF, 3.0, 10.0), (signal.ITIMER_REAL, 60.0, 20.0))


class Mutants:
    """The functions that mutmut wrote, and those in whose place they can be."""

    def __init__(self) -> None:
        self._pairs: dict[str, tuple[FunctionType, FunctionType, FunctionType]] = {}
        for path in sorted(MUTANTS.rglob("*.meta")):
            if json.loads(path.read_text())["exit_code_by_key"]:
                name = ".".join(path.relative_to(MUTANTS).with_suffix("").with_suffix("").parts)
                self._add(name.removesuffix(".__init__"), path.with_suffix(""))

    def _add(self, name: str, path: pathlib.Path) -> None:
        module = importlib.import_module(name)
        for known, functions in vars(_loaded(f"mutants.{name}", path)).items():
            if known.startswith("mutants_"):
                written = functions.pop("_mutmut_orig")
                function = _function(module, written)
                for mutant, changed in functions.items():
                    self._pairs[f"{name}.{mutant}"] = (function, written, changed)

    def names(self) -> list[str]:
        return list(self._pairs)

    def put(self, name: str) -> None:
        """The function is this mutant now, in the whole process."""
        function, written, mutant = self._pairs[name]
        function.__code__ = mutant.__code__
        # Unless they were changed, the defaults stay: others may be of a class that is there twice.
        if mutant.__defaults__ != written.__defaults__:
            function.__defaults__ = mutant.__defaults__
        if mutant.__kwdefaults__ != written.__kwdefaults__:
            function.__kwdefaults__ = mutant.__kwdefaults__

    def place(self, name: str) -> tuple[str, range]:
        """The file and the lines of the statement that it changes, or of the function if that is its first."""
        function, written, mutant = self._pairs[name]
        before, after = (inspect.getsource(one).splitlines()[1:] for one in (written, mutant))
        begin = function.__code__.co_firstlineno + 1
        first, last = _equal(before, after), len(before) - _equal(before[::-1], after[::-1])
        changed = range(begin + first, begin + max(last, first + 1))
        file, whole = function.__code__.co_filename, range(begin, begin + len(before))
        statement = _statement(file, changed)
        return file, statement if statement.start in whole else whole


class Tests:
    """The collected tests: what lines they run, how long they take, what they noticed."""

    def __init__(self, session: pytest.Session, mutants: Mutants) -> None:
        self._session = session
        self._mutants = mutants
        self._items = {item.nodeid: item for item in session.items}
        self._seconds: dict[str, float] = {}
        self._lines = coverage.CoverageData(LINES)
        self._noticed: dict[str, collections.Counter[str]] = collections.defaultdict(
            collections.Counter
        )

    def __str__(self) -> str:
        quick = [seconds for seconds in self._seconds.values() if seconds <= self._most]
        return (
            f"{len(quick)} of {len(self._seconds)} tests are quick: {sum(quick):.0f} s of a processor,"
            f" of {sum(self._seconds.values()):.0f} s"
        )

    @functools.cached_property
    def _most(self) -> float:
        """The seconds that a quick test takes at most."""
        return sorted(self._seconds.values())[int(QUICK * len(self._seconds)) - 1]

    def measure(self) -> str:
        """All tests run once, in a process of their own; '' or the names of those that fail."""
        file = pathlib.Path(MEASURED)
        if not file.exists():
            if not os.fork():
                with _ending():
                    file.write_text(json.dumps(self._measured()))
            if os.wait()[1]:
                return "the process that runs them all"
        measured = json.loads(file.read_text())
        self._seconds = {name: seconds for name, (seconds, _) in measured.items()}
        self._lines.read()
        return ", ".join(name for name, (_, failed) in measured.items() if failed)

    def _measured(self) -> dict[str, tuple[float, bool]]:
        measured = {}
        lines = coverage.Coverage(data_file=LINES, source=["src"], config_file=False)
        lines.start()
        for name, then in itertools.zip_longest(self._items, list(self._items)[1:]):
            lines.switch_context(name)
            begin = time.process_time()
            failed = self._fails(name, then)
            measured[name] = (time.process_time() - begin, failed)
        lines.stop()
        lines.save()
        return measured

    def of(self, mutant: str) -> list[str]:
        """The quick tests that can notice it, in their order."""
        file, lines = self._mutants.place(mutant)
        runs = _runs(self._lines, file)
        found = {name for line in lines for name in runs.get(line, ())}
        running = [name for name in found if self._seconds.get(name, math.inf) <= self._most]
        near, nearer = self._noticed[_module(mutant)], self._noticed[_stem(mutant)]
        likely = sorted(
            (name for name in running if name in near),
            key=lambda name: (near[name] + 10 * nearer[name]) / (self._seconds[name] + 0.01),
        )[-NOTICED:]
        others = sorted(set(running) - set(likely), key=self._seconds.__getitem__)
        names = [*reversed(likely), *others]
        ends = itertools.accumulate(self._seconds[name] for name in names)
        return [name for name, end in zip(names, ends, strict=True) if end <= PATIENCE]

    def begin(self, mutant: str) -> tuple[int, int]:
        """Its process, and where the name of the test that notices it will stand."""
        names = self.of(mutant)
        reading, writing = os.pipe()
        process = os.fork()
        if not process:
            with _ending():
                os.write(writing, self._noticing(mutant, names).encode())
        os.close(writing)
        return process, reading

    def _noticing(self, mutant: str, names: list[str]) -> str:
        self._mutants.put(mutant)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        for name, then in itertools.zip_longest(names, names[1:]):
            for timer, least, times in LIMITS:
                signal.setitimer(timer, least + times * self._seconds[name])
            if self._fails(name, then):
                return name
        return ""

    def noted(self, mutant: str, name: str) -> None:
        """Of this mutant, by the test of that name."""
        for neighbours in (_module(mutant), _stem(mutant)):
            self._noticed[neighbours][name] += 1

    def _fails(self, name: str, then: str | None) -> bool:
        before = self._session.testsfailed
        item = self._items[name]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=self._items.get(then or ""))
        return self._session.testsfailed > before


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Instead of pytest's own: the mutants, on every processor."""
    if session.testsfailed or not session.items:
        raise session.Interrupted("the tests were not collected")
    mutants = Mutants()
    tests = Tests(session, mutants)
    print(f"{len(session.items)} tests run without a mutant", flush=True)
    gc.collect()
    gc.freeze()  # the collector of a child would write to every page that it shares with its parent
    if failed := tests.measure():
        raise session.Failed(f"without a mutant there fail: {failed}")
    print(tests, flush=True)
    here = pathlib.Path()
    known = verdicts(here)
    names = [name for name in mutants.names() if name not in known]
    random.shuffle(names)  # what has met the tests until now tells what all will show
    survivors, done, running = 0, 0, {}
    with (here / VERDICTS).open("a") as file:
        while names or running:
            while names and len(running) < len(os.sched_getaffinity(0)):
                name = names.pop(0)
                process, reading = tests.begin(name)
                running[process] = (name, reading)
            process, status = os.wait()
            name, reading = running.pop(process)
            with open(reading, "rb") as result:
                noticing = result.read().decode()
            if noticing:
                tests.noted(name, noticing)
            survives = status == 0 and not noticing
            survivors, done = survivors + survives, done + 1
            print(int(not survives), name, noticing or status, file=file, flush=True)
            most = done + len(running) + len(names)
            print(f"{done} of {most} mutants, {survivors} survive", flush=True)
    return True


def verdicts(folder: pathlib.Path) -> dict[str, bool]:
    """Of each mutant that has met the tests, whether it survived; its last meeting counts."""
    lines = (folder / VERDICTS).read_text().splitlines() if (folder / VERDICTS).exists() else []
    return {line.split(" ")[1]: line.startswith("0 ") for line in lines}


def _loaded(name: str, path: pathlib.Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    # dataclasses and pydantic look for the names of annotations there.
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _function(module: ModuleType, written: FunctionType) -> FunctionType:
    """The function of this module that mutmut wrote down, below another name, to change it."""
    owner: object = module
    for part in written.__qualname__.split(".")[:-1]:
        owner = getattr(owner, part)
    stem = _stem(written.__name__)
    name = stem.rpartition("ǁ")[2] if "ǁ" in stem else stem.removeprefix("x_")
    return inspect.unwrap(getattr(owner, name))


@functools.cache
def _runs(lines: coverage.CoverageData, file: str) -> dict[int, list[str]]:
    """Of each line of a file, the tests that run it."""
    return lines.contexts_by_lineno(file)


@functools.cache
def _statements(file: str) -> list[range]:
    """The lines of each statement, the shortest first; of one with a body, those before it."""
    tree = ast.parse(pathlib.Path(file).read_text())
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            end = body[0].lineno if body else (node.end_lineno or node.lineno) + 1
            found.append(range(node.lineno, max(end, node.lineno + 1)))
    return sorted(found, key=len)


def _statement(file: str, lines: range) -> range:
    """The statement with these lines, or the lines."""
    for found in _statements(file):
        if found.start <= lines.start and lines.stop <= found.stop:
            return found
    return lines


def _equal(lines: list[str], others: list[str]) -> int:
    """How many of the first lines are the same."""
    pairs = zip(lines, others, strict=False)
    return len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))


def _stem(mutant: str) -> str:
    return mutant.partition("__mutmut_")[0]


def _module(mutant: str) -> str:
    return mutant.rpartition(".")[0]


@contextlib.contextmanager
def _ending() -> Iterator[None]:
    """A process that was forked ends here, whatever happens, and says nothing."""
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        yield
        status = 0
    finally:
        os._exit(status)
