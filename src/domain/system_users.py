"""The secret of the option system-users: passwords of console users that the operator chose."""

import re
from collections.abc import Mapping

from domain.users import Password
from domain.value import Value

# The keys of the secret, and what each user may do on the console.
ADMIN, STATS = "admin", "stats"
KEYS = (ADMIN, STATS)

_SHORTEST, _LONGEST = 8, 100


class SystemUsers(Value):
    """The passwords that the operator chose; None for a user whose password the application makes."""

    admin: Password | None = None
    stats: Password | None = None

    @property
    def chosen(self) -> tuple[str, ...]:
        """Return the keys of the users whose passwords the operator chose."""
        return tuple(key for key in KEYS if getattr(self, key))


def system_users_in(content: Mapping[str, str]) -> SystemUsers:
    """Return what a secret has. Raises ValueError with the end of a sentence, which has no password."""
    if not content:
        raise ValueError(f"is empty: give it the key {ADMIN} or {STATS}, or both")
    if unknown := [key for key in sorted(content) if key not in KEYS]:
        shown = ascii(unknown[0][:40])
        raise ValueError(f"has the key {shown}: it may have the keys {ADMIN} and {STATS}")
    for key, password in content.items():
        if not re.fullmatch(rf"[!-~]{{{_SHORTEST},{_LONGEST}}}", password):
            raise ValueError(
                f"has no valid password under {key}: it takes {_SHORTEST} to {_LONGEST} ASCII letters, digits and"
                " signs, without spaces"
            )
    return SystemUsers.model_validate(dict(content))
