"""What does each PgBouncer process of a unit run with, and what takes it there from what it runs with now?"""

import hashlib
import json
from collections.abc import Iterator
from typing import Literal

import pydantic

from domain import scram
from domain.capabilities import Capabilities, Version, capabilities
from domain.pools import AUTH_ALIAS, Plan, Pool, Serving, budget, pool_sizes, pools, serving
from domain.users import AuthMaterial
from domain.value import Value

# More processes than this on one address gain nothing: the kernel spreads connections at random.
MOST_INSTANCES = 16

MAX_CLIENTS = 10_000

# PgBouncer reads these when it starts, and never again.
RESTART = ("listen_addr", "listen_port", "unix_socket_dir", "so_reuseport", "peer_id", "pidfile")

AUTH_QUERY = "SELECT username, password FROM pgbouncer.get_auth($1)"

Setting = tuple[str, str]


class Layout(Value):
    """Where a platform keeps what belongs to its PgBouncer processes."""

    root: str  #: an absolute path
    listen_address: str = "*"
    with_pid_files: bool = False  #: where nothing supervises the processes

    def directory(self, index: int) -> str:
        """Configuration and socket of one process."""
        return f"{self.root}/{index}"

    def ini(self, index: int) -> str:
        """The configuration file of one process."""
        return f"{self.directory(index)}/pgbouncer.ini"

    @property
    def auth_file(self) -> str:
        """Names and secrets of PgBouncer's own users, for all processes."""
        return f"{self.root}/userlist.txt"


class Peer(Value):
    """A process that may hold the query a cancel request is for."""

    peer_id: int
    host: str  #: a directory is that of its socket; an address is that of its unit
    port: int


class Instance(Value):
    """All that one PgBouncer process runs with."""

    index: int
    port: int
    settings: tuple[Setting, ...]  #: of the section [pgbouncer], in its order
    pools: tuple[Pool, ...]
    peers: tuple[Peer, ...] = ()

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
    serving: Serving


