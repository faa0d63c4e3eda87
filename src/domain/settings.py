"""The options of the operator, and the values that each option accepts."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import pydantic

from domain import sentences
from domain.endpoints import address_in
from domain.options import PASSED_ON, Accepts, Named, WholeNumber, option_of
from domain.overrides import MOST_CONNECTIONS, Overrides, overrides_in
from domain.roles import ROLES
from domain.service import Kind, TrafficPolicy, annotations_in
from domain.value import Name, PoolMode, Value

# PgBouncer keeps numbers as C ints. It counts microseconds in 64 bits, where this many seconds do not overflow.
_INT_MAX = 2**31 - 1


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


def _without_boolean(value: object) -> object:
    # `juju config` passes the text false, and YAML a boolean.
    return str(value).lower() if isinstance(value, bool) else value


def _databases(value: object) -> object:
    if (names := _listed(value)) is None:
        return value
    if bad := [name for name in names if not re.fullmatch(r"[A-Za-z0-9_.-]{1,63}", name)]:
        raise ValueError(f"no database of a client can have the name {bad[0][:63]!r}")
    return names


def _extra_names(value: object) -> object:
    """Return host names and IP addresses in a text, sorted."""
    if (names := _listed(value)) is None:
        return value
    if bad := [name for name in names if not address_in(name.removeprefix("*."))]:
        raise ValueError(f"{bad[0][:63]!a} is neither a host name nor an IP address")
    return names


def _annotations(text: str) -> str:
    annotations_in(text)
    return text


# How often PgBouncer's own users get new passwords.
RotationPeriod = Literal["never", "monthly", "quarterly", "yearly"]


# An objective below half of the time says nothing.
LEAST_TARGET, MOST_TARGET = 50, 99.99


def _percentage(value: object) -> object:
    """Return the text of a percentage without zeros at its end."""
    # `pooler config slo-wait-target=99.9` passes a number.
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value <= MOST_TARGET
    ):
        value = f"{value:.6g}"
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,2})?", value):
        raise ValueError(f"{value[:20]!a} is neither 0 nor a percentage between 50 and 99.99")
    number = float(value)
    if 0 < number < LEAST_TARGET:
        raise ValueError(f"{value} is less than {LEAST_TARGET}")
    return f"{number:g}"


Seconds = Annotated[int, WholeNumber(0, _INT_MAX, "seconds", least_means="off")]


class Settings(Value):
    """The options, validated: a row for each option, in the order of config.yaml.

    A row has the type, what the option accepts, and the default. `PASSED_ON` makes it a line of pgbouncer.ini.
    Units share these values, so the name of a field never changes.
    """

    listen_port: Annotated[int, WholeNumber(1024, 65535)] = 6432
    pool_mode: Annotated[PoolMode, Accepts("session, transaction or statement"), PASSED_ON] = (
        "session"
    )
    server_reset_query_always: Annotated[
        bool, pydantic.Field(strict=True), Accepts("true or false")
    ] = False
    max_db_connections: Annotated[int, WholeNumber(0, _INT_MAX, least_means="no limit")] = 100
    # In session mode, where a client keeps its server connection, PgBouncer tracks no prepared statement.
    max_prepared_statements: Annotated[
        int, WholeNumber(0, _INT_MAX, least_means="off"), PASSED_ON
    ] = 100
    # The size of a packet limits the memory that a client without credentials can occupy.
    max_packet_size: Annotated[
        int,
        WholeNumber(2**20, 2**30, "bytes", least_means="1 MiB", most_means="1 GiB"),
        PASSED_ON,
    ] = 2**26
    default_pool_size: Annotated[
        int, WholeNumber(0, MOST_CONNECTIONS, least_means="as many as there may be")
    ] = 0
    min_pool_size: Annotated[int, WholeNumber(0, MOST_CONNECTIONS)] = 0
    reserve_pool_size: Annotated[int, WholeNumber(0, MOST_CONNECTIONS)] = 0
    reserve_pool_timeout: Annotated[Seconds, PASSED_ON] = 5
    query_wait_timeout: Annotated[Seconds, PASSED_ON] = 120
    query_timeout: Annotated[Seconds, PASSED_ON] = 0
    idle_transaction_timeout: Annotated[Seconds, PASSED_ON] = 0
    client_idle_timeout: Annotated[Seconds, PASSED_ON] = 0
    server_idle_timeout: Annotated[Seconds, PASSED_ON] = 600
    server_lifetime: Annotated[
        int, WholeNumber(0, _INT_MAX, "seconds", least_means="closed after one use"), PASSED_ON
    ] = 3600
    overrides: Annotated[
        Overrides,
        pydantic.BeforeValidator(_overrides),
        Accepts("a JSON text of databases and users, or nothing"),
    ] = Overrides()
    # Roles that clients may have although the roles give rights outside of the client's database.
    allowed_roles: Annotated[
        tuple[Name, ...],
        pydantic.BeforeValidator(_roles),
        Accepts("names of roles, separated by commas or spaces, or nothing"),
        Named("allowed-roles"),
    ] = ()
    # Databases that every client may have, whichever application they were made for.
    shared_databases: Annotated[
        tuple[Name, ...],
        pydantic.BeforeValidator(_databases),
        Accepts("names of databases, separated by commas or spaces, or nothing"),
        Named("shared-databases"),
    ] = ()
    # Whether PgBouncer encrypts connections of clients.
    client_tls_sslmode: Annotated[
        Literal["prefer", "require", "disable"], Accepts("prefer, require or disable")
    ] = "prefer"
    # Names beside those of the application that certificates for clients hold.
    tls_extra_sans: Annotated[
        tuple[str, ...],
        pydantic.BeforeValidator(_extra_names),
        Accepts("host names and IP addresses, separated by commas or spaces, or nothing"),
        Named("tls-extra-sans"),
    ] = ()
    # Whether PgBouncer verifies PostgreSQL.
    backend_tls_sslmode: Annotated[
        Literal["verify", "require-verify", "prefer"],
        Accepts("verify, require-verify or prefer"),
    ] = "verify"
    # The kind of the Service by which clients reach the application.
    expose_external: Annotated[
        Kind,
        pydantic.BeforeValidator(_without_boolean),
        Accepts("false, nodeport or loadbalancer"),
        Named("expose-external"),
    ] = "false"
    # A JSON object of texts; `domain.service.annotations_in` reads it.
    loadbalancer_extra_annotations: Annotated[
        str,
        pydantic.Field(strict=True),
        pydantic.AfterValidator(_annotations),
        Accepts("a JSON object of texts, or nothing"),
        Named("loadbalancer-extra-annotations"),
    ] = ""
    external_traffic_policy: Annotated[
        TrafficPolicy,
        Accepts("cluster or local"),
        Named("external-traffic-policy"),
    ] = "cluster"
    # Whether PgBouncer logs client and server connections that open and close; `auto` while no exporter runs.
    log_connections: Annotated[
        Literal["auto", "true", "false"],
        pydantic.BeforeValidator(_without_boolean),
        Accepts("auto, true or false"),
        Named("log-connections"),
    ] = "auto"
    # The percentage of the time of clients that may be no wait for a server connection; '0' is off.
    slo_wait_target: Annotated[
        str,
        pydantic.BeforeValidator(_percentage),
        Accepts("0 (off) or a percentage between 50 and 99.99"),
        Named("slo-wait-target"),
    ] = "99"
    # How often PgBouncer's own users get new passwords without an action.
    rotate_own_credentials: Annotated[
        RotationPeriod,
        Accepts("never, monthly, quarterly or yearly"),
        Named("rotate-own-credentials"),
    ] = "monthly"
    # The secret with passwords of console users that the operator chose; '' without such passwords.
    system_users: Annotated[
        str,
        pydantic.Field(strict=True, pattern=r"^(secret:[A-Za-z0-9/_-]{3,120})?$"),
        Accepts("the ID of a secret, or nothing"),
        Named("system-users"),
    ] = ""

    @property
    def wait_target(self) -> float:
        """Return the percentage of the time of clients that must not be a wait; 0 if there is no objective."""
        return float(self.slo_wait_target)

    def with_listen_port(self, port: int) -> "Settings":
        """Return these settings with another port."""
        return self.model_copy(update={"listen_port": port})

    def with_overrides(self, overrides: Overrides) -> "Settings":
        """Return these settings with other values for single databases and users."""
        return self.model_copy(update={"overrides": overrides})

    def passed_on(self) -> tuple[tuple[str, str], ...]:
        """Return the lines of pgbouncer.ini for the options that PgBouncer takes as they are."""
        names = (option.name for option in OPTIONS.values() if option.passed_on)
        return tuple((name, str(getattr(self, name))) for name in names)


# The rows of `Settings`, by the name of the option.
OPTIONS = {
    option.name: option
    for option in (option_of(field, row.metadata) for field, row in Settings.model_fields.items())
}
_NAMES = {option.field: option.name for option in OPTIONS.values()}

# What each option accepts, as the end of a sentence.
ACCEPTS = {name: option.accepts.text for name, option in OPTIONS.items()}


def field_of(option: str) -> str:
    """Return the field of `Settings` that holds this option, e.g. `allowed_roles` of `allowed-roles`."""
    return OPTIONS[option].field


def settings_from(options: Mapping[str, object]) -> tuple[Settings | None, tuple[str, ...]]:
    """Return the settings, or None and a sentence for each option that is not valid."""
    settings, complaints = None, dict[str, str]()
    try:
        known = {OPTIONS[name].field: value for name, value in options.items() if name in OPTIONS}
        settings = Settings.model_validate(known)
    except pydantic.ValidationError as error:
        for detail in error.errors():
            name = _NAMES[str(detail["loc"][0])]
            reason = detail.get("ctx", {}).get("error")
            complaints.setdefault(name, _complaint(name, options.get(name), reason))
    # pydantic cannot name an unknown option whose name is no valid text.
    complaints |= {name: _complaint(name, None, None) for name in options if name not in OPTIONS}
    return (None, tuple(complaints.values())) if complaints else (settings, ())


def _complaint(name: str, value: object, reason: object) -> str:
    if name not in OPTIONS:
        short = name[:60]
        shown = short if re.fullmatch(r"[\w-]+", short) else ascii(short)
        return sentences.UNKNOWN_OPTION.text(name=shown, known=", ".join(OPTIONS))
    if isinstance(reason, ValueError):
        return sentences.INVALID_VALUE.text(name=name, reason=reason)
    shown = repr(_shown(value))
    return sentences.INVALID_OPTION.text(name=name, accepts=ACCEPTS[name], value=shown)


def _shown(value: object) -> str:
    # Python writes no number with thousands of digits.
    if isinstance(value, int) and abs(value) > _INT_MAX**2:
        return "a number with many digits"
    return str(value)[:40]
