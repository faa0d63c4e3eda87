"""What may a client have without asking the operator, and what needs an option?"""

from collections.abc import Collection, Iterable

from domain.facts import Client, Facts
from domain.made import CLIENT, GROUP, Made, OwnDatabase
from domain.roles import GROUPS, attributes_of
from domain.settings import Settings
from domain.users import AccessRequest, Grant, name_problem
from domain.value import Value

# Databases of one application; each takes a CREATE DATABASE, and a pool in each process.
MOST_DATABASES = 20

OVER_BUDGET = (
    f"asks for more than {MOST_DATABASES} databases: {MOST_DATABASES} requests of an application get"
    " a database"
)

# The last version in which who has CREATEROLE can be given every role but a superuser.
_CREATEROLE_IS_SUPERUSER = 15

# Functions by which a session of an ordinary user becomes a superuser's (extension set_user).
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

_MOST_PHRASES = 3


class Reach(Value):
    """What a role of PostgreSQL leads to, with every membership followed to its end."""

    role: str
    major: int  #: version of PostgreSQL
    #: Attributes, each with the role that has it: this one, or another to which this one leads.
    attributes: tuple[tuple[str, str], ...] = ()
    predefined: tuple[str, ...] = ()  #: roles whose names begin with `pg_`
    #: Functions that run as a superuser, or are PostgreSQL's own, and that PUBLIC cannot call.
    functions: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()  #: other than the client's own, in which it has rights
    others: tuple[str, ...] = ()  #: what else it has rights on, e.g. `tablespace fast`

    def outside(self) -> str:
        """What it does beyond the client's database, e.g. `can make roles`; '' if nothing."""
        found = [*self._superuser(), *self._others()]
        shown = found[:_MOST_PHRASES]
        more = ["more"] if found[_MOST_PHRASES:] else []
        return " and ".join([*shown, *more])

    def _superuser(self) -> Iterable[str]:
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

    def _others(self) -> Iterable[str]:
        for role in sorted(self.predefined, key=lambda one: (one not in _PREDEFINED, one)):
            known = _PREDEFINED.get(role)
            yield f"{known} by {role}" if known else f"has the rights of {role}"
        for attribute, holder in self.attributes:
            told = attribute == "superuser" or (
                attribute == "createrole" and self.major <= _CREATEROLE_IS_SUPERUSER
            )
            if not told:
                by = "" if holder == self.role else f" by {holder}"
                yield _ATTRIBUTES.get(attribute, f"has {attribute}") + by
        for name in self.functions:
            if name.rpartition(".")[2] not in BECOME_SUPERUSER:
                yield f"can call {name}, which acts with a superuser's rights"
        for name in self.databases:
            yield f"has rights in database {name}"
        for name in self.others:
            yield f"has rights on {name}"


def reach_of(
    role: str,
    major: int,
    *,
    attributes: Iterable[tuple[str, str]] = (),
    predefined: Iterable[str] = (),
    functions: Iterable[str] = (),
    databases: Iterable[str] = (),
    others: Iterable[str] = (),
) -> Reach:
    """What a role leads to, with the attribute that it gives a client or is itself."""
    own = ((one, role) for one in sorted(attributes_of(frozenset({role}))))
    return Reach(
        role=role,
        major=major,
        attributes=tuple(dict.fromkeys((*own, *attributes))),
        predefined=tuple(predefined),
        functions=tuple(functions),
        databases=tuple(databases),
        others=tuple(others),
    )


class Holding(Value):
    """A database of PostgreSQL, and whose it is there."""

    name: str
    oid: int
    owner: str
    group: str  #: that this application has, or would make, for a database of this name
    open: bool = False  #: PUBLIC may connect
    #: The application for which this application made it, as its sealed comment says; '' if none does.
    application: str = ""

    def ours(self, made: Made) -> bool:
        """Whether it belongs to the group that this application made for it."""
        return self.owner == self.group and self.group in made.names(GROUP)


class Consent(Value):
    """What the operator has allowed, and how more can be allowed."""

    roles: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    command: (
        str  #: the beginning of the command that sets options, e.g. `juju config pgbouncer-k8s`
    )

    @property
    def names(self) -> tuple[str, ...]:
        """Roles and databases, to see whether the operator has changed them."""
        return (*self.roles, "", *self.databases) if self.roles or self.databases else ()

    def to_allow(self, roles: Iterable[str]) -> str:
        """The command that allows these roles, and those that are allowed already."""
        return f"`{self.command} allowed-roles={_joined(self.roles, roles)}`"

    def to_share(self, database: str) -> str:
        """The command that shares this database, and those that are shared already."""
        return f"`{self.command} shared-databases={_joined(self.databases, [database])}`"


def consent_of(facts: Facts) -> Consent:
    """What the options allow; while an option is invalid, those that run now."""
    settings = facts.settings or (facts.plan.settings if facts.plan else Settings())
    return Consent(
        roles=settings.allowed_roles,
        databases=settings.shared_databases,
        command=facts.configure_command,
    )


