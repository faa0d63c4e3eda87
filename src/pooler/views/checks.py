"""The view of `pooler doctor`: what was checked, what is wrong, and what to do."""

from __future__ import annotations

from typing import Literal

from domain.value import Value

Group = Literal["machine", "PostgreSQL", "units", "applications"]
Verdict = Literal["ok", "warning", "failure"]


class Check(Value):
    """The result of a check."""

    group: Group
    # A word that names the check for a program, e.g. `disk`.
    name: str
    level: Verdict
    text: str
    # The command that helps; '' if nothing is wrong, or if the text says what helps.
    command: str = ""
    # The page of the documentation that explains it.
    page: str = ""


class Doctor(Value):
    """Everything that `pooler doctor` shows."""

    # Whether no check failed: the exit code is 0.
    ok: bool
    checks: tuple[Check, ...]