def digest(data: object) -> str:
    """A short name for some plain data; the same in every process, unlike hash()."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:32]


def pooler_config(
    plan: Plan, unit: str, cpus: int, version: Version, layout: Layout, auth: AuthMaterial | None
) -> PoolerConfig:
    """Every line that the PgBouncer processes of this unit run with.

    Without `auth` nobody can be let in, so nothing is served.
    """
    if auth is None:
        plan = plan.without_upstream()
    limits = _limits(plan, unit, cpus)
    lines, able = pools(plan), capabilities(version)
    first = _first_peer_id(unit)
    places = _places(plan, len(limits))
    siblings = (
        Peer(peer_id=first + index, host=layout.directory(index), port=port)
        for index, port in places
    )
    peers = (*siblings, *_peers_elsewhere(plan, unit))
    instances = [
        Instance(
            index=index,
            port=port,
            settings=(
                *_listen(port, layout, index),
                ("peer_id", str(first + index)),
                *_auth(plan, layout, auth),
                *_pooling(plan, able, limit),
            ),
            pools=lines,
            peers=peers,
        )
        for (index, port), limit in zip(places, limits, strict=True)
    ]
    return PoolerConfig(
        instances=tuple(instances), users=_users(auth), serving=serving(plan, cpus)
    )


def _limits(plan: Plan, unit: str, cpus: int) -> tuple[int, ...]:
    return budget(plan, unit, max(1, min(cpus, MOST_INSTANCES))).limits


def _peers_elsewhere(plan: Plan, unit: str) -> Iterator[Peer]:
    """The processes of the other units, in a stable order.

    A unit is reached by its address, where the kernel picks any of its processes: that one passes a
    cancel request on to its sibling, which is the third hop, and the last that PgBouncer takes.
    """
    for member in plan.members:
        if member.name == unit or not member.address or not member.processors:
            continue
        first = _first_peer_id(member.name)
        count = len(_limits(plan, member.name, member.processors))
        for index, port in _places(plan, count):
            yield Peer(peer_id=first + index, host=member.address, port=port)


def _first_peer_id(unit: str) -> int:
    """Peer ids of different units never meet, and a unit keeps its own while others come and go."""
    number = unit.rpartition("/")[2]
    # PgBouncer takes ids up to 16383; five hundred units later they start again.
    return 1 + (int(number) if number.isdigit() else 0) % 500 * 2 * MOST_INSTANCES


def _places(plan: Plan, count: int) -> list[tuple[int, int]]:
    """Index and port of every process, those of the current port first."""
    each = count // len(plan.ports)
    return [
        ((plan.lane ^ turn) * MOST_INSTANCES + number, port)
        for turn, port in enumerate(plan.ports)
        for number in range(each)
    ]


def _listen(port: int, layout: Layout, index: int) -> tuple[Setting, ...]:
    directory = layout.directory(index)
    return (
        ("listen_addr", layout.listen_address),
        ("listen_port", str(port)),
        ("unix_socket_dir", directory),
        # Every process listens on the same port, and the kernel spreads the connections.
        ("so_reuseport", "1"),
        *((("pidfile", f"{directory}/pgbouncer.pid"),) if layout.with_pid_files else ()),
    )


def _auth(plan: Plan, layout: Layout, auth: AuthMaterial | None) -> tuple[Setting, ...]:
    lines: list[Setting] = [("auth_type", "scram-sha-256"), ("auth_file", layout.auth_file)]
    if auth:
        lines += [("stats_users", auth.stats_user), ("admin_users", auth.admin_user)]
    if plan.upstream:
        lines += [
            ("auth_user", plan.upstream.auth_user),
            ("auth_dbname", AUTH_ALIAS),
            ("auth_query", AUTH_QUERY),
        ]
    return tuple(lines)


def _pooling(plan: Plan, able: Capabilities, limit: int) -> tuple[Setting, ...]:
    settings, sizes = plan.settings, pool_sizes(limit)
    return (
        ("pool_mode", settings.pool_mode),
        ("max_client_conn", str(MAX_CLIENTS)),
        ("max_db_connections", str(limit)),
        ("default_pool_size", str(sizes.default)),
        ("min_pool_size", str(sizes.minimum)),
        ("reserve_pool_size", str(sizes.reserve)),
        ("max_prepared_statements", str(_prepared_statements(plan, able))),
        *_reset(plan, able),
        # `options` has to be listed: CVE-2026-107349 spins on it otherwise.
        ("ignore_startup_parameters", "extra_float_digits,options"),
    )


def _prepared_statements(plan: Plan, able: Capabilities) -> int:
    """How many statements PgBouncer keeps track of; 0 leaves them to the server.

    In session mode the server connection is the client's own, so its statements simply work. An
    old PgBouncer that tracked them would not notice that the reset removes them.
    """
    wanted = plan.settings.max_prepared_statements
    return wanted if able.knows_discard or plan.settings.pool_mode != "session" else 0


def _reset(plan: Plan, able: Capabilities) -> tuple[Setting, ...]:
    """A server connection is as new for whoever gets it next, in every pool mode.

    DISCARD ALL must stand alone: several statements in one string are one transaction, in which it
    fails, and then nothing is reset. Before 1.22 it breaks the prepared statements that PgBouncer
    keeps track of, so there its parts are spelled out, less the one about them.
    """
    if plan.settings.pool_mode == "session":
        return (("server_reset_query", "DISCARD ALL"),)
    query = "DISCARD ALL" if able.knows_discard else DISCARD_BUT_STATEMENTS
    return (("server_reset_query", query), ("server_reset_query_always", "1"))


# What DISCARD ALL stands for, less DEALLOCATE ALL
# (https://www.postgresql.org/docs/current/sql-discard.html).
DISCARD_BUT_STATEMENTS = (
    "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; "
    "SELECT pg_advisory_unlock_all(); DISCARD PLANS; DISCARD TEMP; DISCARD SEQUENCES"
)


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


class AppliedInstance(Value):
    """What one process was last told, as digests."""

    index: int
    restart: str
    reload: str


class Applied(Value):
    """What a platform remembers, beside the files, of the last configuration that it finished applying."""

    version: Version
    instances: tuple[AppliedInstance, ...]
    users: str
    serving: Serving


def applied(config: PoolerConfig, version: Version) -> Applied:
    """How to remember a configuration."""
    return Applied(
        version=version,
        instances=tuple(
            AppliedInstance(
                index=instance.index,
                restart=instance.restart_digest(),
                reload=digest(instance.model_dump(mode="json")),
            )
            for instance in config.instances
        ),
        users=digest([(user.name, user.secret.get_secret_value()) for user in config.users]),
        serving=config.serving,
    )


class Step(Value):
    """One thing to do to one process, in its turn."""

    action: Literal["start", "restart", "reload", "stop"]
    index: int


def steps(before: Applied | None, after: Applied, running: frozenset[int]) -> tuple[Step, ...]:
    """What takes the processes from one configuration to the next, one after another.

    A process that does not run is started; one that runs with another port, or with nobody knows
    what, is restarted; all else is a reload. Those that are too many are stopped last.
    """
    old = {one.index: one for one in before.instances} if before else {}
    users_changed = before is None or before.users != after.users
    found: list[Step] = []
    for new in after.instances:
        index = new.index
        if index not in running:
            found.append(Step(action="start", index=index))
        elif index not in old or old[index].restart != new.restart:
            found.append(Step(action="restart", index=index))
        elif users_changed or old[index].reload != new.reload:
            found.append(Step(action="reload", index=index))
    gone = sorted(running - {one.index for one in after.instances})
    return (*found, *(Step(action="stop", index=index) for index in gone))
