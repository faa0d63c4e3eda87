"""Who delivers the hooks, where there is no Juju? The units' turns, one after another, until nobody has news."""

from __future__ import annotations

import pathlib
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import wiring
from adapters.connections.waiting import WaitingBudget
from adapters.local.departure import Departure
from adapters.local.model import (
    LocalFacts,
    related,
)
from adapters.local.processes import LocalPooler
from adapters.local.run_as import Owner
from adapters.local.store import State, Store
from adapters.pgbouncer.console import PsycopgConsoles
from app.application import Application
from app.outcome import Deferred, Outcome
from domain.facts import BackendLogin, Facts
from domain.instances import Layout
from domain.value import number_of
from pooler.arguments import Mistake

ROUNDS = 30
PATIENCE = 0.5  # seconds between two rounds in which somebody waits for PostgreSQL


class LocalPlatform:
    """The units of one application on this machine, with their state on disk."""

    def __init__(self, store: Store, state: State, owner: Owner | None) -> None:
        self.store = store
        self.state = state
        self.model = state.model
        self._owner = owner

    def pooler(self, unit: str, waiting: WaitingBudget | None = None) -> LocalPooler:
        """The processes of a unit."""
        program = pathlib.Path(self.state.pgbouncer)
        return LocalPooler(program, self._layout(unit), self._owner, waiting)

    def consoles(self, unit: str, waiting: WaitingBudget | None = None) -> PsycopgConsoles:
        """The consoles of its processes."""
        return PsycopgConsoles(self._layout(unit).socket_directory, waiting)

    def read(self, unit: str) -> Facts:
        """What a unit sees now."""
        return self._world(unit).read()

    def hook(self, unit: str, run: Callable[[Application], Outcome]) -> Outcome:
        """Run a hook of a unit, keep what it wrote, and return its outcome."""
        application = self._application(unit)
        outcome = run(application)
        if self.state.paused:
            # The hook may have started a process, which is not paused yet.
            application.pause(0.0)
        self.store.save(self.state)
        return outcome

    def _application(self, unit: str) -> Application:
        # Each hook and each action has a new application, and so a new budget of time to wait.
        program = pathlib.Path(self.state.pgbouncer)
        return wiring.on_machine(self.model, unit, program, self._layout(unit), self._owner)

    def named(self, unit: str | None) -> list[str]:
        """Return the names of the unit with this number or name, or of all units. Raises Mistake."""
        units = self.model.units
        found = [name for name in units if unit in (None, name, name.rpartition("/")[2])]
        if not found:
            known = ", ".join(units)
            raise Mistake(f"there is no unit {str(unit)[:60]!r}: there are {known}")
        return found

    def leader_first(self) -> list[str]:
        """All units, the leader first: the others wait for what it decides."""
        return sorted(self.model.units, key=lambda name: (name != self.model.leader, name))

    def pause(self) -> int:
        """No transaction begins on any unit; returns how many processes still have some. Raises ConsoleFailed."""
        self.state.paused = True
        self.store.save(self.state)
        return sum(self._application(unit).pause() for unit in self.leader_first())

    def resume(self) -> None:
        """What waits goes on. Raises ConsoleFailed."""
        for unit in self.leader_first():
            self._application(unit).resume()
        self.state.paused = False
        self.store.save(self.state)

    def run_on_all_units(self, run: Callable[[Application], Outcome]) -> None:
        """Run a hook on every unit, the leader first."""
        for unit in self.leader_first():
            self.hook(unit, run)

    def settle(self) -> bool:
        """Units have heard of one another until nobody had news; False if that did not end."""
        for _ in range(ROUNDS):
            before = self.model.model_dump_json()
            outcomes = [
                self.hook(unit, lambda application: application.peers_changed())
                for unit in self.leader_first()
            ]
            soon = any(isinstance(one, Deferred) and one.soon for one in outcomes)
            if soon:
                time.sleep(PATIENCE)
            elif self.model.model_dump_json() == before:
                return True
        return False

    def attach(self, credentials: BackendLogin, version: str) -> None:
        """The pools shall lead to this server: every unit can read so."""
        known = credentials.model_copy(update={"version": version})
        self.model.backend = related(known)
        self.store.save(self.state)

    def run_startup_hooks(self, unit: str) -> None:
        """A unit begins, or goes on after anything that stopped it or us."""
        self.hook(unit, lambda application: application.peers_created())
        if unit == self.model.leader:
            self.hook(unit, lambda application: application.leader_elected())
        self.hook(unit, lambda application: application.start())
        self.hook(unit, lambda application: application.pebble_ready())

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
        self.hook(
            unit, lambda application: application.pebble_ready()
        )  # What has died is no help to the others.
        for index in sorted(self.read(unit).container.running):
            self.pooler(unit).stop(index)
            self.hook(unit, lambda application: application.pebble_ready())

    def add_unit(self) -> str:
        """One more unit runs."""
        number = 1 + max((number_of(name) for name in self.model.units), default=-1)
        # Every address of 127/8 is this machine's own, so all units can have the same port.
        name = self.model.add_unit(f"127.0.0.{2 + number % 250}")
        # Before it has processes that nobody would know of.
        self.store.save(self.state)
        self.run_startup_hooks(name)
        return name

    def remove_unit(self, name: str) -> None:
        """Remove a unit: run the hooks of its departure, end its processes and delete its files.

        A leader leads until its last hook has run; then another unit becomes the leader.
        """
        others = [unit for unit in self.leader_first() if unit != name]
        departure = Departure(self.model, name)
        while relations := departure.relations:
            hook = departure.next(relations[0])
            self.hook(name, hook.run)
        if others and self.model.leader == name:
            self.model.leader = others[0]
        # Clients know of it before the unit lets nobody in any more.
        for unit in others:
            self.hook(unit, lambda application: application.peers_changed())
        self.pooler(name).stop()
        self.model.remove_unit(name)
        layout = self._layout(name)
        for directory in (layout.root, layout.sockets):
            shutil.rmtree(directory, ignore_errors=True)
        self.store.save(self.state)
        self.run_on_all_units(lambda application: application.peers_departed(name))
        if self.model.leader:
            self.hook(self.model.leader, lambda application: application.leader_elected())

    def _world(self, unit: str) -> LocalFacts:
        return LocalFacts(self.model, unit, self._layout(unit), self.pooler(unit).read)

    def _layout(self, unit: str) -> Layout:
        number = str(number_of(unit))
        return Layout(
            root=str(self.store.home / "units" / number),
            # A short path, because the length of a socket's path is limited. PgBouncer's user can write there.
            sockets=str(self.store.home / "run" / number),
            listen_address=self.model.units[unit].address if unit in self.model.units else "",
            with_pid_files=True,
        )
