"""What did the operator ask for?"""

from collections.abc import Mapping
from typing import Literal

import pydantic

from domain.value import Value

PoolMode = Literal["session", "transaction", "statement"]

_INT_MAX = 2**31 - 1  # PgBouncer keeps numbers as C ints.

# What each option accepts, as the end of a sentence.
ACCEPTS = {
    "listen_port": "a whole number from 1024 to 65535",
    "pool_mode": "session, transaction or statement",
    "max_db_connections": f"a whole number from 0 (no limit) to {_INT_MAX}",
    "max_prepared_statements": f"a whole number from 0 (off) to {_INT_MAX}",
}


class Settings(Value):
    """The options, validated. Defaults are those of config.yaml."""

    listen_port: int = pydantic.Field(default=6432, ge=1024, le=65535, strict=True)
    pool_mode: PoolMode = "session"
    max_db_connections: int = pydantic.Field(default=100, ge=0, le=_INT_MAX, strict=True)
    max_prepared_statements: int = pydantic.Field(default=100, ge=0, le=_INT_MAX, strict=True)


def settings_from(options: Mapping[str, object]) -> tuple[Settings | None, tuple[str, ...]]:
    """Settings, or None and one sentence for each option that cannot be honoured."""
    try:
        return Settings.model_validate(dict(options)), ()
    except pydantic.ValidationError as error:
        names = dict.fromkeys(str(detail["loc"][0]) for detail in error.errors())
        return None, tuple(_complaint(name, options.get(name)) for name in names)


def _complaint(name: str, value: object) -> str:
    if name not in ACCEPTS:
        return f"unknown option {name[:60]}: there are {', '.join(ACCEPTS)}"
    return f"option {name} must be {ACCEPTS[name]}, not {str(value)[:40]!r}"
