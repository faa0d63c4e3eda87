"""What provokes each message of docs/errors.md: functions by the heading that explains the message."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from erring import said_by

from attacks.packets import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from erring import Client, Erring, Said

    Act = Callable[[Erring], Said]


class Provocation(NamedTuple):
    """A function that makes a client read an error."""

    heading: str
    # What stands in place of `…`, where the page lists that; '' otherwise.
    cause: str
    act: Act

    @property
    def name(self) -> str:
        """Return the name of the function in words."""
        return self.act.__name__.replace("_", " ")


PROVOCATIONS: list[Provocation] = []


def provokes(heading: str, cause: str = "") -> Callable[[Act], Act]:
    """Register a function that returns the error that this heading of the page explains."""

    def register(act: Act) -> Act:
        PROVOCATIONS.append(Provocation(heading, cause, act))
        return act

    return register


def error_of(client: Client, text: str) -> Said:
    """Return the error that a statement of a client ends with."""
    try:
        rows = client.ask(text)
    except Refused as refused:
        return said_by(refused)
    raise AssertionError(f"{text} has no error: {rows}")
