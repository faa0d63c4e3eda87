"""The alerts on lines that PgBouncer logs: metrics count no errors.

PgBouncer logs an error that a client gets as `WARNING C-0x…: DATABASE/USER@ADDRESS pooler error: MESSAGE`, also
when it logs no logins and logouts. The error of a login to PostgreSQL is `WARNING server login failed: MESSAGE`.
"""

from domain.rules import Alert, Severity
from domain.settings import Settings

# What Pebble's log forwarding names the services of PgBouncer, and not the exporters.
SERVICES = "pgbouncer-[0-9]+"
WINDOW = "5m"
TOPOLOGY = "juju_model, juju_model_uuid, juju_application, juju_unit"

_CLIENT = "WARNING C-[^ ]+ [^ ]+ pooler error: "
_SERVER = "WARNING server login failed: FATAL "
_WHOSE = r"C-[^ ]+ (?P<database>[^/ ]+)/(?P<user>[^@ ]+)@"


def _count(filter_: str, more_than: int, *, by_client: bool) -> str:
    """Return whether more lines than this passed the filter, for each unit, or each database and user."""
    parsed = f" | regexp `{_WHOSE}`" if by_client else ""
    labels = f"{TOPOLOGY}, database, user" if by_client else TOPOLOGY
    stream = f'{{pebble_service=~"{SERVICES}"}} |~ `{filter_}`{parsed}'
    return f"sum by ({labels}) (count_over_time({stream} [{WINDOW}])) > {more_than}"


def _alert(
    name: str,
    filter_: str,
    severity: Severity,
    summary: str,
    description: str,
    meaning: str,
    *steps: str,
    more_than: int = 0,
    by_client: bool = True,
) -> Alert:
    return Alert(
        name=name,
        expression=_count(filter_, more_than, by_client=by_client),
        seconds=0,
        severity=severity,
        summary=summary,
        description=description,
        meaning=meaning,
        steps=steps,
    )


_AT = "unit {{ $labels.juju_unit }}, database {{ $labels.database }}, user {{ $labels.user }}"

CLIENT_TIMED_OUT = _alert(
    "PgBouncerClientTimedOut",
    f"{_CLIENT}query_wait_timeout",
    "critical",
    "Clients are disconnected because they waited too long",
    f"{{{{ $value }}}} clients were disconnected in 5 minutes with query_wait_timeout: {_AT}.",
    "A client waited for a server connection for `query_wait_timeout` seconds, and PgBouncer disconnected it.",
    "What to do is the same as for [PgBouncerWaitNearTimeout](#pgbouncerwaitneartimeout) and"
    " [PgBouncerPoolFull](#pgbouncerpoolfull).",
    "If PostgreSQL did not answer, look at [PgBouncerServerUnreachable](#pgbouncerserverunreachable).",
)

CLIENTS_REFUSED = _alert(
    "PgBouncerClientsRefused",
    _CLIENT + "(no more connections allowed|client connections exceeded)",
    "critical",
    "PgBouncer refuses clients, because there are too many",
    "{{ $value }} clients were refused in 5 minutes by unit {{ $labels.juju_unit }}, because a process has as many"
    " clients as it may have.",
    "A process has as many clients as `max_client_conn` allows, or a user or a database has three"
    " quarters of them.",
    "Look at [PgBouncerClientSlots](#pgbouncerclientslots), and find the application with"
    " `./pooler top --all` or `SHOW CLIENTS`.",
    by_client=False,
)

SERVER_LOGIN_FAILING = _alert(
    "PgBouncerServerLoginFailing",
    _CLIENT + "(server login has been failing|client_login_timeout \\(server down\\))",
    "critical",
    "PgBouncer refuses clients, because it cannot log in to PostgreSQL",
    f"{{{{ $value }}}} clients were refused in 5 minutes, because PostgreSQL cannot be reached: {_AT}.",
    "PgBouncer could not open a connection to PostgreSQL, and tells so to each client that asks for a connection.",
    "Look at PostgreSQL: [what happens while it is down](how-to/postgresql-down.md).",
    "The line has the cause: `connect failed` is the network or a server that does not run; else it is what"
    " PostgreSQL said.",
)

