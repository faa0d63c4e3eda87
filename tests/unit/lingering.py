"""Processes in memory as under a supervisor: told to stop, each ends when its clients have left."""

from adapters.memory import MemoryPooler
from app.errors import PoolerFailed
from domain.pools import read_only_part
from domain.process import UNLIMITED


class LingeringPooler(MemoryPooler):
    """Processes that are stopped end when their clients have left."""

    def __init__(self, cpus=2):
        super().__init__(cpus=cpus)
        self.lingering: dict[int, int] = {}  # what each may still have

    def read(self):
        """What is there now. Who does not answer is replaced by the supervisor, after this look."""
        seen = super().read()
        for index in [*self.hung]:
            self.die(index)
            self.running.add(index)
        return seen.model_copy(update={"running": seen.running | seen.unresponsive})

    def apply(self, change):
        self.new_pools_find_room(change.config)
        super().apply(change)

    def take(self, config, step):
        if step.action in ("start", "restart") and step.index in self.ending:
            raise PoolerFailed("cannot start service while terminating")
        busy = self.consoles.busy.get(step.index, 0)
        super().take(config, step)
        if step.action == "restart" and busy:
            self.consoles.busy[step.index] = busy  # Its clients leave when they like, even so.

    def new_pools_find_room(self, config):
        """What one pool of a process has open stays open until it was given up."""
        known = self.instances()
        for one in config.instances:
            before = known.get(one.index)
            if before and one.readers and not before.readers and one.index in self.running:
                busy = self.consoles.busy.get(one.index, 0)
                assert not one.limit or busy + read_only_part(one.limit) <= one.limit

    def stop(self, index):
        """It was told to: its clients stay as long as they like."""
        if index in self.running:
            self.lingering[index] = most_of(self, index)
            self.ending = set(self.lingering)
            self.running.discard(index)

    def end(self, index):
        """It has gone."""
        self.lingering.pop(index, None)
        self.ending.discard(index)

    def lose_disk(self):
        super().lose_disk()
        self.lingering.clear()
        self.ending.clear()
        self.consoles.busy.clear()


def most_of(pooler, index):
    """The most connections that a running process can have, now or in a moment."""
    one = pooler.instances().get(index)
    if one is None or not one.pools:
        return 0
    return max(one.limit or UNLIMITED, pooler.consoles.busy.get(index, 0))
