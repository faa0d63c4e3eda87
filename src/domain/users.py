"""Users: those of PgBouncer itself, and those of client applications with their requests and grants."""

import re
from collections.abc import Iterable
from typing import Annotated, Self
from urllib.parse import quote

import pydantic

from domain.certificate_logins import ClientCertificate
from domain.endpoints import endpoints_in
from domain.plan import AUTH_ALIASES, Plan
from domain.pools import READ_ONLY_SUFFIX
from domain.roles import ROLES
from domain.rotation import Rotation
from domain.tls import bundle
from domain.value import Count, Line, Value

# PostgreSQL's NAMEDATALEN and PgBouncer's MAX_DBNAME, less the closing zero.
NAME_BYTES = 63

# `pgbouncer` is PgBouncer's console, and no client gets the server's own databases.
RESERVED_DATABASES = frozenset({"pgbouncer", "postgres", "template0", "template1", *AUTH_ALIASES})


def _hashable(password: pydantic.SecretStr) -> pydantic.SecretStr:
    if not re.fullmatch(r"[ -~]{1,1000}", password.get_secret_value()):
        raise ValueError("no password that this application made")
    return password


# This application makes such passwords. Other letters would have to be normalised before they are hashed,
# and a line break would end a line of a configuration.
Password = Annotated[pydantic.SecretStr, pydantic.AfterValidator(_hashable)]

# A user name that stands in a list whose members are separated by commas and spaces.
ListedName = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_.-]+$")]


class Login(Value):
    """A user and its password."""

    username: str
    password: pydantic.SecretStr

    def with_password(self, password: pydantic.SecretStr) -> "Login":
        """Return this user with another password."""
        return self.model_copy(update={"password": password})


class AuthMaterial(Value):
    """The users of PgBouncer itself and their passwords, shared by all units in a secret."""

    # Looks passwords up in PostgreSQL.
    auth_user: Line
    auth_password: Password
    # May read PgBouncer's console.
    stats_user: ListedName
    stats_password: Password
    # May run every command on PgBouncer's console.
    admin_user: ListedName
    admin_password: Password
    # The clients that log in by certificate. PgBouncer logs in to PostgreSQL with their passwords.
    clients: tuple[Login, ...] = ()
    # How often passwords of PgBouncer's own users have changed.
    generation: Count = 0
    # The schema of the function that looks passwords up; '' if it has the name of the auth user.
    auth_schema: str = ""
    # The auth user that takes the place of `auth_user` when it can log in and every unit has its password.
    next_auth: Login | None = None
    # The auth user before, until no unit uses it any more.
    former_auth: Login | None = None
    # The name of an auth user that no unit uses any more, until every unit has forgotten it; '' if there is none.
    leaving_auth: str = ""
    # The password of the admin user before, until every unit has the new password.
    former_admin_password: Password | None = None
    # Of `admin` and `stats`: the users whose passwords the operator has chosen.
    chosen: tuple[str, ...] = ()
    # A digest of the backend user's password with which the comments on roles are signed; '' if that is not known.
    signed_for: str = ""

    @pydantic.model_validator(mode="after")
    def _are_different(self) -> Self:
        names = [login.username for login in self.look_ups]
        names += [self.stats_user, self.admin_user]
        if len(set(names)) < len(names):
            raise ValueError("two users have the same name, so that a user has the rights of both")
        return self

    @property
    def schema_name(self) -> str:
        """Return the schema of the function that looks passwords up."""
        return self.auth_schema or self.auth_user

    @property
    def auth_users(self) -> frozenset[str]:
        """Return the auth users that PostgreSQL has to have."""
        return frozenset((*(login.username for login in self.look_ups), self.leaving_auth)) - {""}

    @property
    def look_ups(self) -> tuple[Login, ...]:
        """Return the auth users that a unit may use now, first `auth_user`."""
        current = Login(username=self.auth_user, password=self.auth_password)
        others = (self.next_auth, self.former_auth)
        return (current, *(login for login in others if login))

    def beginning(self, following: Login) -> "AuthMaterial":
        """Return these users with the auth user that takes the place of the auth user."""
        return self.model_copy(update={"auth_schema": self.schema_name, "next_auth": following})

    def used(self) -> "AuthMaterial":
        """Return these users after the next auth user took the place of the auth user."""
        if self.next_auth is None:
            return self
        return self.model_copy(
            update={
                "auth_user": self.next_auth.username,
                "auth_password": self.next_auth.password,
                "next_auth": None,
                "former_auth": Login(username=self.auth_user, password=self.auth_password),
            }
        )

    def unused(self) -> "AuthMaterial":
        """Return a new generation of these users, without the login of the former auth user."""
        if self.former_auth is None:
            return self
        return self.model_copy(
            update={
                "former_auth": None,
                "leaving_auth": self.former_auth.username,
                "generation": self.generation + 1,
            }
        )

    def ended(self) -> "AuthMaterial":
        """Return these users without what no unit has any more."""
        return self.model_copy(update={"leaving_auth": "", "former_admin_password": None})

    def with_console(
        self, *, stats: pydantic.SecretStr, admin: pydantic.SecretStr, chosen: tuple[str, ...]
    ) -> "AuthMaterial":
        """Return a new generation of these users, with these passwords for the console.

        `chosen` are the users whose passwords the operator has chosen.
        """
        changed = admin != self.admin_password
        return self.model_copy(
            update={
                "stats_password": stats,
                "admin_password": admin,
                "former_admin_password": self.admin_password
                if changed
                else self.former_admin_password,
                "chosen": chosen,
                "generation": self.generation + 1,
            }
        )

    def signed_with(self, signed_for: str) -> "AuthMaterial":
        """Return these users after the comments on roles are signed with this password of the backend's user."""
        return self.model_copy(update={"signed_for": signed_for})

    def with_clients(self, clients: tuple[Login, ...]) -> "AuthMaterial":
        """Return these users with the passwords of other clients that log in by certificate."""
        return self.model_copy(update={"clients": clients})


