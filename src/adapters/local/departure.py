"""Which hooks does a unit get that is being removed, and what does it not see any more in each of them?"""

from __future__ import annotations

from typing import NamedTuple

from adapters.local.model import Model

BACKEND = "backend"


class Hook(NamedTuple):
    """A hook by its name, and the unit that departs where the hook tells it."""

    name: str
    departing: str = ""

    @property
    def arguments(self) -> tuple[str, ...]:
        """What the use case is called with."""
        return (self.departing,) if self.departing else ()


class Departure:
    """The hooks of a unit that is being removed, as Juju gives them.

    For each remote unit of each relation there is a departed hook that names the unit itself, then the
    relation breaks; the peer relation never does. The relations come in any order, also mixed. Before
    each hook the remote unit, or the relation, is gone for this unit, and for no other unit.
    """

    def __init__(self, model: Model, unit: str, servers: int = 1) -> None:
        """The unit is being removed from now on; PostgreSQL has so many units."""
        self._model, self._unit = model, unit
        model.units[unit].dying, model.units[unit].unseen = True, frozenset()
        peers = [name for name in model.units if name != unit]
        self._left = {"peers": [(Hook("peers_departed", unit), name) for name in peers]}
        if model.backend.related:
            departed = Hook("backend_departed", unit)
            self._left[BACKEND] = [
                *[(departed, "")] * (servers - 1),
                (departed, "servers"),
                (Hook("backend_broken"), BACKEND),
            ]
        for number in model.clients:
            name = f"client {number}"
            departed = Hook("clients_departed", unit)
            self._left[name] = [(departed, ""), (Hook("clients_broken"), name)]

    @property
    def relations(self) -> tuple[str, ...]:
        """The relations in which hooks are left."""
        return tuple(name for name, hooks in self._left.items() if hooks)

    def next(self, relation: str) -> Hook:
        """The next hook of a relation; the unit sees what is left then."""
        hook, gone = self._left[relation].pop(0)
        if gone:
            me = self._model.units[self._unit]
            me.unseen |= {gone}
        return hook
