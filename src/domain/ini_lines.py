"""Lines of the section [pgbouncer] of a configuration, by topic."""

from domain.capabilities import CLIENT_LIMITS, Version, version_in
from domain.certificate_logins import LOGIN_SECONDS
from domain.layout import Layout, PemFile
from domain.plan import Plan, Upstream
from domain.pools import UNLIMITED_POOL_SIZE, Part, pool_sizes
from domain.reset import reset_settings
from domain.settings import Settings
from domain.tls import bundle
from domain.users import AuthMaterial

IniLine = tuple[str, str]

MAX_CLIENTS = 10_000

# Files of a process that are neither client nor server connections: logs, sockets, peers.
_OTHER_FILES = 100


def listening(port: int, layout: Layout, index: int) -> tuple[IniLine, ...]:
    """Return the lines on where a process listens."""
    return (
        ("listen_addr", layout.listen_address),
        ("listen_port", str(port)),
        ("unix_socket_dir", layout.socket_directory(index)),
        # Every process listens on the same port, and the kernel spreads the connections.
        ("so_reuseport", "1"),
        *((("pidfile", layout.pid_file(index)),) if layout.with_pid_files else ()),
    )


def looking_up(plan: Plan, layout: Layout, auth: AuthMaterial | None) -> tuple[IniLine, ...]:
    """Return the lines on logins, and on the query that looks passwords up."""
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
            ("auth_dbname", plan.upstream.auth_alias),
            ("auth_query", _auth_query(plan.upstream.auth_schema)),
        ]
    return tuple(lines)


def _auth_query(schema: str) -> str:
    quoted = schema.replace('"', '""')
    return f'SELECT username, password FROM "{quoted}".get_auth($1)'


def server_tls(
    upstream: Upstream | None, layout: Layout
) -> tuple[tuple[IniLine, ...], tuple[PemFile, ...]]:
    """Return the lines on TLS with PostgreSQL, and the file with the authorities that they name."""
    if upstream is None:
        return (), ()
    mode = ("server_tls_sslmode", upstream.mode)
    if upstream.authority_file:
        return (mode, ("server_tls_ca_file", upstream.authority_file)), ()
    if not upstream.authorities:
        return (mode,), ()
    file = layout.pem_file("server-ca", bundle(upstream.authorities))
    return (mode, ("server_tls_ca_file", file.path)), (file,)


def pooling(plan: Plan, version: Version, part: Part, files: int) -> tuple[IniLine, ...]:
    """Return the lines on pools, limits and timeouts of a process."""
    settings, sizes = plan.settings, pool_sizes(plan.settings, part)
    clients = most_clients(plan, part.limit, files)
    return (
        *settings.passed_on(),
        ("max_client_conn", str(clients)),
        *_client_limits(clients, version),
        ("max_db_connections", str(part.limit)),
        ("default_pool_size", str(sizes.default)),
        ("min_pool_size", str(sizes.minimum)),
        ("reserve_pool_size", str(sizes.reserve)),
        *reset_settings(
            settings, version, version_in(plan.upstream.version) if plan.upstream else None
        ),
        ("client_login_timeout", str(LOGIN_SECONDS)),
        # A server that is back, or a new server behind the same name, is used within seconds.
        ("server_connect_timeout", "5"),
        ("server_login_retry", "1"),
        ("dns_max_ttl", "5"),
        # After RECONNECT or a change of the server, PgBouncer also closes server connections of sessions, between
        # two transactions.
        ("server_fast_close", "1"),
        # A connection to a machine that does not answer any more is closed after half a minute.
        ("tcp_keepidle", "10"),
        ("tcp_keepintvl", "5"),
        ("tcp_keepcnt", "3"),
        ("tcp_user_timeout", "25000"),
        # A cancel request does not wait for a peer that is gone. PgBouncer forwards a single request to a peer at
        # a time, and drops requests that arrive at the same moment; clients can send them again.
        ("cancel_wait_timeout", "1"),
        # The last comma adds an empty name: before 1.26.1 PgBouncer searches for an empty name, and without it
        # loops for ever (CVE-2026-107349). `options` is not listed, so that PgBouncer keeps or refuses a setting
        # in `options` like a startup parameter, and never drops it.
        ("ignore_startup_parameters", "extra_float_digits,"),
    )


def logging_lines(settings: Settings, *, exported: bool) -> tuple[IniLine, ...]:
    """Return the lines on whether PgBouncer logs connections that open and close.

    An exporter opens a connection each time Prometheus asks. Without these lines PgBouncer still logs each
    error that it sends to a client, such as that of a failed login, with the user and the address.
    """
    logs = {"auto": not exported, "true": True, "false": False}[settings.log_connections]
    value = str(int(logs))
    return (("log_connections", value), ("log_disconnections", value))


def _client_limits(clients: int, version: Version) -> tuple[IniLine, ...]:
    """Return the limits that keep a single user or database from using all client connections of a process."""
    if version < CLIENT_LIMITS:
        return ()
    most = str(max(1, clients * 3 // 4))
    return (("max_user_client_connections", most), ("max_db_client_connections", most))


def most_clients(plan: Plan, limit: int, files: int) -> int:
    """Return how many clients a process can have: a file each, as each server connection.

    `files` is the number of files that the process may open; 0 if it is not known.
    """
    if not files:
        return MAX_CLIENTS
    free = max(1, files - _OTHER_FILES)
    servers = (limit or UNLIMITED_POOL_SIZE) * (1 + len(plan.databases))
    # A limit far above PostgreSQL's max_connections must not reserve the files that clients need.
    return max(1, min(MAX_CLIENTS, max(free - servers, free // 2)))
