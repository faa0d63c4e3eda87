"""The problems that the status of a unit shows: their levels and their sentences."""

import enum
from typing import Annotated

import pydantic

from domain.value import Shown, Value


class Level(enum.StrEnum):
    """How bad a problem is. Blocked: an operator has to act. Waiting: another party has to act."""

    BLOCKED = "blocked"
    WAITING = "waiting"
    ACTIVE = "active"


class Sentence(Value):
    """A sentence of the status that is true now."""

    level: Level
    text: str = ""


def _known_level(value: object) -> object:
    # A later release may know other levels.
    return value if value in tuple(Level) else Level.BLOCKED


class Problem(Value):
    """A failure outside of the charm, which the status shows until it is repaired.

    A level that this release does not know is read as blocked.
    """

    # `database`, `service`, `pooler`, or `client:<username>`. A newer problem replaces an older problem
    # with its topic.
    topic: str
    level: Annotated[Level, pydantic.BeforeValidator(_known_level)]
    text: Shown
    # The hook had no time left to try; another hook follows soon.
    untried: bool = False
