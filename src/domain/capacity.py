"""How many server connections may the pools open, and how many does PostgreSQL accept?"""

from domain.budget import processes
from domain.pools import AUTH_CONNECTIONS, UNLIMITED_POOL_SIZE, Plan
from domain.value import Value


class Demand(Value):
    """The most server connections that the pools of all units may open at a time."""

    databases: int  #: of clients, each with at most `each` connections
    each: int
    look_ups: int  #: by which PgBouncer looks passwords up

    @property
    def total(self) -> int:
        """The most connections that PostgreSQL may have to accept."""
        return self.databases * self.each + self.look_ups

    def largest_limit(self, capacity: int) -> int:
        """The largest `max_db_connections` with which the demand fits into the capacity; 0 if none does."""
        return max(0, (capacity - self.look_ups) // max(1, self.databases))


def demand(plan: Plan, users: int) -> Demand:
    """What the pools of a plan may ask of PostgreSQL.

    `users` is the number of client users. Without `max_db_connections` each of them may fill a pool in
    every process, so the number of connections grows with both.
    """
    running = [
        one for member in plan.members for one in processes(plan, member.name, member.processors)
    ]
    look_ups = sum(min(AUTH_CONNECTIONS, one.limit or AUTH_CONNECTIONS) for one in running)
    settings, databases = plan.settings, len(plan.databases)
    if settings.max_db_connections:
        return Demand(databases=databases, each=settings.max_db_connections, look_ups=look_ups)
    pool = settings.default_pool_size or UNLIMITED_POOL_SIZE * len(running)
    most = pool + settings.reserve_pool_size
    return Demand(databases=users, each=most, look_ups=look_ups)
