"""Who delivers the hooks, where there is no Juju? The units' turns, one after another, until nobody has news."""

from __future__ import annotations

import pathlib
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from adapters.console import PsycopgConsoles
from adapters.local.arguments import Mistake
from adapters.local.departure import Departure
from adapters.local.model import (
    LocalBackend,
    LocalClients,
    LocalDepartures,
    LocalExposure,
    LocalPeers,
    LocalSecrets,
    LocalWorld,
    related,
)
from adapters.local.owner import Owner
from adapters.local.processes import LocalPooler
from adapters.local.store import State, Store
from adapters.waiting import WaitingBudget
from app.outcome import Deferred, Outcome
from domain.facts import Credentials, Facts
from domain.instances import Layout
from domain.value import number_of

# The use cases of one unit by their names, as `wiring.Application` provides them.
Application = Any
Compose = Callable[[dict[str, object]], Application]

ROUNDS = 30
PATIENCE = 0.5  # seconds between two rounds in which somebody waits for PostgreSQL


class LocalPlatform:
    """The units of one application on this machine, with their state on disk."""

    def __init__(self, store: Store, state: State, compose: Compose, owner: Owner | None) -> None:
        self.store = store
        self.state = state
        self.model = state.model
        self._compose = compose
        self._owner = owner

    def pooler(self, unit: str, waiting: WaitingBudget | None = None) -> LocalPooler:
        """The processes of a unit."""
        program = pathlib.Path(self.state.pgbouncer)
        return LocalPooler(program, self._layout(unit), self._owner, waiting)

    def consoles(self, unit: str, waiting: WaitingBudget | None = None) -> PsycopgConsoles:
        """The consoles of its processes."""
        return PsycopgConsoles(self._layout(unit).socket_directory, waiting)

    def look(self, unit: str) -> Facts:
        """What a unit sees now."""
        return self._world(unit).look()

    def hook(self, unit: str, name: str, *arguments: str) -> Outcome:
        """One hook of one unit has run, and what it wrote is kept."""
        application = self._application(unit)
        outcome: Outcome = getattr(application, name)()(*arguments)
        if self.state.paused:
            # A process that has just been started does not know.
            application.pause()(0.0)
        self.store.save(self.state)
        return outcome

    def _application(self, unit: str) -> Application:
        # Each hook and each action has a new application, and so a new budget.
        waiting = WaitingBudget()
        return self._compose(
            {
                "world": self._world(unit),
                "pooler": self.pooler(unit, waiting),
                "consoles": self.consoles(unit, waiting),
                "peers": LocalPeers(self.model, unit),
                "secrets": LocalSecrets(self.model, unit),
                "backend": LocalBackend(self.model, unit),
                "clients": LocalClients(self.model, unit),
                "departures": LocalDepartures(self.model, unit),
                "exposure": LocalExposure(self.model, unit),
            }
        )

    def named(self, unit: str | None) -> list[str]:
        """Return the names of the unit with this number or name, or of all units. Raises Mistake."""
        units = self.model.units
        found = [name for name in units if unit in (None, name, name.rpartition("/")[2])]
        if not found:
            known = ", ".join(units)
            raise Mistake(f"there is no unit {str(unit)[:60]!r}: there are {known}")
        return found

    def in_turn(self) -> list[str]:
        """All units, the leader first: the others wait for what it decides."""
        return sorted(self.model.units, key=lambda name: (name != self.model.leader, name))

    def pause(self) -> int:
        """No transaction begins on any unit; returns how many processes still have some. Raises ConsoleFailed."""
        self.state.paused = True
        self.store.save(self.state)
        return sum(self._application(unit).pause()() for unit in self.in_turn())

    def resume(self) -> None:
        """What waits goes on. Raises ConsoleFailed."""
        for unit in self.in_turn():
            self._application(unit).resume()()
        self.state.paused = False
        self.store.save(self.state)

    def everywhere(self, hook: str, *arguments: str) -> None:
        """A hook has run on every unit."""
        for unit in self.in_turn():
            self.hook(unit, hook, *arguments)

    def settle(self) -> bool:
        """Units have heard of one another until nobody had news; False if that did not end."""
        for _ in range(ROUNDS):
            before = self.model.model_dump_json()
            outcomes = [self.hook(unit, "peers_changed") for unit in self.in_turn()]
            soon = any(isinstance(one, Deferred) and one.soon for one in outcomes)
            if soon:
                time.sleep(PATIENCE)
            elif self.model.model_dump_json() == before:
                return True
        return False

    def attach(self, credentials: Credentials, version: str) -> None:
        """The pools shall lead to this server: every unit can read so."""
        known = credentials.model_copy(update={"version": version})
        self.model.backend = related(known)
        self.store.save(self.state)

    def wake(self, unit: str) -> None:
        """A unit begins, or goes on after anything that stopped it or us."""
        self.hook(unit, "peers_created")
        if unit == self.model.leader:
            self.hook(unit, "leader_elected")
        self.hook(unit, "start")
        self.hook(unit, "pebble_ready")

    def stop(self) -> list[str]:
        """No process runs, not even of a unit that a killed command had not noted yet."""
        numbers = [number_of(name) for name in self.model.units]
        folders = [one.name for one in (self.store.home / "units").glob("[0-9]*")]
        numbers += [int(name) for name in folders if re.fullmatch("[0-9]{1,9}", name)]
        names = [f"{self.model.application}/{number}" for number in sorted(set(numbers))]
        with ThreadPoolExecutor() as threads:  # each waits for its clients
            list(threads.map(self._stop, names))
        return names

    def _stop(self, unit: str) -> None:
        self.pooler(unit).stop()

    def restart(self, unit: str) -> None:
        """Every process of a unit is a new one; one after another, so that the others go on."""
        self.hook(unit, "pebble_ready")  # What has died is no help to the others.
        for index in sorted(self.look(unit).container.running):
            self.pooler(unit).stop(index)
            self.hook(unit, "pebble_ready")

    def add_unit(self) -> str:
        """One more unit runs."""
        number = 1 + max((number_of(name) for name in self.model.units), default=-1)
        # Every address of 127/8 is this machine's own, so all units can have the same port.
        name = self.model.add_unit(f"127.0.0.{2 + number % 250}")
        # Before it has processes that nobody would know of.
        self.store.save(self.state)
        self.wake(name)
        return name

    def remove_unit(self, name: str) -> None:
        """Remove a unit: run the hooks of its departure, end its processes and delete its files.

        A leader leads until its last hook has run; then another unit becomes the leader.
        """
        others = [unit for unit in self.in_turn() if unit != name]
        departure = Departure(self.model, name)
        while relations := departure.relations:
            hook = departure.next(relations[0])
            self.hook(name, hook.name, *hook.arguments)
        if others and self.model.leader == name:
            self.model.leader = others[0]
        # Clients know of it before the unit lets nobody in any more.
        for unit in others:
            self.hook(unit, "peers_changed")
        self.pooler(name).stop()
        self.model.remove_unit(name)
        layout = self._layout(name)
        for directory in (layout.root, layout.sockets):
            shutil.rmtree(directory, ignore_errors=True)
        self.store.save(self.state)
        self.everywhere("peers_departed", name)
        if self.model.leader:
            self.hook(self.model.leader, "leader_elected")

    def _world(self, unit: str) -> LocalWorld:
        return LocalWorld(self.model, unit, self._layout(unit), self.pooler(unit).look)

    def _layout(self, unit: str) -> Layout:
        number = str(number_of(unit))
        return Layout(
            root=str(self.store.home / "units" / number),
            # A short path, because the length of a socket's path is limited. PgBouncer's user can write there.
            sockets=str(self.store.home / "run" / number),
            listen_address=self.model.units[unit].address if unit in self.model.units else "",
            with_pid_files=True,
        )