class Verdict(Value):
    """Whether a client gets what it asks for; both texts go on where a sentence has its name."""

    problem: str = ""  #: why it does not
    note: str = ""  #: what it keeps, and would not be given today


def on_roles(reaches: Iterable[Reach], before: Grant | None, consent: Consent) -> Verdict:
    """Whether a client may have its roles. `before` is what was granted to it already."""
    outside = {one.role: one.outside() for one in reaches if one.role not in consent.roles}
    needed = {role: reach for role, reach in outside.items() if reach}
    if not needed:
        return Verdict()
    fresh = [role for role in needed if before is None or role not in before.roles]
    named = [f"role {role}, which {needed[role]}" for role in fresh or needed]
    text, command = ", and ".join(named), consent.to_allow(needed)
    if fresh:
        return Verdict(problem=f"asks for {text}: to allow it, run {command}")
    return Verdict(
        note=f"has {text}, and keeps it: to allow it for good, run {command}, or else remove the relation"
    )


def on_database(
    request: AccessRequest,
    grant: Grant,
    holding: Holding | None,
    made: Made,
    given: Iterable[Grant],
    before: Grant | None,
    consent: Consent,
) -> Verdict:
    """Whether a client may have its database.

    `holding` is what PostgreSQL has under the name, `given` what other clients have, and `before`
    what was granted to this client already.
    """
    name = request.database
    if name in consent.databases:
        return Verdict()
    if reason := _others_database(request, holding, made):
        kept = before is not None and before.database == name
    elif unlike := [one for one in given if one.database == name and one.roles != grant.roles]:
        reason = f"with other roles than user {unlike[0].username} has, who may set traps there"
        kept = before == grant
    else:
        return Verdict()
    command = consent.to_share(name)
    if kept:
        text = f"has database {name}, {reason}, and keeps it: to share it for good, run {command}"
        return Verdict(note=f"{text}, or else remove the relation")
    return Verdict(problem=f"asks for database {name}, {reason}: to share it, run {command}")


def _joined(known: Iterable[str], more: Iterable[str]) -> str:
    return ",".join(sorted({*known, *more}))


def _others_database(request: AccessRequest, holding: Holding | None, made: Made) -> str:
    if holding is None:
        return ""
    if owner := made.owner_of(holding.oid) or holding.application:
        return "" if owner == request.application else f"which belongs to {owner}"
    if holding.ours(made):
        return ""
    return f"which was not made for it and belongs to {holding.owner} in PostgreSQL"


def in_order(clients: Iterable[Client], granted: Collection[str]) -> list[Client]:
    """The clients in the order in which they are served; those that have something come first."""

    def order(client: Client) -> tuple[bool, int, str]:
        request = client.request
        return (request.username not in granted, request.relation_id, request.request_id)

    return sorted(clients, key=order)


def over_budget(clients: Iterable[Client], granted: Collection[str]) -> frozenset[str]:
    """The users of requests beyond the most databases of an application.

    What was granted stays, and counts.
    """
    counts, found = dict[str, int](), set[str]()
    for client in in_order(clients, granted):
        request = client.request
        counts[request.application] = counts.get(request.application, 0) + 1
        if counts[request.application] > MOST_DATABASES and request.username not in granted:
            found.add(request.username)
    return frozenset(found)


def noted(made: Made, holdings: Iterable[Holding], applications: dict[str, str]) -> Made:
    """The same with the databases that there are now.

    `applications` has the application of each client, by the client's user or its database's group.
    A database belongs to the first application that it was noted for.
    """
    databases = list[OwnDatabase]()
    for one in holdings:
        known = made.owner_of(one.oid) or one.application
        owners = made.names(CLIENT) | made.names(GROUP)
        application = known or (applications.get(one.owner, "") if one.owner in owners else "")
        if application:
            databases.append(OwnDatabase(name=one.name, oid=one.oid, application=application))
    return made.model_copy(update={"databases": tuple(databases)})


def roamed(
    holdings: Iterable[Holding], made: Made, grants: Iterable[Grant]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Databases that clients made for themselves: those a pool can have, and those none can have.

    A database of a group that the operator allowed a client, such as charmed_databases_owner, counts
    where PUBLIC cannot connect: a pool lets no stranger in then.
    """
    grants = tuple(grants)
    asked = {grant.database for grant in grants}
    own = {grant.username for grant in grants} | made.names(GROUP)
    groups = {role for grant in grants for role in grant.roles} & GROUPS
    found = [
        one.name
        for one in holdings
        if one.name not in asked
        and (
            (one.owner in own and one.owner != one.group) or (one.owner in groups and not one.open)
        )
    ]
    usable = tuple(sorted(name for name in found if not name_problem(name)))
    return usable, tuple(sorted(set(found).difference(usable)))
