"""What does each PgBouncer process of a unit run with?"""

import hashlib
import json
from collections.abc import Iterator, Sequence

import pydantic

from domain import scram
from domain.budget import MOST_PROCESSES, Process, processes
from domain.capabilities import (
    CLIENT_LIMITS,
    OWN_LIFETIMES,
    OWN_USERS,
    PgBouncerRuntime,
    Version,
    version_in,
)
from domain.hba import Rule, access_rules
from domain.overrides import usable
from domain.pools import (
    AUTH_ALIAS,
    UNLIMITED_POOL_SIZE,
    Part,
    Plan,
    Pool,
    PoolUser,
    Serving,
    part_of,
    pool_sizes,
    pool_users,
    pools,
    serving,
)
from domain.reset import reset_settings
from domain.users import AuthMaterial, Login
from domain.value import Value, number_of

MAX_CLIENTS = 10_000

# Fewer than that are no pool.
MIN_CLIENTS = 100

# Files of a process that are neither clients nor servers: logs, sockets, peers.
_OTHER_FILES = 100

# Seconds that a login may take, including its wait for a server connection. A client that has not logged in
# occupies a file and as much memory as max_packet_size allows, so no option makes this longer.
LOGIN_SECONDS = 60

# PgBouncer reads these when it starts, and never again.
RESTART = ("listen_addr", "listen_port", "unix_socket_dir", "so_reuseport", "peer_id", "pidfile")

AUTH_QUERY = "SELECT username, password FROM pgbouncer.get_auth($1)"

IniLine = tuple[str, str]


class Layout(Value):
    """Where a platform keeps what belongs to its PgBouncer processes."""

    root: str  #: an absolute path
    sockets: str = ""  #: directory of sockets and pid files; '' if it is `root`
    listen_address: str = "*"
    with_pid_files: bool = False  #: where nothing supervises the processes

    def directory(self, index: int) -> str:
        """Return the directory of the configuration of a process."""
        return f"{self.root}/{index}"

    def socket_directory(self, index: int) -> str:
        """Return the directory of the pid file and of the socket, for clients and the console, of a process."""
        return f"{self.sockets or self.root}/{index}"

    def ini(self, index: int) -> str:
        """The configuration file of one process."""
        return f"{self.directory(index)}/pgbouncer.ini"

    @property
    def auth_file(self) -> str:
        """Names and secrets of PgBouncer's own users, for all processes."""
        return f"{self.root}/userlist.txt"

    @property
    def hba_file(self) -> str:
        """Return the path of the HBA file of all processes."""
        return f"{self.root}/hba.conf"


class CancelPeer(Value):
    """A process that may hold the query a cancel request is for."""

    peer_id: int
    host: str  #: a directory is that of its socket; an address is that of its unit
    port: int


class Instance(Value):
    """All that one PgBouncer process runs with."""

    index: int
    port: int
    limit: int = 0  #: connections to one database; 0 is no limit
    readers: bool = False  #: whether read-only pools have their part of that
    settings: tuple[IniLine, ...]  #: of the section [pgbouncer], in its order
    pools: tuple[Pool, ...]
    users: tuple[PoolUser, ...] = ()
    peers: tuple[CancelPeer, ...] = ()

    def restart_digest(self) -> str:
        """Changes when a reload would not be enough."""
        return digest([pair for pair in self.settings if pair[0] in RESTART])


class ConsoleUser(Value):
    """A line of the auth file."""

    name: str
    secret: (
        pydantic.SecretStr
    )  #: a verifier, or the password where PgBouncer has to log in with it


class PoolerConfig(Value):
    """All that the PgBouncer processes of one unit run with."""

    instances: tuple[Instance, ...]
    users: tuple[ConsoleUser, ...]
    rules: tuple[Rule, ...]  #: the rules of the HBA file
    serving: Serving
    server: str = ""  #: which PostgreSQL the pools lead to
    admin: Login | None = None  #: for the consoles; None where nobody may use them


