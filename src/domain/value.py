"""What is a value here? An immutable model that refuses fields it does not know."""

import pydantic


class Value(pydantic.BaseModel):
    """A frozen value; two with the same fields are the same.

    Schemas are built on first use: most hooks never touch most of the models.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", defer_build=True)
