"""Parse the values on the command line of `pooler`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from domain import sentences
from domain.endpoints import Endpoint, endpoints_in
from domain.settings import settings_from

MOST_UNITS = 20


class CommandError(Exception):
    """The command failed; the text says what is wrong and what to do next."""


class UsageError(CommandError):
    """The arguments of the command are not valid; the text says which, and what is valid."""


def options(known: Mapping[str, object], settings: Sequence[str]) -> dict[str, object]:
    """Return the known options with the changes in `settings`, each KEY=VALUE. Raises UsageError."""
    wanted = dict(known)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(
                f"{setting[:60]!r} is no KEY=VALUE: write an option as pool_mode=session"
            )
        wanted[key] = _typed(value)
    _, problems = settings_from(wanted)
    if problems:
        raise UsageError("; ".join(problems))
    return wanted


def _typed(value: str) -> object:
    """Return the value in the type that Juju would give it: int, bool or str."""
    if value in ("true", "false"):
        return value == "true"
    return int(value) if re.fullmatch(r"-?[0-9]{1,12}", value) else value


def endpoints(text: str | None) -> tuple[Endpoint, ...] | None:
    """Return the endpoints in a list `host:port,…`; None without a list. Raises UsageError."""
    try:
        return None if text is None else endpoints_in(text)
    except ValueError as error:
        raise UsageError(f"--read-only-endpoints: {error}") from None


def check_units(count: int, known: Mapping[str, object]) -> None:
    """Raise UsageError if there cannot be this number of units with these options."""
    if not 1 <= count <= MOST_UNITS:
        raise UsageError(f"{count} units are not possible: choose 1 to {MOST_UNITS}")
    settings, _ = settings_from(known)
    if settings and 0 < settings.max_db_connections < count:
        # Each unit needs a connection.
        raise UsageError(
            sentences.TOO_FEW_CONNECTIONS.text(total=settings.max_db_connections, units=count)
        )
