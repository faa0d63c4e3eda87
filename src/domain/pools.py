"""Which pools lead where, and how large may they be?"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Literal

import pydantic

from domain.settings import Settings
from domain.value import Value

AUTH_ALIAS = "pgbouncer_auth"
READ_ONLY_SUFFIX = "_readonly"
POSTGRESQL_PORT = 5432

# Used where the operator set no limit; PgBouncer's own default, per user, database and process.
UNLIMITED_POOL_SIZE = 20

# Enough to look up passwords without a queue, few enough not to be noticed.
AUTH_CONNECTIONS = 2

_ALIAS_BYTES = 63
_PORTS = range(1, 65536)
_BRACKETED = re.compile(r"\[([^\]]*:[^\]]*)\](?::([^:]*))?")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?")


class Endpoint(Value):
    """Where a server listens. IPv6 addresses are kept without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def endpoints_in(text: str) -> tuple[Endpoint, ...]:
    """The endpoints in `host:port,[2001:db8::1]:5432,other`; the port may be missing.

    Raises ValueError, with a sentence about the part that is no endpoint.
    """
    return tuple(_endpoint(part.strip()) for part in text.split(",") if part.strip())


def _endpoint(text: str) -> Endpoint:
    host, port = text, ""
    if bracketed := _BRACKETED.fullmatch(text):
        host, port = bracketed[1], bracketed[2] or ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else 0 if port else POSTGRESQL_PORT
    if number not in _PORTS or not _is_host(host):
        raise ValueError(f"{text[:80]!r} is no endpoint")
    return Endpoint(host=host, port=number)


def _is_host(text: str) -> bool:
    if ":" not in text:
        return bool(_HOST.fullmatch(text))
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone means something to one machine only


def endpoints_text(endpoints: Iterable[Endpoint]) -> str:
    """Endpoints as they travel, separated by commas."""
    return ",".join(map(str, endpoints))


class Upstream(Value):
    """The PostgreSQL that the pools lead to, as every unit has to know it."""

    endpoints: tuple[Endpoint, ...] = pydantic.Field(min_length=1)
    read_only: tuple[Endpoint, ...] = ()
    auth_database: str  #: where passwords are looked up
    auth_user: str
    version: str = ""


class Member(Value):
    """One unit of the application."""

    name: str
    address: str
    processors: int = 0  #: that its processes may use; 0 until it has said so


class Plan(Value):
    """What the leader decided for all units: they do as it says and decide nothing."""

    settings: Settings
    members: tuple[Member, ...]  #: ordered by the units' numbers
    upstream: Upstream | None = None
    databases: tuple[str, ...] = ()
    everywhere: bool = False  #: somebody may use databases that nobody asked for by name
    #: Two sets of processes take turns when the port changes: a new one opens before the old closes.
    lane: Literal[0, 1] = 0
    former_port: int | None = None  #: still open on the other lane, for clients that know no other

    @property
    def ports(self) -> tuple[int, ...]:
        """Every port that is open, that of the settings first."""
        port = self.settings.listen_port
        return (port,) if self.former_port is None else (port, self.former_port)

    def without_upstream(self) -> "Plan":
        """The same plan, serving nobody."""
        return self.model_copy(update={"upstream": None, "databases": (), "everywhere": False})


class Pool(Value):
    """One line of PgBouncer's [databases]: a name for clients, and where it leads."""

    alias: str  #: `*` is any name that has no line of its own
    hosts: tuple[str, ...]
    port: int
    database: str = ""  #: on the server; '' is the name that the client gave
    connections: int | None = None  #: at most; None leaves it to the configuration


def pools(plan: Plan) -> tuple[Pool, ...]:
    """Every pool of a plan, in a stable order."""
    if plan.upstream is None:
        return ()
    hosts, port = _reachable_as_one(plan.upstream.endpoints)
    found = [
        Pool(
            alias=AUTH_ALIAS,
            hosts=hosts,
            port=port,
            database=plan.upstream.auth_database,
            connections=AUTH_CONNECTIONS,
        )
    ]
    for name in sorted(set(plan.databases)):
        found.append(Pool(alias=name, hosts=hosts, port=port, database=name))
        if alias := read_only_alias(plan, name):
            readers, readers_port = _reachable_as_one(plan.upstream.read_only)
            found.append(Pool(alias=alias, hosts=readers, port=readers_port, database=name))
    if plan.everywhere:
        found.append(Pool(alias="*", hosts=hosts, port=port))
    return tuple(found)


def read_only_alias(plan: Plan, database: str) -> str:
    """The name under which replicas answer for a database.

    '' without replicas, and for a name so long that PgBouncer could not tell the two apart.
    """
    alias = database + READ_ONLY_SUFFIX
    has_one = plan.upstream and plan.upstream.read_only and len(alias.encode()) <= _ALIAS_BYTES
    return alias if has_one else ""


def _reachable_as_one(endpoints: tuple[Endpoint, ...]) -> tuple[tuple[str, ...], int]:
    """Hosts and port of one pool: PgBouncer takes several hosts, but one port for all of them."""
    port = endpoints[0].port
    return tuple(endpoint.host for endpoint in endpoints if endpoint.port == port), port


def share(total: int, parts: int, index: int) -> int:
    """Part `index` of `total`: shares differ by one at most and add up to the total."""
    return total // parts + (index < total % parts)


class Budget(Value):
    """How one unit spends its share of max_db_connections."""

    limits: tuple[int, ...]  #: for each PgBouncer process, connections per database; 0 is no limit


def budget(plan: Plan, unit: str, cpus: int) -> Budget:
    """The share of a unit, given how many processors its workload may use.

    Every open port has as many processes as the others, and there are fewer where the share is too
    small for one connection each. A unit that the plan does not name yet gets the smallest share,
    and so does one for which nothing is left: `max_db_connections` below the number of units
    cannot be kept (status says so).
    """
    total, count = plan.settings.max_db_connections, max(1, len(plan.members))
    ports = len(plan.ports)
    if not total:
        return Budget(limits=(0,) * cpus * ports)
    names = [member.name for member in plan.members]
    mine = share(total, count, names.index(unit)) if unit in names else total // count
    processes = max(1, min(cpus, mine // ports)) * ports
    return Budget(limits=tuple(max(1, share(mine, processes, i)) for i in range(processes)))


class PoolSizes(Value):
    """Sizes of every pool of one process."""

    default: int
    minimum: int
    reserve: int


def pool_sizes(limit: int) -> PoolSizes:
    """Sizes under a limit of connections per database; 0 is no limit.

    Under a limit any one user may use all of it: PgBouncer takes idle connections from the others
    when it is reached. A reserve on top would only delay what the limit then refuses.
    """
    if not limit:
        return PoolSizes(default=UNLIMITED_POOL_SIZE, minimum=0, reserve=UNLIMITED_POOL_SIZE // 2)
    return PoolSizes(default=limit, minimum=0, reserve=0)


class Serving(Value):
    """What the PgBouncer of one unit serves just now."""

    port: int
    databases: tuple[str, ...] = ()
    processors: int = 0  #: that its processes may use

    def serves(self, database: str, port: int) -> bool:
        """Whether a client of this database would be let in at this port."""
        return port == self.port and (database in self.databases or "*" in self.databases)


def serving(plan: Plan, processors: int) -> Serving:
    """What a unit serves once it runs as planned."""
    names = tuple(pool.alias for pool in pools(plan) if pool.alias != AUTH_ALIAS)
    return Serving(port=plan.settings.listen_port, databases=names, processors=processors)
