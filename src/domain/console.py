"""What does the console of a PgBouncer process tell, and is it what the process was told?"""

from collections.abc import Collection, Iterable, Mapping

from domain.instances import RESTART, Instance
from domain.value import Value

# The prefix of the names that get_auth returns for unknown user names (templates/get_auth.sql).
STAND_IN = "pgbouncer_unknown_"


def first_line_not_applied(
    instance: Instance, shown: Mapping[str, str], aliases: Collection[str]
) -> str:
    """The first line that a process does not run with after it was told to reload; '' if it took all.

    PgBouncer stops reading at the first line that it refuses. `shown` is what its console says of the
    settings, and `aliases` of the databases.
    """
    names = {pool.alias for pool in instance.pools}
    if missing := sorted(names.difference(aliases)):
        return f"{missing[0]} = … in [databases]"
    for name, value in instance.settings:
        if name not in RESTART and name in shown and not _same(shown[name], value):
            return f"{name} = {value}"
    return ""


def _same(shown: str, told: str) -> bool:
    # Seconds are shown with and without decimals, and with six digits at most.
    if shown == told:
        return True
    try:
        return float(shown) == float(f"{float(told):g}")
    except ValueError:
        return False


class PooledDatabase(Value):
    """One database as the console of a process tells of it."""

    alias: str
    database: str  #: on the server
    connections: int  #: to the server
    most: int  #: that may be open; 0 is no limit
    paused: bool = False


class PoolState(Value):
    """One pool as the console of a process tells of it: of one user and one database."""

    alias: str
    user: str
    clients_active: int
    clients_waiting: int
    servers_active: int
    servers_idle: int
    longest_wait: float  #: seconds, of the client that waits longest
    mode: str


def held(databases: Iterable[PooledDatabase]) -> int:
    """The connections that a process has to the database to which it has most."""
    found: dict[str, int] = {}
    for one in databases:
        found[one.database] = found.get(one.database, 0) + one.connections
    return max(found.values(), default=0)
