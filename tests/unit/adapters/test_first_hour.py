"""What a new user meets: no message that leads to a deletion, Linux alone, and a single test by a command."""

import ast
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from pooler.cli import main

ROOT = pathlib.Path(__file__).parents[3]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
# A command in backticks that deletes data.
DELETION = re.compile(r"`[^`]*(?:--delete|--abandon|\brm -)[^`]*`")
# A message to a user who has just asked for a deletion, or wrote an option of it.
ASKED_FOR = {
    "down.py": {
        "`pooler down --abandon`",
        "`--delete`",
        "`--abandon`",
    }
}


def messages(path):
    """Yield the texts of a module, and the line of each. Comments and docstrings are no messages."""
    tree = ast.parse(path.read_text())
    documentation = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and ast.get_docstring(node)
    }
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and node not in documentation:
            yield node.lineno, text


def test_no_message_tells_a_user_to_run_a_command_that_deletes_data():
    found = {
        f"{path.name}:{line}: {command}"
        for path in SOURCES
        for line, text in messages(path)
        for command in DELETION.findall(text)
        if command not in ASKED_FOR.get(path.name, ())
    }
    assert found == set()


@pytest.mark.parametrize("verb", ["up", "status", "doctor"])
def test_a_machine_without_linux_is_named_before_anything_changes(
    verb, tmp_path, monkeypatch, capsys
):
    here = os.uname()
    monkeypatch.setattr("os.uname", lambda: os.uname_result(("Darwin", *here[1:])))
    monkeypatch.setenv("POOLER_HOME", str(tmp_path / "home"))
    assert main([verb]) == 1
    assert "Darwin is not supported: run `pooler` on Linux" in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("path", "environment"),
    [
        ("tests/unit/domain/test_users.py", "core"),
        ("tests/unit/app/test_start.py::test_name", "core"),
        ("tests/unit/charm", "unit"),
        ("tests/integration/faults/test_deaths.py", "integration"),
        ("tests/pages/test_pages.py", "pages"),
        ("tests/pack", "packed"),
    ],
)
def test_a_single_test_runs_in_the_environment_of_its_directory(path, environment):
    done = subprocess.run(
        [shutil.which("make"), "--dry-run", "one", f"T={path}", "A=-x"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"-e {environment} -- pytest -q {path} -x" in done.stdout
