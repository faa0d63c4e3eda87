"""The complete configuration of each PgBouncer process of a unit."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import pydantic

from domain import scram
from domain.budget import MOST_PROCESSES, processes
from domain.capabilities import PgBouncerRuntime
from domain.certificate_logins import TrustedLogin
from domain.client_tls import ClientTls, served_tls
from domain.endpoints import Endpoint
from domain.hba import Rule, access_rules
from domain.ini_lines import (
    IniLine,
    listening,
    logging_lines,
    looking_up,
    pooling,
    server_tls,
)
from domain.layout import Layout, PemFile
from domain.plan import Plan, Serving
from domain.pools import (
    Part,
    Pool,
    PoolUser,
    aliases_of,
    part_of,
    pool_users,
    serving,
)
from domain.process import Process
from domain.supported import supported_part, supported_pools
from domain.tls import ServedPair
from domain.users import AuthMaterial, Login
from domain.value import Count, Value, digest, number_of

# With a limit of open files that allows fewer clients than this, the status is blocked.
MIN_CLIENTS = 100

# PgBouncer reads these settings only when it starts.
RESTART = ("listen_addr", "listen_port", "unix_socket_dir", "so_reuseport", "peer_id", "pidfile")

# A unit that serves no TLS to clients.
NO_TLS = ClientTls()


class CancelPeer(Value):
    """A PgBouncer process to which a process forwards cancel requests."""

    peer_id: int
    # The directory of the socket of the process, or the address of its unit.
    host: str
    port: int


class Instance(Process):
    """The configuration of a PgBouncer process."""

    # The lines of the section [pgbouncer], in their order.
    settings: tuple[IniLine, ...]
    pools: tuple[Pool, ...]
    users: tuple[PoolUser, ...] = ()
    peers: tuple[CancelPeer, ...] = ()
    # The number of `Plan.restarts` with which the process runs, or will be started.
    restarts: Count = 0

    def restart_digest(self) -> str:
        """Return a digest of all that takes effect only when PgBouncer starts."""
        lines = [pair for pair in self.settings if pair[0] in RESTART]
        return digest([*lines, ("restarts", self.restarts)] if self.restarts else lines)

    def reload_digest(self) -> str:
        """Return a digest of the whole configuration, without what a record of an earlier release lacks."""
        unset = () if self.restarts else ("restarts",)
        return digest(self.model_dump(mode="json", exclude=set(unset)))


class ConsoleUser(Value):
    """A line of the auth file."""

    name: str
    # A SCRAM verifier, or a password if PgBouncer logs in to PostgreSQL with it.
    secret: pydantic.SecretStr


class PoolerConfig(Value):
    """The configuration of all PgBouncer processes of a unit."""

    instances: tuple[Instance, ...]
    users: tuple[ConsoleUser, ...]
    # The rules of the HBA file.
    rules: tuple[Rule, ...]
    serving: Serving
    # The PostgreSQL server that the pools lead to: where it listens, and its identity.
    upstream: Endpoint | None = None
    server: str = ""
    # The login for the consoles; None if no user may use them.
    admin: Login | None = None
    # The certificates and keys that lines of the processes name.
    pem_files: tuple[PemFile, ...] = ()
    # Of these, the key, the chain and the authorities for clients; () if the processes serve no TLS.
    client_files: tuple[PemFile, ...] = ()
    # Clients can log in over the network only with TLS.
    tls_only: bool = False
    # The clients whose certificates the processes trust.
    trusted: tuple[TrustedLogin, ...] = ()
    # The databases that are paused, and the numbers of the last RECONNECT and of the last order to disconnect
    # clients.
    paused: tuple[str, ...] = ()
    reconnects: Count = 0
    kills: Count = 0

    def with_instances(self, instances: Iterable[Instance]) -> "PoolerConfig":
        """Return this configuration with other processes."""
        return self.model_copy(update={"instances": tuple(instances)})


def pooler_config(
    plan: Plan,
    unit: str,
    program: PgBouncerRuntime,
    layout: Layout,
    auth: AuthMaterial | None,
    run: Sequence[Process] | None = None,
    tls: ClientTls = NO_TLS,
    *,
    exported: bool = False,
    restarts: Mapping[int, int] | None = None,
) -> PoolerConfig:
    """Return the configuration of the PgBouncer processes of this unit.

    `run` has the planned processes that can run now, with their limits; None for all of them. Without
    `auth` no client can log in, so the configuration serves no database. `exported` says whether exporters
    read the metrics of the processes. `restarts` has the number of the restart of each process, by index;
    without it, the number that the unit may carry out.
    """
    if auth is None:
        plan = plan.without_upstream()
    plan = supported_part(plan, program.version)
    planned = processes(plan, unit, program.cpus)
    run = planned if run is None else run
    first, peers = _first_peer_id(unit), tuple(_peers(plan, unit, planned, layout))
    required = plan.settings.client_tls_sslmode == "require"
    passwords = {login.username: login.password for login in auth.clients} if auth else {}
    served = served_tls(plan, program, layout, tls, passwords)
    server_lines, server_files = server_tls(plan.upstream, layout)
    allowed = plan.restarts_of(unit)
    instances = tuple(
        Instance(
            index=process.index,
            port=process.port,
            limit=process.limit,
            readers=process.readers,
            settings=(
                *listening(process.port, layout, process.index),
                ("peer_id", str(first + process.index)),
                *looking_up(plan, layout, auth),
                *server_lines,
                *served.lines(required=required),
                *pooling(plan, program.version, part, program.files),
                *logging_lines(plan.settings, exported=exported),
            ),
            pools=supported_pools(plan, program.version, part),
            users=pool_users(plan, part),
            peers=peers,
            restarts=allowed if restarts is None else restarts.get(process.index, allowed),
        )
        for process, part in zip(run, _parts(plan, unit, planned, run), strict=True)
    )
    by_certificate = (ConsoleUser(name=name, secret=passwords[name]) for name in passwords)
    return PoolerConfig(
        instances=instances,
        users=(*_users(auth), *by_certificate),
        rules=access_rules(
            auth,
            tls_only=required,
            md5=plan.md5_logins,
            certificate_map=served.map_name,
            by_certificate=served.admitted,
            disabled=tuple(sorted(aliases_of(plan, plan.disabled))),
        ),
        serving=_report(plan, program.cpus, run, auth, tls.pair).admitting(served.admitted),
        upstream=plan.upstream.endpoints[0] if plan.upstream else None,
        server=plan.upstream.server_id if plan.upstream else "",
        admin=auth and Login(username=auth.admin_user, password=auth.admin_password),
        pem_files=(*server_files, *served.all_files),
        client_files=served.files,
        tls_only=required,
        trusted=served.trusted,
        paused=plan.paused_databases,
        reconnects=plan.reconnects,
        kills=plan.kills.number,
    )


def _report(
    plan: Plan,
    cpus: int,
    run: Sequence[Process],
    auth: AuthMaterial | None,
    pair: ServedPair | None,
) -> Serving:
    """Return what the unit tells its peers that it serves."""
    # Processes of a new port may have to wait until processes of the former port have closed connections.
    at_port = [process for process in run if process.port == plan.settings.listen_port]
    # If TLS is required, no client can log in before there is a certificate.
    can_serve = at_port and (pair or plan.settings.client_tls_sslmode != "require")
    report = serving(
        plan if can_serve else plan.without_upstream(),
        cpus,
        readers=all(process.readers for process in at_port),
    )
    if auth and auth.generation:
        user = plan.upstream.auth_user if plan.upstream else ""
        report = report.with_credentials(auth.generation, user)
    return report.encrypted(pair.authorities) if pair else report


def _parts(
    plan: Plan, unit: str, planned: Sequence[Process], run: Sequence[Process]
) -> Iterator[Part]:
    """Yield the part of each process that runs. A planned process that has to wait keeps its place."""
    for process in run:
        place = sum(other.index < process.index for other in planned)
        yield part_of(plan, unit, place, len(planned), process.limit, readers=process.readers)


def _peers(
    plan: Plan, unit: str, planned: Iterable[Process], layout: Layout
) -> Iterator[CancelPeer]:
    """Yield the processes of this unit and of other units, in a stable order.

    At the address of another unit the kernel chooses any process of the unit. The chosen process forwards a
    cancel request to the right process of its unit: the third hop, and the last that PgBouncer allows.
    """
    own = _first_peer_id(unit)
    for process in planned:
        directory = layout.socket_directory(process.index)
        yield CancelPeer(peer_id=own + process.index, host=directory, port=process.port)
    for member in plan.members:
        if member.name == unit or not member.address or not member.processors:
            continue
        first = _first_peer_id(member.name)
        for process in processes(plan, member.name, member.processors):
            yield CancelPeer(peer_id=first + process.index, host=member.address, port=process.port)


def _first_peer_id(unit: str) -> int:
    """Return the first peer_id of a unit. It depends on the number of the unit only, so it never changes."""
    # PgBouncer accepts a peer_id up to 16383, so units whose numbers differ by 500 have the same ids.
    return 1 + number_of(unit) % 500 * 2 * MOST_PROCESSES


def _users(auth: AuthMaterial | None) -> tuple[ConsoleUser, ...]:
    if auth is None:
        return ()
    # PgBouncer logs in to PostgreSQL as an auth user, for which it needs the password itself. While the auth user
    # changes, a process has both: units may read the plan and the passwords at different times.
    users = [ConsoleUser(name=login.username, secret=login.password) for login in auth.look_ups]
    for name, password in (
        (auth.stats_user, auth.stats_password),
        (auth.admin_user, auth.admin_password),
    ):
        secret = scram.verifier(name, password.get_secret_value())
        users.append(ConsoleUser(name=name, secret=pydantic.SecretStr(secret)))
    return tuple(users)