POSTGRESQL_FULL = _alert(
    "PgBouncerPostgreSQLFull",
    _SERVER + "(sorry, too many clients|remaining connection slots|too many connections for)",
    "critical",
    "PostgreSQL has no connection left for PgBouncer",
    "PostgreSQL refused {{ $value }} connections of unit {{ $labels.juju_unit }} in 5 minutes, because it has as"
    " many as it may have.",
    "PostgreSQL has as many connections as `max_connections` allows, or as the role or the database may have.",
    "Lower `max_db_connections`: all databases together must need less than PostgreSQL's `max_connections`."
    " `./pooler doctor` compares the two.",
    "Look for connections that do not come from PgBouncer: `SELECT application_name, client_addr, count(*)"
    " FROM pg_stat_activity GROUP BY 1, 2`.",
    by_client=False,
)

CONNECTIONS_LOST = _alert(
    "PgBouncerConnectionsLost",
    rf"{_CLIENT}server conn crashed",
    "warning",
    "Clients lose their connections to PostgreSQL",
    f"{{{{ $value }}}} clients lost their server connection in 5 minutes: {_AT}.",
    "PostgreSQL, or the network, closed more than five server connections that clients used. A"
    " failover, a restart of"
    " PostgreSQL and `pg_terminate_backend` do so.",
    "If there was a failover, PgBouncer uses the new server by itself, and the alert ends after five minutes.",
    "Else read PostgreSQL's log: a backend that crashes, or that is killed because memory is short, ends all"
    " connections.",
    more_than=5,
)

LOGINS_REFUSED = _alert(
    "PgBouncerLoginsRefused",
    _CLIENT
    + "(SASL authentication failed|password authentication failed|no such user|no such database)",
    "warning",
    "Many logins with a wrong password, user or database",
    "{{ $value }} logins were refused in 5 minutes by unit {{ $labels.juju_unit }}.",
    "More than twenty logins were refused in five minutes. A client uses a password, a user or a database that"
    " does not exist any more, or a stranger guesses passwords.",
    "Read the addresses and users in the lines of the log that contain `authentication failed`.",
    "A client that reads its credentials only when it starts has to be restarted after a relation was made anew.",
    more_than=20,
    by_client=False,
)

UNSUPPORTED_PARAMETER = _alert(
    "PgBouncerUnsupportedParameter",
    f"{_CLIENT}unsupported startup parameter",
    "warning",
    "A client cannot connect, because it sends a parameter that PgBouncer does not support",
    "{{ $value }} logins were refused in 5 minutes by unit {{ $labels.juju_unit }}, because of a"
    " startup parameter.",
    "The client sends a setting when it connects, for example in `options`, that PgBouncer cannot pass on.",
    "The line in the log names the parameter. Set it after the login with `SET`, or for the role"
    " with `ALTER ROLE`.",
    by_client=False,
)


def ended(messages: tuple[str, ...], options: tuple[str, ...]) -> Alert:
    """Return the alert on transactions that these options end with these messages."""
    return _alert(
        "PgBouncerTransactionsEnded",
        f"{_CLIENT}({'|'.join(messages)})",
        "warning",
        "Queries or transactions take so long that PgBouncer ends them",
        f"{{{{ $value }}}} clients were disconnected in 5 minutes by {' or '.join(options)}: {_AT}.",
        "A query or an idle transaction took longer than the option `query_timeout` or `idle_transaction_timeout`"
        " allows, and PgBouncer disconnected the client.",
        "Find the query in PostgreSQL's log, or the application that leaves its transaction open.",
        "Raise the option if the application needs the time.",
    )


def rows(settings: Settings) -> tuple[Alert, ...]:
    """Return the alerts on messages that clients can get with these options."""
    limits = (
        (settings.query_timeout, "query[ _]timeout", "query_timeout"),
        (
            settings.idle_transaction_timeout,
            "idle transaction timeout",
            "idle_transaction_timeout",
        ),
    )
    messages = tuple(message for seconds, message, _ in limits if seconds)
    options = tuple(option for seconds, _, option in limits if seconds)
    return (
        *((CLIENT_TIMED_OUT,) if settings.query_wait_timeout else ()),
        CLIENTS_REFUSED,
        SERVER_LOGIN_FAILING,
        POSTGRESQL_FULL,
        CONNECTIONS_LOST,
        LOGINS_REFUSED,
        UNSUPPORTED_PARAMETER,
        *((ended(messages, options),) if messages else ()),
    )
