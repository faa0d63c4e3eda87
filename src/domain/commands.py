"""Write a parameter of an action as an operator types it into a shell."""

import re
import shlex

# A word that YAML reads as a text, unless it is one of the words below in some case.
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_/-]*")
_NO_TEXT = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))

# What a shell leaves as it is between double quotes.
_SAFE = re.compile(r"[A-Za-z0-9_.:/ '-]*")


def argument(name: str, value: object) -> str:
    """Return `name=value` for `juju run`, which reads a value as YAML: the database 2024 needs quotes in it."""
    if not isinstance(value, str):
        return f"{name}={str(value).lower()}"
    if _WORD.fullmatch(value) and value.lower() not in _NO_TEXT:
        return f"{name}={value}"
    quoted = "'" + value.replace("'", "''") + "'"
    return f'{name}="{quoted}"' if _SAFE.fullmatch(value) else shlex.quote(f"{name}={quoted}")
