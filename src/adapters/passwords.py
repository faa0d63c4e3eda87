"""Where do passwords come from?"""

import secrets
import string

import pydantic

_LETTERS = string.ascii_letters + string.digits


def new_password() -> pydantic.SecretStr:
    """24 letters and digits (143 bits): they need no quoting in any file, URI or statement."""
    return pydantic.SecretStr("".join(secrets.choice(_LETTERS) for _ in range(24)))
