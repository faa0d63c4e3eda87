"""Which pools lead where, and how large may they be?"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Annotated, Literal

import pydantic

from domain.overrides import MOST_CONNECTIONS, PoolMode
from domain.settings import Settings
from domain.value import Count, Line, Name, Value

AUTH_ALIAS = "pgbouncer_auth"
READ_ONLY_SUFFIX = "_readonly"
POSTGRESQL_PORT = 5432

# Used where the operator set no limit; PgBouncer's own default, per user, database and process.
UNLIMITED_POOL_SIZE = 20

# The part of a limit that the read-only pool of a database has, where there is one.
READ_ONLY_PART = 3

# Enough to look up passwords without a queue, few enough not to be noticed.
AUTH_CONNECTIONS = 2

# Seconds until an unused server connection to a database that a client made is closed. DROP DATABASE and CREATE
# DATABASE … TEMPLATE wait 5 s for the sessions of the database to end, and then fail. Measured with PgBouncer
# 1.26.1 and PostgreSQL 15, when the last client left 1 s before: with 30 s DROP DATABASE fails, with 5 s it takes
# 4.3 s, with 3 s it takes 2 s.
SHORT_LIFETIME = 2
_ALIAS_BYTES = 63
_PORTS = range(1, 65536)
_BRACKETED = re.compile(r"\[([^\]]*:[^\]]*)\](?::([^:]*))?")
_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")
_LONGEST_HOST = 253
_LONGEST_ENDPOINT = _LONGEST_HOST + len("[]:65535")

# PostgreSQL has fewer replicas; each is asked by a thread of its own.
MOST_ENDPOINTS = 64


def _is_host(text: str) -> bool:
    if len(text) > _LONGEST_HOST:
        return False
    if ":" not in text:
        return bool(_HOST.fullmatch(text))
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone means something to one machine only


def address_in(text: str) -> str:
    """The address that a text is; '' if it is none."""
    return text if _is_host(text) else ""


def _host(text: str) -> str:
    if not _is_host(text):
        raise ValueError("no host")
    return text


def _address(text: str) -> str:
    return _host(text) if text else text


Host = Annotated[str, pydantic.AfterValidator(_host)]
Address = Annotated[str, pydantic.AfterValidator(_address)]  #: '' is not known yet
Port = Annotated[int, pydantic.Field(ge=_PORTS.start, lt=_PORTS.stop)]


class Endpoint(Value):
    """Where a server listens. IPv6 addresses are kept without brackets."""

    host: Host
    port: Port

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoints_in(text: str) -> tuple[Endpoint, ...]:
    """The endpoints in `host:port,[2001:db8::1]:5432,other`; the port may be missing.

    Raises ValueError, with a sentence about the part that is no endpoint.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > MOST_ENDPOINTS:
        raise ValueError(f"there are {len(parts)} endpoints: {MOST_ENDPOINTS} are the most")
    return tuple(map(_endpoint, parts))


def _endpoint(text: str) -> Endpoint:
    host, port = text, ""
    if len(text) > _LONGEST_ENDPOINT:
        raise ValueError(f"{text[:80]!r}… is no endpoint")
    if bracketed := _BRACKETED.fullmatch(text):
        host, port = bracketed[1], bracketed[2] or ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else 0 if port else POSTGRESQL_PORT
    if number not in _PORTS or not _is_host(host):
        raise ValueError(f"{text[:80]!r} is no endpoint")
    return Endpoint(host=host, port=number)


def endpoints_text(endpoints: Iterable[Endpoint]) -> str:
    """Endpoints as they travel, separated by commas."""
    return ",".join(map(str, endpoints))


class Upstream(Value):
    """The PostgreSQL that the pools lead to, as every unit has to know it."""

    endpoints: tuple[Endpoint, ...] = pydantic.Field(min_length=1)
    read_only: tuple[Endpoint, ...] = ()
    auth_database: Line  #: where passwords are looked up
    auth_user: Line
    version: str = ""
    server: str = ""  #: which server answers there: another text is another server, or a new start


class Member(Value):
    """One unit of the application."""

    name: str
    address: Address
    processors: Count = 0  #: that its processes may use; 0 until it has said so
    share: Count = 0  #: of max_db_connections; means nothing where that is no limit


class DepartedUnit(Value):
    """A unit that is no member any more, and lets its last transactions end."""

    name: str
    address: Address
    held: Count  #: connections to one database that it may still have


