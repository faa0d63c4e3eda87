"""What the status of a unit shows: levels, sentences, problems, and kinds of sentences."""

import enum
import re
from typing import Annotated, NamedTuple

import pydantic

from domain.value import Shown, Value

# The topics of problems with Kubernetes, which do not depend on PostgreSQL.
SERVICE, TRUST = "service", "trust"
KUBERNETES = (SERVICE, TRUST)

# The topic of what keeps PgBouncer's own users from getting new passwords.
ROTATION = "rotation"

# The topic of a pause that was taken back.
PAUSE = "pause"

# The topic of a refresh that may wait for a unit.
REFRESH = "refresh"


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

    # `database`, `service`, `trust`, `pooler`, or `client:<username>`. A newer problem replaces an older problem
    # with its topic.
    topic: str
    level: Annotated[Level, pydantic.BeforeValidator(_known_level)]
    text: Shown
    # The hook had no time left to try; another hook follows soon.
    untried: bool = False


class Kind(NamedTuple):
    """A sentence of the status with fields in braces, such as `PgBouncer process {index} does not answer`.

    In the sentence of an error that an adapter composes, `…` stands for what the adapter writes.
    """

    level: Level
    pattern: str
    # What an operator does about it, for docs/reference.md.
    cure: str

    def text(self, **values: object) -> str:
        """Return the sentence with these values in its fields."""
        return self.pattern.format(**values)

    def sentence(self, **values: object) -> Sentence:
        """Return the sentence with its level."""
        return Sentence(level=self.level, text=self.text(**values))

    def problem(self, topic: str, **values: object) -> Problem:
        """Return a problem of this kind."""
        return Problem(topic=topic, level=self.level, text=self.text(**values))

    def matches(self, text: str) -> bool:
        """Return whether a text is a sentence of this kind."""
        parts = re.split(r"\{\w+\}|…", self.pattern)
        return re.fullmatch(".+".join(map(re.escape, parts)), text, re.DOTALL) is not None
