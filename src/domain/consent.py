"""Decide which roles and databases a client gets, and which of them need an option of the operator."""

from collections.abc import Collection, Iterable

from domain.facts import Client, Facts
from domain.made import CLIENT, GROUP, Made, OwnDatabase
from domain.roles import GROUPS, attributes_of
from domain.settings import Settings
from domain.users import AccessRequest, Grant, name_problem
from domain.value import Value

# The largest number of databases of an application; each takes a CREATE DATABASE, and a pool in each process.
MAX_DATABASES = 20

TOO_MANY_DATABASES = (
    f"asks for more than {MAX_DATABASES} databases: {MAX_DATABASES} requests of an application get a"
    " database; make fewer requests, or relate to another pooler"
)

# The last version in which a role with CREATEROLE can grant itself every role that is not a superuser.
_CREATEROLE_IS_SUPERUSER = 15

# Functions with which the session of an ordinary user becomes the session of a superuser (set_user).
BECOME_SUPERUSER = frozenset({"set_user", "set_user_u"})

_ATTRIBUTES = {
    "superuser": "is superuser",
    "replication": "can copy the whole server by replication",
    "bypassrls": "bypasses row security",
    "createrole": "can make roles",
    "createdb": "can make databases",
}

# https://www.postgresql.org/docs/current/predefined-roles.html
_PREDEFINED = {
    "pg_execute_server_program": "can run programs on PostgreSQL's machine",
    "pg_write_server_files": "can write files on PostgreSQL's machine",
    "pg_read_server_files": "can read files on PostgreSQL's machine",
    "pg_read_all_data": "can read all data of every database, password verifiers too,",
    "pg_write_all_data": "can change all data of every database",
}

_MAX_PHRASES = 3


class RoleRights(Value):
    """The rights that a role of PostgreSQL gives its members, through all memberships."""

    role: str
    # The major version of PostgreSQL.
    major: int
    # Attributes, each with the role that has it: `role`, or a role of which `role` is a member.
    attributes: tuple[tuple[str, str], ...] = ()
    # Roles whose names begin with `pg_`.
    predefined: tuple[str, ...] = ()
    # Functions that run as a superuser, or are built in, and that PUBLIC cannot call.
    functions: tuple[str, ...] = ()
    # Databases in which the role has rights, without the client's own database.
    databases: tuple[str, ...] = ()
    # Other objects on which the role has rights, e.g. `tablespace fast`.
    objects: tuple[str, ...] = ()

    def outside(self) -> str:
        """Return what the role can do outside of the client's database, e.g. `can make roles`; '' if nothing."""
        phrases = [*self._superuser_phrases(), *self._other_phrases()]
        more = ["more"] if phrases[_MAX_PHRASES:] else []
        return " and ".join([*phrases[:_MAX_PHRASES], *more])

    def _superuser_phrases(self) -> Iterable[str]:
        for attribute, holder in self.attributes:
            if attribute == "superuser":
                yield (
                    "is superuser" if holder == self.role else f"can become superuser by {holder}"
                )
            if attribute == "createrole" and self.major <= _CREATEROLE_IS_SUPERUSER:
                yield "amounts to superuser in PostgreSQL 15 and earlier, as it can take any role"
        for name in self.functions:
            if name.rpartition(".")[2] in BECOME_SUPERUSER:
                yield f"can become superuser by {name.rpartition('.')[2]}"

    def _other_phrases(self) -> Iterable[str]:
        for role in sorted(self.predefined, key=lambda name: (name not in _PREDEFINED, name)):
            power = _PREDEFINED.get(role)
            yield f"{power} by {role}" if power else f"has the rights of {role}"
        for attribute, holder in self.attributes:
            is_superuser = attribute == "superuser" or (
                attribute == "createrole" and self.major <= _CREATEROLE_IS_SUPERUSER
            )
            if not is_superuser:
                by = "" if holder == self.role else f" by {holder}"
                yield _ATTRIBUTES.get(attribute, f"has {attribute}") + by
        for name in self.functions:
            if name.rpartition(".")[2] not in BECOME_SUPERUSER:
                yield f"can call {name}, which acts with a superuser's rights"
        for name in self.databases:
            yield f"has rights in database {name}"
        for name in self.objects:
            yield f"has rights on {name}"


