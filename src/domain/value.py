"""Frozen models that refuse unknown fields, and types that several of them share."""

import hashlib
import json
import re
from typing import Annotated, Literal

import pydantic
from pydantic.fields import FieldInfo

PoolMode = Literal["session", "transaction", "statement"]

# A number of connections, processes and the like: PgBouncer keeps numbers as C ints.
Count = Annotated[int, pydantic.Field(ge=0, le=2**31 - 1)]

# A text that PgBouncer's parser takes as a key, and PostgreSQL as a name.
Name = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_.-]{1,63}$")]

# A text that PgBouncer reads back from a line of a configuration as it was written.
Line = Annotated[
    str,
    pydantic.Field(pattern=r"^[^\x00-\x20\x7f]([^\x00-\x1f\x7f]*[^\x00-\x20\x7f])?$"),
]

# `Line | Empty` is a text that may be missing.
Empty = Annotated[str, pydantic.Field(max_length=0)]


def _shown(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:900])


# A text that an operator can read in a status, whatever its source wrote.
Shown = Annotated[str, pydantic.AfterValidator(_shown)]


class Value(pydantic.BaseModel):
    """A frozen value; two values with equal fields are equal.

    Schemas are built on first use, because most hooks never use most of the models.
    """

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        defer_build=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


def stored_as(key: str) -> FieldInfo:
    """Return the annotation of a field that is stored, and shared with units of other releases, under `key`."""
    return pydantic.Field(validation_alias=key, serialization_alias=key)


def digest(data: object) -> str:
    """Return 32 hexadecimal digits that identify plain data; unlike `hash()`, equal in every process."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]


def number_of(unit: str) -> int:
    """Return the number of a unit, e.g. 3 of `pgbouncer/3`; 0 for a name that has none."""
    numbered = re.fullmatch(r"[^/]*/([0-9]{1,9})", unit)
    return int(numbered[1]) if numbered else 0
