"""Who asked for access, who has it, and what must change?"""

import re
from collections.abc import Iterable
from typing import Annotated, Self
from urllib.parse import quote

import pydantic

from domain.pools import AUTH_ALIAS, READ_ONLY_SUFFIX
from domain.roles import ROLES
from domain.value import Line, Value

NAME_BYTES = 63  # PostgreSQL's NAMEDATALEN and PgBouncer's MAX_DBNAME, less the closing zero.

# `pgbouncer` is PgBouncer's console, and nobody gets the server's own databases.
RESERVED_DATABASES = frozenset({"pgbouncer", "postgres", "template0", "template1", AUTH_ALIAS})


def _hashable(password: pydantic.SecretStr) -> pydantic.SecretStr:
    if not re.fullmatch(r"[ -~]{1,1000}", password.get_secret_value()):
        raise ValueError("no password of ours")
    return password


# Ours are such: others would have to be normalised before they are hashed, or end a line.
Password = Annotated[pydantic.SecretStr, pydantic.AfterValidator(_hashable)]

# It stands in a list whose members commas and spaces separate.
ListedName = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_.-]+$")]


class AuthMaterial(Value):
    """The users of PgBouncer itself and their passwords, shared by all units in a secret."""

    auth_user: Line  #: looks passwords up in PostgreSQL
    auth_password: Password
    stats_user: ListedName  #: may read PgBouncer's console
    stats_password: Password
    admin_user: ListedName  #: may do anything on PgBouncer's console
    admin_password: Password

    @pydantic.model_validator(mode="after")
    def _are_three(self) -> Self:
        names = (self.auth_user, self.stats_user, self.admin_user)
        if len(set(names)) < len(names):
            raise ValueError("one user has the rights of two")
        return self


class Login(Value):
    """What a client logs in with."""

    username: str
    password: pydantic.SecretStr


class AccessRequest(Value):
    """An application asks for a database."""

    relation_id: int
    request_id: str = ""  #: only where one relation may carry several requests
    application: str
    database: str
    roles: tuple[str, ...] = ()

    @property
    def username(self) -> str:
        """The role in PostgreSQL that serves this request."""
        return "_".join(filter(None, (f"relation_id_{self.relation_id}", self.request_id)))


class Refusal(Value):
    """A request that cannot be served, and why."""

    relation_id: int
    application: str
    reason: str


class Grant(Value):
    """Access that was given, and with it a role that is ours."""

    relation_id: int
    request_id: str = ""
    username: str
    database: str
    roles: tuple[str, ...] = ()


class Offer(Value):
    """How a client connects, as it reads it; passwords apart."""

    database: str
    endpoints: str  #: `host:port`, separated by commas
    read_only_endpoints: str = ""
    read_only_alias: str = (
        ""  #: the database's name for reading from replicas, '' if there is none
    )
    version: str = ""  #: of PostgreSQL


def auth_user(backend_user: str) -> str:
    """The name that the PostgreSQL charms expect, to put it into pg_hba.conf."""
    return f"pgbouncer_auth_{backend_user.replace('-', '_')}"


def request_problem(
    database: str, roles: Iterable[str], *, entity: str = "", groups: str = ""
) -> str:
    """Why this cannot be served, as the end of a sentence; '' if it can."""
    if entity and entity.upper() != "USER":
        return f"asks for an entity of type {_short(entity)}, which is not supported"
    if groups:
        return f"asks for extra-group-roles {_short(groups)}, which are not supported"
    if problem := name_problem(database):
        return f"asks for database {_short(database)}, {problem}"
    if unknown := [role for role in roles if role not in ROLES]:
        known = ", ".join(sorted(ROLES))
        return f"asks for role {_short(unknown[0])}; clients can have {known}"
    return ""


def name_problem(name: str) -> str:
    """Return why no pool can have this name, as the end of a sentence; '' if a pool can."""
    if name.lower() in RESERVED_DATABASES:
        return "which is reserved"
    if name.endswith(READ_ONLY_SUFFIX):
        return f"but names ending in {READ_ONLY_SUFFIX} are those of read-only pools"
    if "*" in name:
        return "but prefixes are not supported"
    if len(name.encode(errors="replace")) > NAME_BYTES:
        return f"which is longer than {NAME_BYTES} bytes"
    # Its documentation says that others can be quoted, and its parser then refuses the whole file
    # (https://github.com/pgbouncer/pgbouncer/issues/971): nobody would be served any more.
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        return "but PgBouncer takes only letters, digits, _, . and - in a name"
    return ""


def _short(text: str) -> str:
    # Whatever a stranger wrote: on one line, and never longer than a status can show.
    return repr(text if len(text) <= NAME_BYTES else text[:NAME_BYTES] + "…")


def grant_for(request: AccessRequest) -> Grant:
    """What serving this request means."""
    return Grant(
        relation_id=request.relation_id,
        request_id=request.request_id,
        username=request.username,
        database=request.database,
        roles=tuple(sorted(set(request.roles))),
    )


def uri(offer: Offer, credentials: Login) -> str:
    """Connection string of the read-write database."""
    return _uri(offer.endpoints, offer.database, credentials)


def read_only_uri(offer: Offer, credentials: Login) -> str:
    """Connection string for reading from replicas; '' if there are none."""
    if not offer.read_only_alias:
        return ""
    return _uri(offer.read_only_endpoints, offer.read_only_alias, credentials)


def _uri(endpoints: str, database: str, credentials: Login) -> str:
    user, password = credentials.username, credentials.password.get_secret_value()
    return f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{endpoints}/{quote(database, safe='')}"
