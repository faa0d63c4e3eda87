"""The hooks that a unit gets while it is being removed, and the remote units that it sees in each hook."""

from __future__ import annotations

from typing import Literal, NamedTuple

from adapters.local.model import Model
from app.application import Application
from app.outcome import Outcome

BACKEND = "backend"


class Hook(NamedTuple):
    """The name of a hook, and the departing unit if the hook is a departed hook."""

    name: Literal[
        "peers_departed",
        "backend_departed",
        "backend_broken",
        "clients_departed",
        "clients_broken",
    ]
    departing: str = ""

    def run(self, application: Application) -> Outcome:
        """Run the hook in the application of the unit."""
        match self.name:
            case "peers_departed":
                return application.peers_departed(self.departing)
            case "backend_departed":
                return application.backend_departed(self.departing)
            case "backend_broken":
                return application.backend_broken()
            case "clients_departed":
                return application.clients_departed(self.departing)
            case "clients_broken":
                return application.clients_broken()


class Departure:
    """The hooks of a unit that is being removed, as Juju gives them.

    For each remote unit of each relation the unit gets a departed hook that names the unit itself, then
    a broken hook for the relation; the peer relation never breaks. The hooks of several relations come in
    any order, also interleaved. Before each hook this unit alone stops seeing the remote unit, or the
    relation.
    """

    def __init__(self, model: Model, unit: str, servers: int = 1) -> None:
        """Mark the unit as being removed; `servers` is the number of units of PostgreSQL."""
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
        """Return the relations that still have hooks to run."""
        return tuple(name for name, hooks in self._left.items() if hooks)

    def next(self, relation: str) -> Hook:
        """Return the next hook of a relation, after hiding from the unit what Juju has removed by then."""
        hook, gone = self._left[relation].pop(0)
        if gone:
            me = self._model.units[self._unit]
            me.unseen |= {gone}
        return hook
