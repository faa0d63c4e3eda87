"""Compare the server connections that the pools may open with the connections that PostgreSQL accepts."""

from domain.budget import processes
from domain.plan import Plan
from domain.pools import AUTH_CONNECTIONS, UNLIMITED_POOL_SIZE
from domain.value import Value


class Demand(Value):
    """The largest number of server connections that the pools of all units may open at a time."""

    databases: int  #: number of databases of clients, with at most `each` connections for each
    each: int
    look_ups: int  #: connections by which PgBouncer looks passwords up

    @property
    def total(self) -> int:
        """The largest number of connections that PostgreSQL may have to accept."""
        return self.databases * self.each + self.look_ups

    def largest_limit(self, capacity: int) -> int:
        """Return the largest `max_db_connections` with which the demand fits into the capacity; 0 if none does."""
        return max(0, (capacity - self.look_ups) // max(1, self.databases))


def demand(plan: Plan, users: int) -> Demand:
    """Return the server connections that the pools of a plan may open.

    `users` is the number of client users. Without `max_db_connections` each user may fill a pool in
    every process, so the number of connections grows with the users and with the processes.
    """
    running = [
        process
        for member in plan.members
        for process in processes(plan, member.name, member.processors)
    ]
    look_ups = sum(min(AUTH_CONNECTIONS, process.limit or AUTH_CONNECTIONS) for process in running)
    settings, databases = plan.settings, len(plan.databases)
    if settings.max_db_connections:
        return Demand(databases=databases, each=settings.max_db_connections, look_ups=look_ups)
    pool = settings.default_pool_size or UNLIMITED_POOL_SIZE * len(running)
    most = pool + settings.reserve_pool_size
    return Demand(databases=users, each=most, look_ups=look_ups)
