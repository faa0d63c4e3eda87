"""The answers of the console of a PgBouncer process, and their comparison with the configuration."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from domain.instances import RESTART, Instance
from domain.value import Value

# The prefix of the names that get_auth returns for unknown user names (templates/get_auth.sql).
STAND_IN = "pgbouncer_unknown_"


def first_line_not_applied(
    instance: Instance, shown: Mapping[str, str], aliases: Collection[str]
) -> str:
    """Return the first line that a process does not run with after a reload; '' if it runs with all lines.

    PgBouncer stops reading at the first line that it refuses. `shown` has the settings that its console
    shows, and `aliases` the databases.
    """
    return next(lines_not_applied(instance, shown, aliases), "")


def lines_not_applied(
    instance: Instance, shown: Mapping[str, str], aliases: Collection[str]
) -> Iterator[str]:
    """Yield the lines that a process does not run with; `shown` and `aliases` are as above."""
    names = {pool.alias for pool in instance.pools}
    for missing in sorted(names.difference(aliases)):
        yield f"{missing} = … in [databases]"
    for name, value in instance.settings:
        if name not in RESTART and name in shown and not _is_equal(shown[name], value):
            yield f"{name} = {value}"


def _is_equal(shown: str, configured: str) -> bool:
    # PgBouncer shows seconds with and without decimals, and with six digits at most.
    if shown == configured:
        return True
    try:
        return float(shown) == float(f"{float(configured):g}")
    except ValueError:
        return False


class PooledDatabase(Value):
    """A database that a process pools, as its console shows it."""

    alias: str
    # The name of the database in PostgreSQL.
    database: str
    # Open server connections.
    connections: int
    # The most server connections that may be open; 0 is no limit.
    most: int
    paused: bool = False


class PoolState(Value):
    """A pool of a user and a database, as the console of a process shows it."""

    alias: str
    user: str
    clients_active: int
    clients_waiting: int
    servers_active: int
    servers_idle: int
    # Seconds that the client at the head of the queue has waited.
    longest_wait: float
    mode: str


class ServerState(Value):
    """A server connection, as the console of a process shows it."""

    alias: str
    user: str
    state: str
    # The address and port of PostgreSQL.
    address: str


class DatabaseStats(Value):
    """The statistics of a database since the process started, as its console shows them."""

    alias: str
    transactions: int
    queries: int
    # Averages of the last period of statistics.
    transactions_per_second: int
    queries_per_second: int
    transaction_microseconds: int
    wait_microseconds: int


def most_connections(databases: Iterable[PooledDatabase]) -> int:
    """Return the server connections of a process to the database to which it has most."""
    connections: dict[str, int] = {}
    for pooled in databases:
        connections[pooled.database] = connections.get(pooled.database, 0) + pooled.connections
    return max(connections.values(), default=0)
