"""What a row of the table of options says: what the option accepts, and whether PgBouncer takes it as it is."""

import dataclasses
from collections.abc import Iterable
from typing import Annotated, Literal

import pydantic
from pydantic_core import CoreSchema

Unit = Literal["number", "seconds", "bytes"]

_WORDS: dict[Unit, str] = {
    "number": "a whole number",
    "seconds": "whole seconds",
    "bytes": "whole bytes",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Accepts:
    """What an option accepts, as the end of a sentence."""

    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class WholeNumber:
    """An option accepts a whole number from `least` to `most`, and no text or boolean."""

    least: int
    most: int
    unit: Unit = "number"
    # What the bounds mean, for people; '' if they mean themselves.
    least_means: str = ""
    most_means: str = ""

    @property
    def text(self) -> str:
        """Return what the option accepts, as the end of a sentence."""
        least = f"{self.least} ({self.least_means})" if self.least_means else self.least
        most = f"{self.most} ({self.most_means})" if self.most_means else self.most
        return f"{_WORDS[self.unit]} from {least} to {most}"

    def __get_pydantic_core_schema__(
        self, source: object, handler: pydantic.GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return the validator of the number."""
        bounds = pydantic.Field(strict=True, ge=self.least, le=self.most)
        return handler.generate_schema(Annotated[int, bounds])


@dataclasses.dataclass(frozen=True, slots=True)
class Named:
    """The name of an option that differs from the name of its field."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class PassedOn:
    """PgBouncer has a parameter of this name, and takes the value as it is."""


PASSED_ON = PassedOn()


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """An option of the operator: a row of the table."""

    # The name in config.yaml.
    name: str
    # The field of `Settings`.
    field: str
    accepts: Accepts | WholeNumber
    passed_on: bool


def option_of(field: str, row: Iterable[object]) -> Option:
    """Return the option of a field; `row` has what stands in the row beside its type and default."""
    values = tuple(row)
    names = (value.name for value in values if isinstance(value, Named))
    return Option(
        name=next(names, field),
        field=field,
        accepts=next(value for value in values if isinstance(value, Accepts | WholeNumber)),
        passed_on=PASSED_ON in values,
    )
