"""The alerts on pools, whose clients wait.

An expression keeps the labels of Juju's topology. It leaves out the labels of a process where a pool of the unit
is meant, and those of the PostgreSQL server everywhere: after a failover, or when clients reach another process,
an alert keeps the time for which it has been true.

The console is a database of each process, `pgbouncer`; it is no pool.
"""

from domain.plan import AUTH_ALIASES
from domain.process_alerts import PROCESS
from domain.rules import Alert, duration
from domain.settings import Settings

_MINUTE = 60
_CONSOLE = "pgbouncer"
_LOOK_UPS = "|".join(AUTH_ALIASES)

# Labels of pgbouncer_databases_* beside `name`, the name by which clients know the database.
_SERVER = "host, port, database, force_user, pool_mode"

# A pool is full from this share of its limit.
FULL = 0.9
# Clients that may wait are near the end of their time from this share of query_wait_timeout.
NEAR = 0.5


def _pool(
    metric: str, window: int = 0, over: str = "max", database: str = f'!="{_CONSOLE}"'
) -> str:
    """Return the series of a metric of pools; with a window, its highest or lowest value in these seconds."""
    series = f"pgbouncer_pools_{metric}{{database{database}}}"
    return f"{over}_over_time({series}[{duration(window)}])" if window else series


def _unit(operator: str, expression: str, *labels: str) -> str:
    """Return an expression for all processes of a unit together, also without the labels that are given."""
    return f"{operator} without ({', '.join((PROCESS, *labels))}) ({expression})"


def _all_lines(*parts: str) -> str:
    return "\n".join(parts)


_WAITING = f"{_unit('sum', _pool('client_waiting_connections'))} > 0"


def _servers(window: int = 0, database: str = f'!="{_CONSOLE}"') -> str:
    """Return the open server connections of a unit to each database, or the most of them in the window."""
    states = (
        _pool(f"server_{state}_connections", window, database=database)
        for state in ("active", "idle", "used", "testing")
    )
    return _unit("sum", " + ".join(states), "user")


def _of_databases(expression: str) -> str:
    """Return an expression on pgbouncer_databases_* with the name for clients as the label `database`."""
    named = f'label_replace({expression}, "database", "$1", "name", "(.+)")'
    return f"max without (name) ({named})"


def _column(name: str, window: int = 0, over: str = "max") -> str:
    """Return a metric of the databases for clients, without the labels of the PostgreSQL server."""
    series = f'pgbouncer_databases_{name}{{name!~"{_CONSOLE}|{_LOOK_UPS}"}}'
    if window:
        series = f"{over}_over_time({series}[{duration(window)}])"
    return f"max without ({_SERVER}) ({series})"


def _full(window: int = 0) -> str:
    """Return the databases of a unit that have a process whose limit is used up, at present or in the window."""
    used = _column("current_connections", window, "min")
    limit = _column("max_connections", window)
    return _of_databases(f"{used} / ({limit} > 0)") + f" > {FULL}"


_PAUSED = _unit("max", _of_databases(_column("paused"))) + " > 0"


def _near(query_wait_timeout: int, window: int = 0) -> str:
    longest = _unit("max", _pool("client_maxwait_seconds", window, "min"))
    # The metric has whole seconds.
    return f"{longest} > {int(query_wait_timeout * NEAR)}"


_WHERE = "database {{ $labels.database }} at unit {{ $labels.juju_unit }}"
_WHOSE = "user {{ $labels.user }} and " + _WHERE

# Each process keeps a connection of this pool open. Where it does (PgBouncer 1.24 and later), the pool has a user.
_KEPT = f'pgbouncer_databases_pool_size{{name=~"{_LOOK_UPS}",force_user!=""}}'
_NONE_KEPT = _all_lines(
    _servers(database=f'=~"{_LOOK_UPS}"') + " == 0",
    "and " + _unit("max", _of_databases(f"max without ({_SERVER}) ({_KEPT})")),
)

SERVER_UNREACHABLE = Alert(
    name="PgBouncerServerUnreachable",
    expression=_all_lines(
        f"{_unit('sum', _pool('client_waiting_connections'), 'user')} > 0",
        f"and {_servers()} == 0",
        f"unless {_PAUSED}",
        "or",
        _NONE_KEPT,
    ),
    seconds=2 * _MINUTE,
    severity="critical",
    summary="PgBouncer has no connection to PostgreSQL",
    description=f"PgBouncer has no server connection to {_WHERE}: PostgreSQL cannot be reached, or"
    f" all of PgBouncer"
    " is paused. Clients wait or are refused.",
    meaning="No process of the unit has a server connection, although clients wait, also clients"
    " that log in; or the"
    " connection is missing that each process keeps for the look-up of passwords (database `pgbouncer_auth`)."
    " PostgreSQL does not answer or refuses the connections, or PgBouncer is paused as a whole.",
    steps=(
        "Look at PostgreSQL: [what happens while it is down](how-to/postgresql-down.md).",
        "Read why a server connection could not be opened: `server login failed` in PgBouncer's log.",
        "If `./pooler status` says paused, `./pooler resume` lets the clients go on.",
    ),
)


