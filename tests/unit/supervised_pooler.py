"""PgBouncer processes in memory under a supervisor: a stopped process ends after its clients have left."""

from adapters.memory import MemoryPooler
from app.errors import PoolerFailed
from domain.operations import ALL
from domain.pools import read_only_part
from domain.process import UNLIMITED


class SupervisedPooler(MemoryPooler):
    """Processes that end after their clients have left, and that are replaced if they do not answer."""

    def __init__(self, cpus=2):
        super().__init__(cpus=cpus)
        # By index: the most connections that a stopped process may still have.
        self.stopping: dict[int, int] = {}

    def read(self):
        """Return the state of the processes; the supervisor then replaces a process that does not answer."""
        seen = super().read()
        for index in [*self.hung]:
            self.starts_again(index)
        return seen.model_copy(update={"running": seen.running | seen.unresponsive})

    def starts_again(self, index):
        """Let a process be killed; the supervisor starts it with its files, in which a pause may be noted."""
        self.die(index)
        self.running.add(index)
        if self.config and self.config.paused:
            self.consoles.paused[index] = {ALL}

    def apply(self, change):
        self.new_pools_find_room(change.config)
        super().apply(change)

    def take(self, config, step):
        if step.action in ("start", "restart") and step.index in self.ending:
            raise PoolerFailed("cannot start service while terminating")
        busy = self.consoles.busy.get(step.index, 0)
        super().take(config, step)
        if step.action == "restart" and busy:
            # A restart waits for clients, which keep their connections.
            self.consoles.busy[step.index] = busy

    def new_pools_find_room(self, config):
        """Check that a new read-only pool gets only connections that its process has given up."""
        known = self.instances()
        for instance in config.instances:
            before = known.get(instance.index)
            if (
                before
                and instance.readers
                and not before.readers
                and instance.index in self.running
            ):
                busy = self.consoles.busy.get(instance.index, 0)
                assert (
                    not instance.limit or busy + read_only_part(instance.limit) <= instance.limit
                )

    def stop(self, index):
        """Stop a process; its clients stay connected."""
        if index in self.running:
            self.stopping[index] = most_of(self, index)
            self.ending = set(self.stopping)
            self.running.discard(index)

    def end(self, index):
        """Remove a stopped process whose clients have left."""
        self.stopping.pop(index, None)
        self.ending.discard(index)

    def lose_disk(self):
        super().lose_disk()
        self.stopping.clear()
        self.ending.clear()
        self.consoles.busy.clear()


def most_of(pooler, index):
    """Return the most connections that a running process has or can open."""
    instance = pooler.instances().get(index)
    if instance is None or not instance.pools:
        return 0
    return max(instance.limit or UNLIMITED, pooler.consoles.busy.get(index, 0))