class Plan(Value):
    """What the leader decided for all units: they do as it says and decide nothing."""

    settings: Settings
    members: tuple[Member, ...]  #: ordered by the units' numbers
    leavers: tuple[DepartedUnit, ...] = ()
    upstream: Upstream | None = None
    databases: tuple[Name, ...] = ()
    #: Earlier releases wrote true for pools that led every name to a database. It is always false now.
    everywhere: bool = False
    #: Databases that clients made: idle server connections to them end after SHORT_LIFETIME.
    short_lived: tuple[Name, ...] = ()
    #: Two sets of processes take turns when the port changes: a new one opens before the old closes.
    lane: Literal[0, 1] = 0
    former_port: Port | None = (
        None  #: still open on the other lane, for clients that know no other
    )
    #: Who ever had settings of its own: a reload that does not name a user leaves it what it had.
    known_users: tuple[Name, ...] = ()

    @property
    def ports(self) -> tuple[int, ...]:
        """Every port that is open, that of the settings first."""
        port = self.settings.listen_port
        return (port,) if self.former_port is None else (port, self.former_port)

    def share_of(self, unit: str) -> int:
        """The part of max_db_connections that a unit has; a stranger has none."""
        return next((member.share for member in self.members if member.name == unit), 0)

    def serves_by(self, unit: str) -> bool:
        """Whether this unit has what it takes to serve clients."""
        return not self.settings.max_db_connections or self.share_of(unit) > 0

    def without_upstream(self) -> "Plan":
        """The same plan, serving nobody."""
        return self.model_copy(update={"upstream": None, "databases": (), "short_lived": ()})


class Pool(Value):
    """One line of PgBouncer's [databases]: a name for clients, and where it leads."""

    alias: str
    hosts: tuple[str, ...]
    port: int
    database: str  #: the name of the database in PostgreSQL
    connections: int | None = None  #: at most; None leaves it to the configuration
    size: int | None = None  #: at most for each user; likewise
    mode: PoolMode | None = None  #: likewise
    lifetime: int | None = None  #: seconds; None leaves it to the configuration


class PoolUser(Value):
    """One line of PgBouncer's [users]: what is different for whoever logs in under this name."""

    name: str
    connections: int | None = None  #: at most, to all databases; None is no limit
    size: int | None = None  #: at most to each database; None leaves it to the pool
    mode: PoolMode | None = None  #: likewise


class Part(Value):
    """Where one process stands among those that share what the options give to the application."""

    unit: int = 0
    units: int = 1
    process: int = 0
    processes: int = 1
    limit: int = 0  #: connections to one database; 0 is no limit
    readers: bool = True  #: whether its read-only pools have connections, where there are replicas

    def of(self, total: int) -> int:
        """The part of a number; all parts add up to it."""
        return share(share(total, self.units, self.unit), self.processes, self.process)

    def connections(self, total: int) -> int:
        """The part of a number of connections: at least one, and no more than the limit."""
        found = max(1, self.of(total))
        return min(found, self.limit) if self.limit else found


def part_of(
    plan: Plan, unit: str, process: int, processes: int, limit: int, *, readers: bool = True
) -> Part:
    """The part of one process of a unit. A stranger to the plan comes last."""
    names = [member.name for member in plan.members]
    last = max(1, len(names)) - 1
    return Part(
        unit=names.index(unit) if unit in names else last,
        units=last + 1,
        process=process,
        processes=processes,
        limit=limit,
        readers=readers,
    )


WHOLE = Part()


def pools(plan: Plan, part: Part = WHOLE) -> tuple[Pool, ...]:
    """Every pool of one process, in a stable order.

    Pools that lead to the same database divide what the process may have of it.
    """
    if plan.upstream is None:
        return ()
    hosts, port = _reachable_as_one(plan.upstream.endpoints)
    auth_database, limit = plan.upstream.auth_database, part.limit
    look_ups = min(AUTH_CONNECTIONS, limit) if limit else AUTH_CONNECTIONS
    found = [
        Pool(
            alias=AUTH_ALIAS,
            hosts=hosts,
            port=port,
            database=auth_database,
            connections=look_ups,
            size=look_ups,
        )
    ]
    for name in sorted(set(plan.databases)):
        alias = read_only_alias(plan, name) if part.readers else ""
        own = plan.settings.overrides.of_database(name)
        allowed = part.connections(own.max_connections) if own.max_connections else limit
        size = part.connections(own.pool_size) if own.pool_size else None
        reads = read_only_part(allowed) if alias else 0
        writes = allowed - reads - (look_ups if name == auth_database else 0)
        found.append(
            Pool(
                alias=name,
                hosts=hosts,
                port=port,
                database=name,
                connections=max(1, writes) if allowed and writes != limit else None,
                size=size,
                mode=own.pool_mode,
                lifetime=_lifetime(plan, name),
            )
        )
        if alias:
            readers, readers_port = _reachable_as_one(plan.upstream.read_only)
            found.append(
                Pool(
                    alias=alias,
                    hosts=readers,
                    port=readers_port,
                    database=name,
                    connections=reads if allowed else None,
                    size=size,
                    mode=own.pool_mode,
                    lifetime=_lifetime(plan, name),
                )
            )
    return tuple(found)