def wait_near_timeout(query_wait_timeout: int) -> Alert:
    """Return the alert on clients that PgBouncer soon disconnects because they wait."""
    return Alert(
        name="PgBouncerWaitNearTimeout",
        expression=_all_lines(
            _near(query_wait_timeout),
            f"unless ignoring (user) {_servers(2 * _MINUTE)} == 0",
        ),
        seconds=_MINUTE,
        severity="critical",
        summary="Clients wait so long that PgBouncer is about to disconnect them",
        description=f"A client of {_WHOSE} waits for {{{{ $value }}}} s. After"
        f" {query_wait_timeout} s (query_wait_timeout) PgBouncer disconnects it.",
        meaning="For a minute there has been a client that waits for more than half of `query_wait_timeout`."
        " When its time is over, PgBouncer disconnects the client with the error `query_wait_timeout`.",
        steps=(
            "Find what holds the server connections: `SELECT pid, state, xact_start, query FROM"
            " pg_stat_activity ORDER BY xact_start` in PostgreSQL.",
            "Sessions that are `idle in transaction` block the pool: end them with"
            " `idle_transaction_timeout`.",
            "In session mode a client keeps its connection until it leaves: consider"
            " [another pool mode](how-to/operate.md#choose-a-pool-mode).",
            "Raise `max_db_connections`, or the sizes in `overrides`, if PostgreSQL has connections left:"
            " [how to tune](how-to/tune.md).",
        ),
    )


POOL_FULL = Alert(
    name="PgBouncerPoolFull",
    expression=_unit(
        "max",
        _all_lines(
            _full(),
            f"and ignoring (user) {_pool('client_waiting_connections')} > 0",
        ),
    ),
    seconds=3 * _MINUTE,
    severity="warning",
    summary="All server connections to a database are in use, and clients wait",
    description=f"{{{{ $value | humanizePercentage }}}} of the server connections of a process to {_WHERE} are"
    " open, and clients wait.",
    meaning="For three minutes a process has had all of the server connections to a database that its part of"
    " `max_db_connections` allows, and clients wait for them.",
    steps=(
        "Raise `max_db_connections`, if PostgreSQL's `max_connections` allows more.",
        "Find transactions that take long: `idle in transaction` in `pg_stat_activity`.",
        "In session mode every client keeps a connection: consider"
        " [another pool mode](how-to/operate.md#choose-a-pool-mode).",
        "If a single application uses all connections, limit it in `overrides`:"
        " [how to tune](how-to/tune.md#options-for-a-single-database-or-user).",
    ),
)


def clients_waiting(query_wait_timeout: int, *, limited: bool) -> Alert:
    """Return the alert on clients that wait for a reason that has no alert of its own.

    An alert for a reason that has held so long that it fires takes the place of this alert. A reason that comes
    and goes does not, so clients that wait are always reported.
    """
    reasons = [
        f"unless ignoring (user) {_servers(2 * _MINUTE)} == 0",
        f"unless ignoring (user) {_PAUSED}",
    ]
    if query_wait_timeout:
        reasons.append(f"unless {_near(query_wait_timeout, _MINUTE)}")
    if limited:
        reasons.append(f"unless ignoring (user) {_unit('max', _full(3 * _MINUTE))}")
    return Alert(
        name="PgBouncerClientsWaiting",
        expression=_all_lines(_WAITING, *reasons),
        seconds=5 * _MINUTE,
        severity="warning",
        summary="Clients wait for a server connection",
        description=f"{{{{ $value }}}} clients of {_WHOSE} wait. For five minutes there has"
        " always been a client that waits.",
        meaning="For five minutes there has always been a client that waits, or that cannot finish its login. The"
        " reasons with an alert of their own do not hold: PostgreSQL answers, and the database is not full.",
        steps=(
            "Compare `pool_size` and the server connections of the user: a limit of a user or a pool in"
            " `overrides`, or `default_pool_size`, may be too small.",
            "For the database `pgbouncer_auth`, clients wait while PgBouncer looks their passwords up:"
            " look at PostgreSQL's load.",
            "Compare the processes of the unit: if clients wait at a single process, see"
            " [PgBouncerImbalance](#pgbouncerimbalance).",
        ),
    )


PAUSED_OR_DISABLED = Alert(
    name="PgBouncerPausedOrDisabled",
    expression=_unit("max", _of_databases(f"({_column('paused')}) + ({_column('disabled')})"))
    + " > 0",
    seconds=15 * _MINUTE,
    severity="warning",
    summary="A database has been paused or disabled for 15 minutes",
    description=f"PAUSE, KILL or DISABLE is in force for {_WHERE}.",
    meaning="The action `pause` paused this database, or `PAUSE`, `KILL` or `DISABLE` was sent to a console,"
    " and that was not ended. Clients of a paused database wait, and those of a disabled database are refused. A"
    " pause of all databases has the alert [PgBouncerAllPaused](#pgbouncerallpaused), and a database that the"
    " action `disable` disabled has [PgBouncerLoginsDisabled](#pgbouncerloginsdisabled).",
    steps=(
        "If the maintenance is over, end it: run the command in the status, such as the action `resume` or"
        " `./pooler resume`. After a command in a console, run `RESUME` or `ENABLE` with the name of the database"
        " in the console of each process.",
    ),
)


def rows(settings: Settings, *, all_paused: bool = False) -> tuple[Alert, ...]:
    """Return the alerts on pools that these options allow.

    During a pause of all databases PgBouncer has no server connections, as if PostgreSQL were down.
    """
    # A database may have a limit by the option `overrides` alone.
    own = (entry.max_connections for entry in settings.overrides.databases)
    limited = bool(settings.max_db_connections or any(own))
    timeout = settings.query_wait_timeout
    return (
        *(() if all_paused else (SERVER_UNREACHABLE,)),
        *((wait_near_timeout(timeout),) if timeout else ()),
        *((POOL_FULL,) if limited else ()),
        *(() if all_paused else (clients_waiting(timeout, limited=limited),)),
        PAUSED_OR_DISABLED,
    )