class AccessRequest(Value):
    """The request of an application for a database."""

    relation_id: int
    # Only a relation of version 1 can have several requests, and then each has an identifier.
    request_id: str = ""
    application: str
    database: str
    roles: tuple[str, ...] = ()
    # `db` or `db-admin`; '' for the endpoint `database`.
    endpoint: str = ""
    # The certificate by which the application wants to log in; None if it gave none.
    certificate: ClientCertificate | None = None
    # The name that a rotation has given the client; '' if it has its first name.
    renamed: str = ""
    # This is what the client was granted: its present request is invalid or missing.
    kept: bool = False

    @property
    def first_username(self) -> str:
        """Return the first name of the client, which identifies it."""
        return username_of(self.relation_id, self.request_id)

    @property
    def username(self) -> str:
        """Return the role in PostgreSQL of the client."""
        return self.renamed or self.first_username

    def named(self, rotation: Rotation) -> "AccessRequest":
        """Return this request with the name that a rotation gives the client."""
        return self.model_copy(update={"renamed": rotation.current if rotation.second else ""})


def username_of(relation_id: int, request_id: str = "") -> str:
    """Return the name of the role in PostgreSQL that serves the request of a client."""
    return "_".join(filter(None, (f"relation_id_{relation_id}", request_id)))


class Refusal(Value):
    """A request that cannot be served, with the reason."""

    relation_id: int
    application: str
    reason: str


