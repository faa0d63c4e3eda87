"""The pools of a PgBouncer process: the databases that they lead to, and their sizes."""

import re
from collections.abc import Iterable, Iterator

from domain.endpoints import Endpoint
from domain.overrides import MOST_CONNECTIONS
from domain.plan import AUTH_ALIASES, Plan, Serving, Upstream, share
from domain.rotation import twin
from domain.settings import Settings
from domain.value import PoolMode, Value

READ_ONLY_SUFFIX = "_readonly"

# Used where the operator set no limit; PgBouncer's own default, per user, database and process.
UNLIMITED_POOL_SIZE = 20

# The read-only pool of a database has this part of the limit: a third.
READ_ONLY_PART = 3

# Server connections of a process for password look-ups: so many that look-ups hardly ever queue.
AUTH_CONNECTIONS = 2

# As many of these connections stay open while no client logs in. PgBouncer opens such a connection again by itself
# when PostgreSQL has closed it, and so learns that PostgreSQL is down before a client asks: PgBouncer refuses a
# client at once only if the last connection of the pool has failed. Otherwise the first client of a process waits
# for `query_wait_timeout`.
STANDING_AUTH_CONNECTIONS = 1

# Seconds until an unused server connection to a database that a client made is closed. DROP DATABASE and CREATE
# DATABASE … TEMPLATE wait 5 s for the sessions of the database to end, and then fail. Measured with PgBouncer
# 1.26.1 and PostgreSQL 15, when the last client left 1 s before: with 30 s DROP DATABASE fails, with 5 s it takes
# 4.3 s, with 3 s it takes 2 s.
SHORT_LIFETIME = 2
_ALIAS_BYTES = 63

# The users of clients.
_CLIENT = re.compile(r"relation_id_[0-9]")


class Pool(Value):
    """A line of PgBouncer's section [databases]: a name for clients, and the server and database behind it."""

    alias: str
    hosts: tuple[str, ...]
    port: int
    # The name of the database in PostgreSQL.
    database: str
    # In each of these fields None means the value of the section [pgbouncer].
    # The most server connections of the database.
    connections: int | None = None
    # The most server connections of each user.
    size: int | None = None
    mode: PoolMode | None = None
    # Seconds.
    lifetime: int | None = None
    # Server connections that stay open without clients, and the user that PgBouncer opens them as.
    standing: int | None = None
    user: str = ""

    def without_standing_connections(self) -> "Pool":
        """Return this pool with server connections only while clients need them."""
        return self.model_copy(update={"standing": None, "user": ""})


def _auth_users(upstream: Upstream) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the two names by which passwords are looked up, each with its user; first that in use."""
    (other,) = set(AUTH_ALIASES) - {upstream.auth_alias}
    return (upstream.auth_alias, upstream.auth_user), (other, upstream.former_auth_user)


class PoolUser(Value):
    """A line of PgBouncer's section [users]: the settings of a user that differ from those of its pools."""

    name: str
    # The most server connections to all databases; None is no limit.
    connections: int | None = None
    # The most server connections to each database; None means the size of the pool.
    size: int | None = None
    # None means the mode of the pool.
    mode: PoolMode | None = None


class Part(Value):
    """The place of a process among all processes that divide the numbers of the options."""

    unit: int = 0
    units: int = 1
    process: int = 0
    processes: int = 1
    # Connections to a database; 0 is no limit.
    limit: int = 0
    # Read-only pools have connections if there are replicas.
    readers: bool = True

    def of(self, total: int) -> int:
        """Return the part of a number that this process has; all parts add up to the number."""
        return share(share(total, self.units, self.unit), self.processes, self.process)

    def connections(self, total: int) -> int:
        """Return the part of a number of connections: at least 1, and no more than the limit."""
        part = max(1, self.of(total))
        return min(part, self.limit) if self.limit else part


def part_of(
    plan: Plan, unit: str, process: int, processes: int, limit: int, *, readers: bool = True
) -> Part:
    """Return the part of a process of a unit. A unit that the plan does not have counts as the last unit."""
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
    """Return every pool of a process, in a stable order."""
    if plan.upstream is None:
        return ()
    lines = [*_look_up_pools(plan.upstream, part)]
    for name in sorted(set(plan.databases)):
        lines += _database_pools(plan, plan.upstream, part, name)
    return tuple(lines)


def _look_up_connections(limit: int) -> int:
    """Return the most server connections for password look-ups of a process with this limit; 0 is no limit."""
    return min(AUTH_CONNECTIONS, limit) if limit else AUTH_CONNECTIONS


def _look_up_pools(upstream: Upstream, part: Part) -> Iterator[Pool]:
    """Yield the pools by which passwords are looked up: two while the auth user changes.

    Their mode is transaction, whatever the options say: in session mode PgBouncer resets the server connection
    after each look-up, and PostgreSQL then plans the next look-up again (measured: 0.24 ms of 0.82 ms of
    PostgreSQL's processor time for a login). A look-up leaves nothing behind that a reset would clear.
    """
    hosts, port = _hosts_and_port(upstream.endpoints)
    most = _look_up_connections(part.limit)
    for alias, user in _auth_users(upstream):
        if user:
            yield Pool(
                alias=alias,
                hosts=hosts,
                port=port,
                database=upstream.auth_database,
                connections=most,
                size=most,
                mode="transaction",
                standing=STANDING_AUTH_CONNECTIONS,
                user=user,
            )


