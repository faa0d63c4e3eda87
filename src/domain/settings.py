"""The options of the operator, and the values that each option accepts."""

import re
from collections.abc import Mapping
from typing import Annotated

import pydantic

from domain import sentences
from domain.overrides import MOST_CONNECTIONS, Overrides, overrides_in
from domain.roles import ROLES
from domain.value import Name, PoolMode, Value

_INT_MAX = 2**31 - 1  # PgBouncer keeps numbers as C ints.
_SECONDS_MAX = (
    2**31 - 1
)  # PgBouncer counts microseconds in 64 bits, where these seconds do not overflow.

_SECONDS = f"whole seconds from 0 (off) to {_SECONDS_MAX}"

# What each option accepts, as the end of a sentence.
ACCEPTS = {
    "listen_port": "a whole number from 1024 to 65535",
    "pool_mode": "session, transaction or statement",
    "server_reset_query_always": "true or false",
    "max_db_connections": f"a whole number from 0 (no limit) to {_INT_MAX}",
    "max_prepared_statements": f"a whole number from 0 (off) to {_INT_MAX}",
    "max_packet_size": f"whole bytes from {2**20} (1 MiB) to {2**30} (1 GiB)",
    "default_pool_size": f"a whole number from 0 (as many as there may be) to {MOST_CONNECTIONS}",
    "min_pool_size": f"a whole number from 0 to {MOST_CONNECTIONS}",
    "reserve_pool_size": f"a whole number from 0 to {MOST_CONNECTIONS}",
    "query_wait_timeout": _SECONDS,
    "query_timeout": _SECONDS,
    "idle_transaction_timeout": _SECONDS,
    "client_idle_timeout": _SECONDS,
    "server_idle_timeout": _SECONDS,
    "server_lifetime": f"whole seconds from 0 (closed after one use) to {_SECONDS_MAX}",
    "overrides": "a JSON text of databases and users, or nothing",
    "allowed-roles": "names of roles, separated by commas or spaces, or nothing",
    "shared-databases": "names of databases, separated by commas or spaces, or nothing",
}

# Names of options by the names of their fields.
_OPTIONS = {name.replace("-", "_"): name for name in ACCEPTS}


def field_of(option: str) -> str:
    """Return the field of `Settings` that holds this option, e.g. `allowed_roles` of `allowed-roles`."""
    return option.replace("-", "_")


def _overrides(value: object) -> object:
    return overrides_in(value) if isinstance(value, str) else value


def _listed(value: object) -> tuple[str, ...] | None:
    """Return the names in a text, without duplicates and sorted; None for any other type."""
    # `pooler config shared-databases=2024` passes a number.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _INT_MAX:
        value = str(value)
    if not isinstance(value, str):
        return None
    return tuple(sorted(set(re.split(r"[,\s]+", value)) - {""}))


def _roles(value: object) -> object:
    # The plan of the leader has a list, in which a later release may have other roles.
    if (names := _listed(value.lower() if isinstance(value, str) else value)) is None:
        return value
    if unknown := [name for name in names if name not in ROLES]:
        known = ", ".join(sorted(ROLES))
        raise ValueError(f"clients cannot have role {unknown[0][:63]!r}: they can have {known}")
    return names


def _databases(value: object) -> object:
    if (names := _listed(value)) is None:
        return value
    if bad := [name for name in names if not re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", name)]:
        raise ValueError(f"no database of a client can have the name {bad[0][:63]!r}")
    return names


Seconds = Annotated[int, pydantic.Field(ge=0, le=_SECONDS_MAX, strict=True)]
PoolSize = Annotated[int, pydantic.Field(ge=0, le=MOST_CONNECTIONS, strict=True)]


class Settings(Value):
    """The options, validated. Defaults are those of config.yaml."""

    listen_port: int = pydantic.Field(default=6432, ge=1024, le=65535, strict=True)
    pool_mode: PoolMode = "session"
    server_reset_query_always: bool = pydantic.Field(default=False, strict=True)
    max_db_connections: int = pydantic.Field(default=100, ge=0, le=_INT_MAX, strict=True)
    max_prepared_statements: int = pydantic.Field(default=100, ge=0, le=_INT_MAX, strict=True)
    max_packet_size: int = pydantic.Field(default=2**26, ge=2**20, le=2**30, strict=True)
    default_pool_size: PoolSize = 0
    min_pool_size: PoolSize = 0
    reserve_pool_size: PoolSize = 0
    query_wait_timeout: Seconds = 120
    query_timeout: Seconds = 0
    idle_transaction_timeout: Seconds = 0
    client_idle_timeout: Seconds = 0
    server_idle_timeout: Seconds = 600
    server_lifetime: Seconds = 3600
    overrides: Annotated[Overrides, pydantic.BeforeValidator(_overrides)] = Overrides()
    # Roles that clients may have although the roles give rights outside of the client's database.
    allowed_roles: Annotated[tuple[Name, ...], pydantic.BeforeValidator(_roles)] = ()
    # Databases that every client may have, whichever application they were made for.
    shared_databases: Annotated[tuple[Name, ...], pydantic.BeforeValidator(_databases)] = ()

    def with_listen_port(self, port: int) -> "Settings":
        """Return these settings with another port."""
        return self.model_copy(update={"listen_port": port})


def settings_from(options: Mapping[str, object]) -> tuple[Settings | None, tuple[str, ...]]:
    """Return the settings, or None and a sentence for each option that is not valid."""
    settings, complaints = None, dict[str, str]()
    try:
        known = {field_of(name): value for name, value in options.items() if name in ACCEPTS}
        settings = Settings.model_validate(known)
    except pydantic.ValidationError as error:
        for detail in error.errors():
            name = _OPTIONS[str(detail["loc"][0])]
            reason = detail.get("ctx", {}).get("error")
            complaints.setdefault(name, _complaint(name, options.get(name), reason))
    # pydantic cannot name an unknown option whose name is no valid text.
    complaints |= {name: _complaint(name, None, None) for name in options if name not in ACCEPTS}
    return (None, tuple(complaints.values())) if complaints else (settings, ())


def _complaint(name: str, value: object, reason: object) -> str:
    if name not in ACCEPTS:
        short = name[:60]
        shown = short if re.fullmatch(r"[\w-]+", short) else ascii(short)
        return sentences.UNKNOWN_OPTION.text(name=shown, known=", ".join(ACCEPTS))
    if isinstance(reason, ValueError):
        return sentences.INVALID_VALUE.text(name=name, reason=reason)
    shown = repr(_shown(value))
    return sentences.INVALID_OPTION.text(name=name, accepts=ACCEPTS[name], value=shown)


def _shown(value: object) -> str:
    # Python writes no number with thousands of digits.
    if isinstance(value, int) and abs(value) > _SECONDS_MAX**2:
        return "a number with many digits"
    return str(value)[:40]