class Grant(Value):
    """The role in PostgreSQL that this application made for a request, and its database."""

    relation_id: int
    request_id: str = ""
    username: str
    database: str
    roles: tuple[str, ...] = ()

    @property
    def first_username(self) -> str:
        """Return the first name of the client, which identifies it."""
        return username_of(self.relation_id, self.request_id)

    def named(self, rotation: Rotation) -> "Grant":
        """Return this grant with the name that a rotation gives the client."""
        return self.model_copy(update={"username": rotation.current})

    def kept(self, application: str, endpoint: str = "") -> AccessRequest:
        """Return the request of a client whose present request is invalid or missing."""
        return AccessRequest(
            relation_id=self.relation_id,
            request_id=self.request_id,
            application=application,
            database=self.database,
            roles=self.roles,
            endpoint=endpoint,
            kept=True,
        )


class Offer(Value):
    """The connection information that a client reads, without its password."""

    database: str
    # `host:port`, separated by commas.
    endpoints: str
    read_only_endpoints: str = ""
    # The name of the database for reads from replicas; '' if there are none.
    read_only_alias: str = ""
    # The version of PostgreSQL.
    version: str = ""
    # Every unit serves TLS, and the bundle of the authorities by which clients verify units, in PEM.
    tls: bool = False
    tls_ca: str = ""

    def telling(self, plan: Plan) -> "Offer":
        """Return this offer with what the plan says of TLS."""
        tls_ca = bundle(plan.client_authorities) if plan.tls else ""
        return self.model_copy(update={"tls": plan.tls, "tls_ca": tls_ca})


def auth_user(backend_user: str) -> str:
    """Return the name of the auth user that the PostgreSQL charms let in through pg_hba.conf."""
    return f"pgbouncer_auth_{backend_user.replace('-', '_')}"


def second_auth_user(name: str) -> str:
    """Return the name of a second auth user, which is in use while the first is replaced."""
    return f"{name}_2"


def request_problem(
    database: str, roles: Iterable[str], *, entity: str = "", groups: str = ""
) -> str:
    """Return why a request cannot be served, as the end of a sentence; '' if it can."""
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
    # PgBouncer's documentation says that other names can be quoted. Its parser then refuses the whole file
    # (https://github.com/pgbouncer/pgbouncer/issues/971), and no client would be served any more.
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        return "but PgBouncer takes only letters, digits, _, . and - in a name"
    return ""


def _short(text: str) -> str:
    # The text of another application, on a single line and no longer than a status can show.
    return repr(text if len(text) <= NAME_BYTES else text[:NAME_BYTES] + "…")


def grant_for(request: AccessRequest) -> Grant:
    """Return the grant that serves a request."""
    return Grant(
        relation_id=request.relation_id,
        request_id=request.request_id,
        username=request.username,
        database=request.database,
        roles=tuple(sorted(set(request.roles))),
    )


def uri(offer: Offer, credentials: Login) -> str:
    """Return the connection string of the read-write database, with all endpoints.

    libpq, asyncpg and pgx read several endpoints. For other drivers, take a string of `unit_uris`.
    """
    return _uri(offer.endpoints, offer.database, credentials)


def unit_uris(offer: Offer, credentials: Login) -> tuple[str, ...]:
    """Return a connection string of the read-write database for each endpoint."""
    return tuple(
        _uri(str(endpoint), offer.database, credentials)
        for endpoint in endpoints_in(offer.endpoints)
    )


def read_only_uri(offer: Offer, credentials: Login) -> str:
    """Return the connection string for reads from replicas, with all endpoints; '' if there are none."""
    if not offer.read_only_alias:
        return ""
    return _uri(offer.read_only_endpoints, offer.read_only_alias, credentials)


def read_only_unit_uris(offer: Offer, credentials: Login) -> tuple[str, ...]:
    """Return a connection string for reads from replicas for each endpoint; none without replicas."""
    if not offer.read_only_alias:
        return ()
    return tuple(
        _uri(str(endpoint), offer.read_only_alias, credentials)
        for endpoint in endpoints_in(offer.read_only_endpoints)
    )


def _uri(endpoints: str, database: str, credentials: Login) -> str:
    user, password = credentials.username, credentials.password.get_secret_value()
    return f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@{endpoints}/{quote(database, safe='')}"
