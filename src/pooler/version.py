"""The version of the project."""

from __future__ import annotations

import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]


def version() -> str:
    """Return the version in pyproject.toml, and the commit if this is a clone of the repository."""
    commit = _commit()
    return f"{number()} (commit {commit})" if commit else number()


def number() -> str:
    """Return the version in pyproject.toml, such as `0.1.0`."""
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
    return found[1] if found else "unknown"


def _commit() -> str:
    """Return the short name of the commit; '' if git does not know it."""
    import subprocess

    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
