"""The part of the action rotate-credentials that gives client users new passwords."""

import dataclasses
from typing import Protocol

from domain.facts import Facts


class RotatesClients(Protocol):
    """Begins a rotation of client users."""

    def __call__(self, facts: Facts, application: str) -> tuple[Facts, tuple[str, ...]]:
        """Begin the rotation for an application, or for all with ''.

        Returns the facts after that, and a sentence for the operator for each thing that was begun. Raises
        ActionFailed.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class RotateClients:
    """Gives client users new passwords."""

    def __call__(self, facts: Facts, application: str) -> tuple[Facts, tuple[str, ...]]:
        """Return the facts, and that no client user is rotated."""
        return facts, ()
