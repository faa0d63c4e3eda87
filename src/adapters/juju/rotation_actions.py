"""The actions rotate-credentials and get-credentials: rows of `adapters.juju.actions.ACTIONS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import pydantic

from adapters.juju import parameters as given
from app.errors import ActionFailed
from app.hooks.rotate import Users
from app.outcome import Answer

if TYPE_CHECKING:
    from app.application import Application


# A month: credentials that stay valid for longer are hardly rotated.
MOST_HOURS = 31 * 24


class _Rotation(pydantic.BaseModel):
    """The parameters of rotate-credentials."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    users: Users = "own"
    # The name of an application of Juju; '' for all. An empty name is not valid if it is given.
    application: str = pydantic.Field(default="", pattern=r"^[a-z][a-z0-9-]{0,99}$")
    # How long clients can log in with their former credentials, in hours.
    valid_hours: int = pydantic.Field(default=24, alias="valid-hours", ge=0, le=MOST_HOURS)


def rotate_credentials(
    application: Application, parameters: Mapping[str, object], log: Callable[[str], None]
) -> Answer:
    """Begin a rotation, and return what was begun."""
    try:
        asked = _Rotation.model_validate(dict(parameters))
    except pydantic.ValidationError as error:
        name = ascii(str(error.errors()[0]["loc"][-1])[:40])
        raise ActionFailed(
            f"parameter {name} is not valid: users takes own, clients or all, application the name of an"
            f" application, and valid-hours a number from 0 to {MOST_HOURS}"
        ) from None
    if asked.application and asked.users == "own":
        raise ActionFailed(
            "PgBouncer's own users belong to no application: add users=clients to rotate the users of"
            f" {asked.application}"
        )
    seconds = asked.valid_hours * 3600
    begun = application.rotate_credentials(asked.users, asked.application, seconds)
    for message in begun.messages:
        log(message)
    return Answer({"message": "; ".join(begun.messages)}, begun.outcome)


def get_credentials(
    application: Application, parameters: Mapping[str, object], _: Callable[[str], None]
) -> Mapping[str, object]:
    """Return the identifier of the secret with the login of the console, and how to read it.

    With `remove` the secret is removed.
    """
    given.check(parameters, ("remove",))
    if given.flag(parameters, "remove"):
        application.get_credentials.remove()
        return {"message": "the secret with the login of the console is removed"}
    uri = application.get_credentials()
    return {"secret-id": uri, "message": f"run `juju show-secret --reveal {uri}`"}