def rights_of(
    role: str,
    major: int,
    *,
    attributes: Iterable[tuple[str, str]] = (),
    predefined: Iterable[str] = (),
    functions: Iterable[str] = (),
    databases: Iterable[str] = (),
    objects: Iterable[str] = (),
) -> RoleRights:
    """Return the rights of a role, with the attribute that the role implies, or is itself."""
    own = ((attribute, role) for attribute in sorted(attributes_of(frozenset({role}))))
    return RoleRights(
        role=role,
        major=major,
        attributes=tuple(dict.fromkeys((*own, *attributes))),
        predefined=tuple(predefined),
        functions=tuple(functions),
        databases=tuple(databases),
        objects=tuple(objects),
    )


class ServerDatabase(Value):
    """A database of PostgreSQL, with its owner there and its application."""

    name: str
    oid: int
    owner: str
    # The group that this application has, or would make, for a database of this name.
    group: str
    # Whether PUBLIC may connect.
    open: bool = False
    # The related application that the database was made for, by its signed comment; '' if it has none.
    application: str = ""

    def belongs_to_group(self, made: Made) -> bool:
        """Return whether the database belongs to the group that this application made for it."""
        return self.owner == self.group and self.group in made.names(GROUP)


class Consent(Value):
    """The roles and databases that the operator has allowed, and the command that allows more."""

    roles: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    # The beginning of the command that sets options, e.g. `juju config pgbouncer-k8s`.
    command: str

    @property
    def names(self) -> tuple[str, ...]:
        """The roles and the databases as a single tuple, to compare it with the tuple of an earlier hook."""
        return (*self.roles, "", *self.databases) if self.roles or self.databases else ()

    def command_to_allow(self, roles: Iterable[str]) -> str:
        """Return the command that allows these roles in addition to the roles that are allowed already."""
        return f"`{self.command} allowed-roles={_joined(self.roles, roles)}`"

    def command_to_share(self, database: str) -> str:
        """Return the command that shares this database in addition to the databases that are shared already."""
        return f"`{self.command} shared-databases={_joined(self.databases, [database])}`"


def consent_of(facts: Facts) -> Consent:
    """Return what the options allow; while an option is invalid, what the options in force allow."""
    settings = facts.settings or (facts.plan.settings if facts.plan else Settings())
    return Consent(
        roles=settings.allowed_roles,
        databases=settings.shared_databases,
        command=facts.configure_command,
    )


class Verdict(Value):
    """The decision about a request of a client; each text continues a sentence that begins with its name."""

    # Why the client does not get it.
    problem: str = ""
    # What the client keeps although it would not be granted today.
    note: str = ""


def on_roles(rights: Iterable[RoleRights], before: Grant | None, consent: Consent) -> Verdict:
    """Decide whether a client may have its roles; `before` is the grant that it has already."""
    outside = {role.role: role.outside() for role in rights if role.role not in consent.roles}
    needed = {role: phrase for role, phrase in outside.items() if phrase}
    if not needed:
        return Verdict()
    new = [role for role in needed if before is None or role not in before.roles]
    named = [f"role {role}, which {needed[role]}" for role in new or needed]
    text, command = ", and ".join(named), consent.command_to_allow(needed)
    if new:
        return Verdict(problem=f"asks for {text}: to allow it, run {command}")
    return Verdict(
        note=f"has {text}, and keeps it: to allow it for good, run {command}, or else remove the relation"
    )


