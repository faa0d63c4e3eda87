"""Which pools lead where, and how large may they be?"""

from domain.endpoints import Endpoint
from domain.overrides import MOST_CONNECTIONS
from domain.plan import Plan, Serving, share
from domain.settings import Settings
from domain.value import PoolMode, Value

AUTH_ALIAS = "pgbouncer_auth"
READ_ONLY_SUFFIX = "_readonly"

# Used where the operator set no limit; PgBouncer's own default, per user, database and process.
UNLIMITED_POOL_SIZE = 20

# The part of a limit that the read-only pool of a database has, where there is one.
READ_ONLY_PART = 3

# Enough to look up passwords without a queue, few enough not to be noticed.
AUTH_CONNECTIONS = 2

# Seconds until idle connections to a short-lived database end: DROP DATABASE fails while there are any.
SHORT_LIFETIME = 30
_ALIAS_BYTES = 63


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


def serving(plan: Plan, processors: int, *, readers: bool = True) -> Serving:
    """What a unit serves once it runs as planned; `readers` is whether its read-only pools do."""
    found = pools(plan, Part(readers=readers))
    names = tuple(pool.alias for pool in found if pool.alias != AUTH_ALIAS)
    return Serving(port=plan.settings.listen_port, databases=names, processors=processors)