def _lifetime(plan: Plan, database: str) -> int | None:
    longer = plan.settings.server_lifetime > SHORT_LIFETIME
    return SHORT_LIFETIME if longer and database in plan.short_lived else None


def read_only_alias(plan: Plan, database: str) -> str:
    """The name under which replicas answer for a database.

    '' without replicas, and for a name so long that PgBouncer could not tell the two apart.
    """
    alias = database + READ_ONLY_SUFFIX
    return alias if has_read_only_pools(plan) and len(alias.encode()) <= _ALIAS_BYTES else ""


def has_read_only_pools(plan: Plan) -> bool:
    """Whether there are replicas, and connections enough for pools that lead to them."""
    total = plan.settings.max_db_connections
    replicas = plan.upstream.read_only if plan.upstream else ()
    return bool(replicas) and (not total or total >= least_for_read_only_pools(plan))


def read_only_part(limit: int) -> int:
    """The connections of a read-only pool, of all that a process may have to its database."""
    return max(1, limit // READ_ONLY_PART)


def least_for_read_only_pools(plan: Plan) -> int:
    """The max_db_connections that every unit can have both kinds of pools with.

    Two on each of two ports, because the port may change.
    """
    return 4 * len(plan.members)


def _reachable_as_one(endpoints: tuple[Endpoint, ...]) -> tuple[tuple[str, ...], int]:
    """Hosts and port of one pool: PgBouncer takes several hosts, but one port for all of them."""
    port = endpoints[0].port
    return tuple(endpoint.host for endpoint in endpoints if endpoint.port == port), port


def share(total: int, parts: int, index: int) -> int:
    """Part `index` of `total`: shares differ by one at most and add up to the total."""
    return total // parts + (index < total % parts)


class PoolSizes(Value):
    """Sizes of every pool of one process."""

    default: int
    minimum: int
    reserve: int


def pool_sizes(settings: Settings, part: Part) -> PoolSizes:
    """Sizes of every pool of a process that has no size of its own.

    Unless the operator says otherwise, any one user may use all of the limit: PgBouncer takes idle
    connections from the others when it is reached. A reserve that does not fit under the limit would
    only delay what the limit then refuses.
    """
    if settings.default_pool_size:
        default = part.connections(settings.default_pool_size)
    else:
        default = min(part.limit, MOST_CONNECTIONS) or UNLIMITED_POOL_SIZE
    reserve = part.of(settings.reserve_pool_size)
    return PoolSizes(
        default=default,
        minimum=min(part.of(settings.min_pool_size), default),
        reserve=min(reserve, part.limit - default) if part.limit else reserve,
    )


def pool_users(plan: Plan, part: Part) -> tuple[PoolUser, ...]:
    """Every user that has settings of its own, and those that once had."""
    overrides = plan.settings.overrides
    names = sorted({*plan.known_users, *(one.name for one in overrides.users)})
    return tuple(
        PoolUser(
            name=own.name,
            connections=part.connections(own.max_connections) if own.max_connections else None,
            size=part.connections(own.pool_size) if own.pool_size else None,
            mode=own.pool_mode,
        )
        for own in map(overrides.of_user, names)
    )


class Serving(Value):
    """What the PgBouncer of one unit serves just now."""

    port: Port
    databases: tuple[str, ...] = ()
    processors: Count = 0  #: that its processes may use

    def serves(self, database: str, port: int) -> bool:
        """Whether a client of this database would be let in at this port."""
        return port == self.port and database in self.databases


def serving(plan: Plan, processors: int, *, readers: bool = True) -> Serving:
    """What a unit serves once it runs as planned; `readers` is whether its read-only pools do."""
    found = pools(plan, Part(readers=readers))
    names = tuple(pool.alias for pool in found if pool.alias != AUTH_ALIAS)
    return Serving(port=plan.settings.listen_port, databases=names, processors=processors)
