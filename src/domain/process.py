"""A PgBouncer process of a unit."""

from typing import Self

from domain.value import Count, Value

# The most connections that a process without a limit may have.
UNLIMITED = 2**31 - 1


class Process(Value):
    """A PgBouncer process, as the plan has it.

    Its configuration (`domain.instances.Instance`) and the record of it (`domain.applied.AppliedProcess`) have
    these fields, too.
    """

    # The number of the process in its unit. It names the directory and the service of the process.
    index: Count
    port: Count
    # Connections to a database; 0 is no limit.
    limit: Count = 0
    # The process has read-only pools, which lead to replicas and have their part of `limit`.
    readers: bool = False

    def limited(self, limit: int, *, readers: bool) -> Self:
        """Return this process with another limit, with or without read-only pools."""
        return self.model_copy(update={"limit": limit, "readers": readers})


class RunningProcess(Process):
    """A process that runs or ends, with the server connections that it may have."""

    # Server connections that the process may still have from before, if they are more than `limit`; else 0.
    held: Count = 0

    @property
    def above_limit(self) -> bool:
        """Return whether the process may have more server connections than its limit allows."""
        return self.held > self.limit > 0

    @property
    def most(self) -> int:
        """Return the most server connections to a database that the process may have."""
        return max(self.held, self.limit) if self.limit else UNLIMITED
