"""What an attack is: a function that does it, and raises NotHeld with what happened if it succeeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from stage import Stage

Severity = Literal["critical", "high", "medium", "low"]
FAILING = ("critical", "high")  #: severities that fail the run with the PgBouncer we recommend

MARK = "attack"


class NotHeld(Exception):
    """The attack succeeded; the text says what happened."""


class NotRun(Exception):
    """The attack cannot be tried on this machine; the text says why."""


@dataclasses.dataclass(frozen=True)
class Attack:
    """A row of the table, before it was tried."""

    row: str  #: its number, with a letter where several tests belong to it
    title: str
    severity: Severity
    run: Callable[[Stage], str | None]
    #: What the product needs before the attack can hold; while it lacks that, the run does not fail.
    awaits: str = ""


def attack(
    row: str, title: str, severity: Severity, *, awaits: str = ""
) -> Callable[[Callable[[Stage], str | None]], Callable[[Stage], str | None]]:
    """Mark a function as an attack. It may return a note, such as what was measured."""

    def mark(run: Callable[[Stage], str | None]) -> Callable[[Stage], str | None]:
        setattr(run, MARK, Attack(row, title, severity, run, awaits))
        return run

    return mark


def attacks_in(*modules: ModuleType) -> list[Attack]:
    """The attacks of these modules in the order of their definitions."""
    return [
        getattr(value, MARK)
        for module in modules
        for value in vars(module).values()
        if hasattr(value, MARK) and value.__module__ == module.__name__
    ]


def hold(condition: object, otherwise: str) -> None:
    """Raises NotHeld with `otherwise` unless the condition is true."""
    if not condition:
        raise NotHeld(otherwise)
