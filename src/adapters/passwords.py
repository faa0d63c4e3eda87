"""Make passwords."""

import secrets
import string

import pydantic

_LETTERS = string.ascii_letters + string.digits


def new_password() -> pydantic.SecretStr:
    """Return 24 random letters and digits (143 bits), which need no quotes in any file, URI or statement."""
    return pydantic.SecretStr("".join(secrets.choice(_LETTERS) for _ in range(24)))
