"""What is a value here? An immutable model that refuses fields it does not know."""

import re
from typing import Annotated

import pydantic

#: Connections, processes and the like: PgBouncer keeps numbers as C ints.
Count = Annotated[int, pydantic.Field(ge=0, le=2**31 - 1)]

#: What PgBouncer's parser takes as a key, and PostgreSQL as a name.
Name = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_.-]{1,63}$")]

#: What is read back from a line of a configuration as it was written.
Line = Annotated[
    str,
    pydantic.Field(pattern=r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?$"),
]


def _shown(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text[:900])


#: What an operator can read in a status, wherever it comes from.
Shown = Annotated[str, pydantic.AfterValidator(_shown)]


class Value(pydantic.BaseModel):
    """A frozen value; two with the same fields are the same.

    Schemas are built on first use: most hooks never touch most of the models.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", defer_build=True)


def number_of(unit: str) -> int:
    """The number of a unit, e.g. 3 of `pgbouncer/3`; 0 for a name that has none."""
    found = re.fullmatch(r"[^/]*/([0-9]{1,9})", unit)
    return int(found[1]) if found else 0
