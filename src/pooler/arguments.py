"""Parse the values on the command line of `pooler`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from domain import sentences
from domain.endpoints import Endpoint, endpoints_in
from domain.settings import ACCEPTS, settings_from
from pooler.commandline.suggest import SHOWN, did_you_mean

MOST_UNITS = 20


class CommandError(Exception):
    """The command failed; the text says what is wrong and what to do next."""


class UsageError(CommandError):
    """The arguments of the command are not valid; the text says which, and what is valid."""


def options(
    known: Mapping[str, object], settings: Sequence[str], reset: Sequence[str] = ()
) -> dict[str, object]:
    """Return the known options with the changes in `settings`, each KEY=VALUE, and without `reset`.

    Raises UsageError.
    """
    wanted = dict(known)
    for name in reset:
        # An option that another release has stored is not in ACCEPTS.
        if name not in wanted:
            check_option(name)
        wanted.pop(name, None)
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(
                f"{setting[:SHOWN]!r} is no KEY=VALUE: write an option as pool_mode=session"
            )
        check_option(key)
        if key in reset:
            raise UsageError(f"{key} is set and reset: leave out `{key}=` or `--reset {key}`")
        wanted[key] = _typed(value)
    _, problems = settings_from(wanted)
    if problems:
        raise UsageError("; ".join(problems))
    return wanted


def check_option(name: str) -> None:
    """Raise UsageError if there is no option of this name."""
    if name not in ACCEPTS:
        shown = name if re.fullmatch(r"[\w-]{1,60}", name) else ascii(name[:SHOWN])
        meant = did_you_mean(name, ACCEPTS)
        raise UsageError(f"unknown option {shown}{meant or f': {choices(ACCEPTS)}'}")


def choices(names: Iterable[str]) -> str:
    """Return the names that exist, as the end of a sentence."""
    return f"choose from {', '.join(names)}"


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
