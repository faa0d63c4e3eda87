"""Use case: this unit was elected leader."""

from app.converge import Converge
from app.outcome import Outcome
from app.ports import FactsSource


class LeaderElected:
    """The leader-elected hook: what a former leader left undone is done."""

    def __init__(self, world: FactsSource, converge: Converge) -> None:
        self._world = world
        self._converge = converge

    def __call__(self) -> Outcome:
        """The peers know their leader, and the clients how to connect."""
        return self._converge(self._world.read(), verify=True)