def _database_pools(plan: Plan, upstream: Upstream, part: Part, name: str) -> Iterator[Pool]:
    """Yield the pool of a database, and its read-only pool if replicas serve the database.

    Pools that lead to the same database divide the connections that the process may have to it.
    """
    alias = read_only_alias(plan, name) if part.readers else ""
    own, limit = plan.settings.overrides.of_database(name), part.limit
    allowed = part.connections(own.max_connections) if own.max_connections else limit
    size = part.connections(own.pool_size) if own.pool_size else None
    reads = read_only_part(allowed) if alias else 0
    look_ups = _look_up_connections(limit) if name == upstream.auth_database else 0
    writes = allowed - reads - look_ups
    hosts, port = _hosts_and_port(upstream.endpoints)
    pool = Pool(
        alias=name,
        hosts=hosts,
        port=port,
        database=name,
        connections=max(1, writes) if allowed and writes != limit else None,
        size=size,
        mode=own.pool_mode,
        lifetime=_lifetime(plan, name),
    )
    yield pool
    if alias:
        hosts, port = _hosts_and_port(upstream.read_only)
        connections = reads if allowed else None
        yield pool.model_copy(
            update={"alias": alias, "hosts": hosts, "port": port, "connections": connections}
        )


def _lifetime(plan: Plan, database: str) -> int | None:
    longer = plan.settings.server_lifetime > SHORT_LIFETIME
    return SHORT_LIFETIME if longer and database in plan.short_lived else None


def read_only_alias(plan: Plan, database: str) -> str:
    """Return the name by which clients reach a database on replicas.

    The name is '' without replicas, and for a database whose alias would be longer than PgBouncer allows.
    """
    alias = database + READ_ONLY_SUFFIX
    return alias if has_read_only_pools(plan) and len(alias.encode()) <= _ALIAS_BYTES else ""


def aliases_of(plan: Plan, databases: Iterable[str]) -> frozenset[str]:
    """Return the names by which clients reach these databases; ALL stands for itself."""
    names = frozenset(databases)
    readers = {read_only_alias(plan, name) for name in names if name}
    return names | (readers - {""})


def has_read_only_pools(plan: Plan) -> bool:
    """Return whether there are replicas, and connections enough for pools that lead to them."""
    total = plan.settings.max_db_connections
    replicas = plan.upstream.read_only if plan.upstream else ()
    return bool(replicas) and (not total or total >= least_for_read_only_pools(plan))


def read_only_part(limit: int) -> int:
    """Return the connections of a read-only pool; `limit` is what the process may have to the database."""
    return max(1, limit // READ_ONLY_PART)


def least_for_read_only_pools(plan: Plan) -> int:
    """Return the least max_db_connections with which every unit can have read-only pools.

    Each unit needs two connections on each of two ports, because the port may change.
    """
    return 4 * len(plan.members)


def _hosts_and_port(endpoints: tuple[Endpoint, ...]) -> tuple[tuple[str, ...], int]:
    """Return the hosts and the port of a pool: PgBouncer takes several hosts, but a single port."""
    port = endpoints[0].port
    return tuple(endpoint.host for endpoint in endpoints if endpoint.port == port), port


class PoolSizes(Value):
    """The sizes of every pool of a process that has no size of its own."""

    default: int
    minimum: int
    reserve: int


def pool_sizes(settings: Settings, part: Part) -> PoolSizes:
    """Return the sizes of every pool of a process that has no size of its own.

    Unless the operator sets a size, a single user may use the whole limit: when the limit is reached,
    PgBouncer closes idle connections of other users. The reserve stays under the limit, because a larger
    reserve would only delay the refusal.
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
    """Return every user that has an override now, or had an override before.

    An override holds for both names that rotations give a client, so that a client may log in with its new name at
    once. An entry for the name itself comes first.
    """
    listed = {user.name: user for user in plan.settings.overrides.users}
    names = {*plan.known_users, *listed}
    names |= {twin(name) for name in names if _CLIENT.match(name)}
    overrides = plan.settings.overrides
    users = ((name, listed.get(name) or overrides.of_user(twin(name))) for name in sorted(names))
    return tuple(
        PoolUser(
            name=name,
            connections=part.connections(own.max_connections) if own.max_connections else None,
            size=part.connections(own.pool_size) if own.pool_size else None,
            mode=own.pool_mode,
        )
        for name, own in users
    )


def serving(plan: Plan, processors: int, *, readers: bool = True) -> Serving:
    """Return what a unit serves when it runs by the plan; with `readers` it also serves read-only pools."""
    planned = pools(plan, Part(readers=readers))
    names = tuple(pool.alias for pool in planned if pool.alias not in AUTH_ALIASES)
    return Serving(
        port=plan.settings.listen_port,
        databases=names,
        processors=processors,
        revision=plan.revision,
    )