def on_database(
    request: AccessRequest,
    grant: Grant,
    existing: ServerDatabase | None,
    made: Made,
    given: Iterable[Grant],
    before: Grant | None,
    consent: Consent,
) -> Verdict:
    """Decide whether a client may have its database.

    `existing` is the database of that name in PostgreSQL, `given` are the grants of other clients, and
    `before` is the grant that this client has already.
    """
    name = request.database
    if name in consent.databases:
        return Verdict()
    if reason := _owner_reason(request, existing, made):
        kept = before is not None and before.database == name
    elif different := [
        other for other in given if other.database == name and other.roles != grant.roles
    ]:
        user = different[0].username
        reason = (
            f"with other roles than user {user} has, whose code there may run with these roles"
        )
        kept = before == grant
    else:
        return Verdict()
    command = consent.command_to_share(name)
    if kept:
        text = f"has database {name}, {reason}, and keeps it: to share it for good, run {command}"
        return Verdict(note=f"{text}, or else remove the relation")
    return Verdict(problem=f"asks for database {name}, {reason}: to share it, run {command}")


def _joined(allowed: Iterable[str], more: Iterable[str]) -> str:
    return ",".join(sorted({*allowed, *more}))


def _owner_reason(request: AccessRequest, existing: ServerDatabase | None, made: Made) -> str:
    """Return why a database is not the requesting application's own, as part of a sentence; '' if it is."""
    if existing is None:
        return ""
    if owner := made.owner_of(existing.oid) or existing.application:
        return "" if owner == request.application else f"which belongs to {owner}"
    if existing.belongs_to_group(made):
        return ""
    return f"which was not made for it and belongs to {existing.owner} in PostgreSQL"


def serving_order(clients: Iterable[Client], granted: Collection[str]) -> list[Client]:
    """Return the clients in the order in which they are served; clients with a grant come first."""

    def order(client: Client) -> tuple[bool, int, str]:
        request = client.request
        return (request.username not in granted, request.relation_id, request.request_id)

    return sorted(clients, key=order)


def above_database_limit(clients: Iterable[Client], granted: Collection[str]) -> frozenset[str]:
    """Return the users of requests that exceed the largest number of databases of an application.

    A request that was granted stays granted, and counts.
    """
    counts, usernames = dict[str, int](), set[str]()
    for client in serving_order(clients, granted):
        request = client.request
        counts[request.application] = counts.get(request.application, 0) + 1
        if counts[request.application] > MAX_DATABASES and request.username not in granted:
            usernames.add(request.username)
    return frozenset(usernames)


def with_databases(
    made: Made, databases: Iterable[ServerDatabase], applications: dict[str, str]
) -> Made:
    """Return `made` with the databases that exist now.

    `applications` has the application of each client, by the client's user or its database's group.
    A database belongs to the first application that it was recorded for.
    """
    recorded = list[OwnDatabase]()
    owners = made.names(CLIENT) | made.names(GROUP)
    for database in databases:
        known = made.owner_of(database.oid) or database.application
        of_owner = applications.get(database.owner, "") if database.owner in owners else ""
        if application := known or of_owner:
            recorded.append(
                OwnDatabase(name=database.name, oid=database.oid, application=application)
            )
    return made.with_databases(tuple(recorded))


def databases_made_by_clients(
    databases: Iterable[ServerDatabase], made: Made, grants: Iterable[Grant]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the databases that clients made: those that a pool can lead to, and those that none can.

    A database of a group that the operator allowed a client, such as charmed_databases_owner, counts
    only if PUBLIC cannot connect to it, so that its pool admits only users with the right to connect.
    """
    grants = tuple(grants)
    requested = {grant.database for grant in grants}
    own = {grant.username for grant in grants} | made.names(GROUP)
    groups = {role for grant in grants for role in grant.roles} & GROUPS
    names = [
        database.name
        for database in databases
        if database.name not in requested
        and (
            (database.owner in own and database.owner != database.group)
            or (database.owner in groups and not database.open)
        )
    ]
    usable = tuple(sorted(name for name in names if not name_problem(name)))
    return usable, tuple(sorted(set(names).difference(usable)))
