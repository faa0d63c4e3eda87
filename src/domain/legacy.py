"""The requests of clients at `db` and `db-admin` (interface pgsql), which the endpoint `database` replaces."""

import re

from domain.users import AccessRequest, request_problem

# The endpoint whose clients ask for the rights of an administrator.
ADMIN_ENDPOINT = "db-admin"

# The group of administrators that the charms of PostgreSQL have, and its name in the charm of version 16.
_ADMIN, _ADMIN_OF_16 = "admin", "charmed_admin"
_RENAMED_IN = 16

# A status names no more extensions than this.
_MOST_NAMES = 3


def legacy_roles(endpoint: str, roles: tuple[str, ...], version: str) -> tuple[str, ...]:
    """Return the roles that a client at this endpoint asks for; `version` is that of PostgreSQL, or ''."""
    if endpoint != ADMIN_ENDPOINT:
        return roles
    major = re.match(r"[0-9]{1,3}", version)
    renamed = major is not None and int(major[0]) >= _RENAMED_IN
    return (*roles, _ADMIN_OF_16 if renamed else _ADMIN)


def legacy_problem(request: AccessRequest, extensions: str) -> str:
    """Return why a request at `db` or `db-admin` cannot be served, as the end of a sentence; '' if it can."""
    names = [name.strip().partition(":")[0] for name in extensions.split(",")]
    if asked := [name for name in names if name]:
        shown = [_shown(name) for name in asked[:_MOST_NAMES]]
        more = ["more"] if asked[_MOST_NAMES:] else []
        return (
            f"asks for extensions ({', '.join([*shown, *more])}), which are not supported here:"
            " create them in PostgreSQL by the options of its charm, and let the application ask for none"
        )
    return request_problem(request.database, request.roles)


def _shown(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]{1,63}", name) else ascii(name[:63])