def digest(data: object) -> str:
    """A short name for some plain data; the same in every process, unlike hash()."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]


def pooler_config(
    plan: Plan,
    unit: str,
    program: PgBouncerRuntime,
    layout: Layout,
    auth: AuthMaterial | None,
    run: Sequence[Process] | None = None,
) -> PoolerConfig:
    """Every line that the PgBouncer processes of this unit run with.

    `run` tells which of the planned processes run already, and with how many connections. Without
    `auth` nobody can be let in, so nothing is served.
    """
    if auth is None:
        plan = plan.without_upstream()
    plan = _possible(plan, program.version)
    first = _first_peer_id(unit)
    planned = processes(plan, unit, program.cpus)
    run = planned if run is None else run
    siblings = (
        CancelPeer(
            peer_id=first + one.index, host=layout.socket_directory(one.index), port=one.port
        )
        for one in planned
    )
    peers = (*siblings, *_peers_elsewhere(plan, unit))
    instances = tuple(
        Instance(
            index=one.index,
            port=one.port,
            limit=one.limit,
            readers=one.readers,
            settings=(
                *_listen(one.port, layout, one.index),
                ("peer_id", str(first + one.index)),
                *_auth(plan, layout, auth),
                *_pooling(plan, program.version, part, program.files),
            ),
            pools=pools(plan, part),
            users=pool_users(plan, part),
            peers=peers,
        )
        for one, part in zip(run, _parts(plan, unit, planned, run), strict=True)
    )
    # Processes of a new port may have to wait until those of the old one have given up connections.
    open_now = [one for one in run if one.port == plan.settings.listen_port]
    served = plan if open_now else plan.without_upstream()
    readers = all(one.readers for one in open_now)
    admin = auth and Login(username=auth.admin_user, password=auth.admin_password)
    return PoolerConfig(
        instances=instances,
        users=_users(auth),
        rules=access_rules(auth),
        serving=serving(served, program.cpus, readers=readers),
        server=plan.upstream.server if plan.upstream else "",
        admin=admin,
    )


def _possible(plan: Plan, version: Version) -> Plan:
    """The plan, less what this PgBouncer cannot do."""
    overrides = usable(plan.settings.overrides, version)
    settings = plan.settings.model_copy(update={"overrides": overrides})
    update = {
        "settings": settings,
        "known_users": plan.known_users if version >= OWN_USERS else (),
        "short_lived": plan.short_lived if version >= OWN_LIFETIMES else (),
    }
    return plan.model_copy(update=update)


def _parts(
    plan: Plan, unit: str, planned: Sequence[Process], run: Sequence[Process]
) -> Iterator[Part]:
    """The part of each process that runs. Those that have to wait keep their places."""
    for one in run:
        place = sum(other.index < one.index for other in planned)
        yield part_of(plan, unit, place, len(planned), one.limit, readers=one.readers)


def _peers_elsewhere(plan: Plan, unit: str) -> Iterator[CancelPeer]:
    """The processes of the other units, in a stable order.

    A unit is reached by its address, where the kernel picks any of its processes: that one passes a
    cancel request on to its sibling, which is the third hop, and the last that PgBouncer takes.
    """
    for member in plan.members:
        if member.name == unit or not member.address or not member.processors:
            continue
        first = _first_peer_id(member.name)
        for one in processes(plan, member.name, member.processors):
            yield CancelPeer(peer_id=first + one.index, host=member.address, port=one.port)


def _first_peer_id(unit: str) -> int:
    """Peer ids of different units never meet, and a unit keeps its own while others come and go."""
    # PgBouncer takes ids up to 16383; five hundred units later they start again.
    return 1 + number_of(unit) % 500 * 2 * MOST_PROCESSES


def _listen(port: int, layout: Layout, index: int) -> tuple[IniLine, ...]:
    return (
        ("listen_addr", layout.listen_address),
        ("listen_port", str(port)),
        ("unix_socket_dir", layout.socket_directory(index)),
        # Every process listens on the same port, and the kernel spreads the connections.
        ("so_reuseport", "1"),
        *(
            (("pidfile", f"{layout.socket_directory(index)}/pgbouncer.pid"),)
            if layout.with_pid_files
            else ()
        ),
    )


def _auth(plan: Plan, layout: Layout, auth: AuthMaterial | None) -> tuple[IniLine, ...]:
    lines: list[IniLine] = [
        ("auth_type", "hba"),
        ("auth_hba_file", layout.hba_file),
        ("auth_file", layout.auth_file),
    ]
    if auth:
        lines += [("stats_users", auth.stats_user), ("admin_users", auth.admin_user)]
    if plan.upstream:
        lines += [
            ("auth_user", plan.upstream.auth_user),
            ("auth_dbname", AUTH_ALIAS),
            ("auth_query", AUTH_QUERY),
        ]
    return tuple(lines)


def _pooling(plan: Plan, version: Version, part: Part, files: int) -> tuple[IniLine, ...]:
    settings, sizes = plan.settings, pool_sizes(plan.settings, part)
    clients = most_clients(plan, part.limit, files)
    return (
        ("pool_mode", settings.pool_mode),
        ("max_client_conn", str(clients)),
        *_client_limits(clients, version),
        ("max_db_connections", str(part.limit)),
        ("default_pool_size", str(sizes.default)),
        ("min_pool_size", str(sizes.minimum)),
        ("reserve_pool_size", str(sizes.reserve)),
        # In session mode, where a client keeps its server connection, PgBouncer tracks no prepared statement.
        ("max_prepared_statements", str(settings.max_prepared_statements)),
        *reset_settings(
            settings, version, version_in(plan.upstream.version) if plan.upstream else None
        ),
        ("query_wait_timeout", str(settings.query_wait_timeout)),
        ("client_login_timeout", str(LOGIN_SECONDS)),
        ("query_timeout", str(settings.query_timeout)),
        ("idle_transaction_timeout", str(settings.idle_transaction_timeout)),
        ("client_idle_timeout", str(settings.client_idle_timeout)),
        ("server_idle_timeout", str(settings.server_idle_timeout)),
        ("server_lifetime", str(settings.server_lifetime)),
        # A server that comes back, or another one, is found at once.
        ("server_connect_timeout", "5"),
        ("server_login_retry", "1"),
        ("dns_max_ttl", "5"),
        # Nobody stays on a server that is not ours any more: sessions end between transactions.
        ("server_fast_close", "1"),
        # A machine that went silent is given up after half a minute.
        ("tcp_keepidle", "10"),
        ("tcp_keepintvl", "5"),
        ("tcp_keepcnt", "3"),
        ("tcp_user_timeout", "25000"),
        # A peer that is gone keeps nobody who cancels. Nor does PgBouncer, which forwards one request to a
        # peer at a time and forgets those that came in the same moment: they can be sent again.
        ("cancel_wait_timeout", "1"),
        # The size of a packet limits the memory that a client without credentials can occupy.
        ("max_packet_size", str(settings.max_packet_size)),
        # The last comma adds an empty name: before 1.26.1 PgBouncer searches for an empty name, and without it
        # loops for ever (CVE-2026-107349). `options` is not listed, so that PgBouncer keeps or refuses a setting
        # in `options` like a startup parameter, and never drops it.
        ("ignore_startup_parameters", "extra_float_digits,"),
    )


def _client_limits(clients: int, version: Version) -> tuple[IniLine, ...]:
    """Return the limits that keep a single user or database from using all client connections of a process."""
    if version < CLIENT_LIMITS:
        return ()
    most = str(max(1, clients * 3 // 4))
    return (("max_user_client_connections", most), ("max_db_client_connections", most))


def most_clients(plan: Plan, limit: int, files: int) -> int:
    """How many clients a process can have: each is a file, and so is each connection to PostgreSQL.

    `files` is how many it may open; 0 if that is not known.
    """
    if not files:
        return MAX_CLIENTS
    free = max(1, files - _OTHER_FILES)
    servers = (limit or UNLIMITED_POOL_SIZE) * (1 + len(plan.databases))
    # A limit far above PostgreSQL's max_connections must not reserve the files that clients need.
    return max(1, min(MAX_CLIENTS, max(free - servers, free // 2)))


def _users(auth: AuthMaterial | None) -> tuple[ConsoleUser, ...]:
    if auth is None:
        return ()
    # PgBouncer logs in to PostgreSQL as the auth user, for which it needs the password itself.
    found = [ConsoleUser(name=auth.auth_user, secret=auth.auth_password)]
    for name, password in (
        (auth.stats_user, auth.stats_password),
        (auth.admin_user, auth.admin_password),
    ):
        secret = scram.verifier(name, password.get_secret_value())
        found.append(ConsoleUser(name=name, secret=pydantic.SecretStr(secret)))
    return tuple(found)
