"""Each path of the specification with the tests that prove it; fails if one has none.

python tests/flows.py
"""

import ast
import pathlib
import re
import sys
from collections import defaultdict

HERE = pathlib.Path(__file__).parent
LEVELS = {"use case": HERE / "unit" / "app", "charm": HERE / "unit" / "charm"}


def rows() -> dict[str, str]:
    """Each row's name and what it says."""
    found = re.findall(
        r"^\| (\w+/\d+) \| (.+?) \| (.+?) \|$", (HERE / "flows.md").read_text(), re.MULTILINE
    )
    return {name: f"{given} → {then}" for name, given, then in found}


def proofs(folder: pathlib.Path) -> dict[str, list[str]]:
    """The tests of each row, by the marker `flow`."""
    found: dict[str, list[str]] = defaultdict(list)
    for file in sorted(folder.glob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                for row in _marked(node):
                    found[row].append(f"{file.name}::{node.name}")
    return found


def _marked(test: ast.FunctionDef) -> list[str]:
    return [
        argument.value
        for mark in test.decorator_list
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.flow"
        for argument in mark.args
        if isinstance(argument, ast.Constant)
    ]


def main() -> int:
    known, missing = rows(), []
    found = {level: proofs(folder) for level, folder in LEVELS.items()}
    for row, text in known.items():
        print(f"{row}: {text}")
        for level, tests in found.items():
            for test in tests.get(row, ()):
                print(f"    {level}: {test}")
            if row not in tests:
                missing.append(f"{row} ({level})")
    unknown = sorted({row for tests in found.values() for row in tests} - known.keys())
    for name, what in (("without a proof", missing), ("not in flows.md", unknown)):
        if what:
            print(f"\n{name}: {', '.join(what)}")
    print(f"\n{len(known)} rows, each at {len(LEVELS)} levels" if not missing else "")
    return 1 if missing or unknown else 0


if __name__ == "__main__":
    sys.exit(main())
