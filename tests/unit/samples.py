"""Values that several tests need."""

import pydantic

from domain.users import AuthMaterial

AUTH = AuthMaterial(
    auth_user="auth", auth_password=pydantic.SecretStr("p1"),
    stats_user="stats", stats_password=pydantic.SecretStr("p2"),
    admin_user="admin", admin_password=pydantic.SecretStr("p3"),
)  # fmt: skip


def but(value, **changes):
    """Return a value with other fields; a field that the value has not, or a wrong type, is an error."""
    return type(value).model_validate(dict(value) | changes)
