"""Parse the parameters of actions. A value that is not valid raises ActionFailed with a sentence."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from app.errors import ActionFailed

Parameters = Mapping[str, object]

# How much of a value an operator is shown.
_SHOWN = 63


def check(parameters: Parameters, known: Collection[str]) -> None:
    """Raise ActionFailed if there is a parameter of another name."""
    for name in parameters:
        if name not in known:
            listed = ", ".join(sorted(known)) or "none"
            raise ActionFailed(f"there is no parameter {name[:_SHOWN]!a}: the action has {listed}")


def text(parameters: Parameters, name: str) -> str:
    """Return a text, in a single line that shows; '' if it is missing.

    An empty text is refused. It is often a shell variable without a value, and without the parameter an
    action concerns every database or client.
    """
    if name not in parameters:
        return ""
    value = parameters[name]
    # Juju passes the database `2024` as a number.
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ActionFailed(f"parameter {name} is a text, not {_shown(value)}")
    if not value:
        raise ActionFailed(f"parameter {name} is empty: give a name, or leave {name} out")
    if len(value) > _SHOWN or not value.isprintable() or value != value.strip():
        raise ActionFailed(
            f"parameter {name} is a name of at most {_SHOWN} letters that show, not {_shown(value)}"
        )
    return value


def required(parameters: Parameters, name: str) -> str:
    """Return a text that must be given."""
    if not (value := text(parameters, name)):
        raise ActionFailed(f"parameter {name} is missing: add `{name}=…`")
    return value


def number(parameters: Parameters, name: str, least: int, most: int, default: int) -> int:
    """Return a whole number between two limits; `default` if it is missing."""
    if name not in parameters:
        return default
    value = parameters[name]
    if isinstance(value, str) and re.fullmatch("[0-9]{1,10}", value):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ActionFailed(
            f"parameter {name} is a whole number from {least} to {most}, not {_shown(value)}"
        )
    return value


def flag(parameters: Parameters, name: str) -> bool:
    """Return whether a parameter is true; False if it is missing."""
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise ActionFailed(f"parameter {name} is true or false, not {_shown(value)}")
    return value


def _shown(value: object) -> str:
    return ascii(value)[:_SHOWN]
