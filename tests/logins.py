"""Logins, auth material and grants, for tests that need PostgreSQL or its double."""

from __future__ import annotations

import pydantic

from domain.users import AuthMaterial, Grant, Login

# The database of the backend relation.
OWN = "pgbouncer"
# The model and application that comments on roles name.
OWNER = "a-model/pooler"
AUTH_USER = "pgbouncer_auth_operator"
AUTH_PASSWORD = "PasswordOfTheAuthUser"
CLIENT_PASSWORD = "PasswordOfAClient"

# For PgBouncer processes whose consoles are used.
CONSOLE_AUTH = AuthMaterial(
    auth_user="auth", auth_password=pydantic.SecretStr("auth-pw"),
    stats_user="stats", stats_password=pydantic.SecretStr("stats-pw"),
    admin_user="admin", admin_password=pydantic.SecretStr("admin-pw"),
)  # fmt: skip


def material(password: str = AUTH_PASSWORD, user: str = AUTH_USER) -> AuthMaterial:
    """Return auth material with this auth user."""
    return CONSOLE_AUTH.model_copy(
        update={"auth_user": user, "auth_password": pydantic.SecretStr(password)}
    )


def login(user: int | str, password: str = CLIENT_PASSWORD) -> Login:
    """Return the login of a user, given by name or by the number of its relation."""
    name = user if isinstance(user, str) else f"relation_id_{user}"
    return Login(username=name, password=pydantic.SecretStr(password))


def asked(number: int, database: str = "shop", *roles: str) -> Grant:
    """Return what the client application of a relation requests."""
    username = f"relation_id_{number}"
    return Grant(relation_id=number, username=username, database=database, roles=roles)
