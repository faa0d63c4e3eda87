"""Run the hooks of the units on this machine, where no Juju runs them."""

from __future__ import annotations

import pathlib
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import wiring
from adapters.connections import ping
from adapters.connections.waiting import WaitingBudget
from adapters.local import files
from adapters.local.departure import Departure
from adapters.local.facts import LocalFacts
from adapters.local.model import related
from adapters.local.pooler import LocalPooler
from adapters.local.run_as import RunAs
from adapters.pgbouncer.console import PsycopgConsoles
from app.application import Application
from app.outcome import AskAgain, Outcome
from domain import orders
from domain.backend import BackendLogin
from domain.endpoints import Endpoint
from domain.facts import Facts
from domain.instances import Layout
from domain.operations import ALL
from domain.value import number_of
from pooler.arguments import UsageError, choices
from pooler.certification import Certification
from pooler.commandline.suggest import SHOWN, did_you_mean
from pooler.store import State, Store

# The application that `pooler up` relates for a demonstration.
DEMO = "demo"

MOST_ROUNDS = 30

# Seconds between two rounds of hooks while a unit waits, for example for PostgreSQL.
ROUND_SECONDS = 0.5

# Seconds in which PostgreSQL has to answer, so that PgBouncer waits for its clients when it is stopped.
PING_SECONDS = 2.0
# Two rounds: processes may need the time between them to close server connections above a lower limit.
SILENT_ROUNDS = 2


def unit_address(number: int) -> str:
    """Return the address of the unit with this number.

    Every address of 127/8 belongs to this machine, so all units can use the same port.
    """
    return f"127.0.0.{2 + number % 250}"


class LocalPlatform:
    """The units of one application on this machine, with their state on disk."""

    def __init__(self, store: Store, state: State, owner: RunAs | None) -> None:
        self.store = store
        self.state = state
        self.model = state.model
        self._owner = owner
        self.certification = Certification(store, state)
        if state.paused and self.model.plan and not self.model.plan.paused:
            # An earlier release has paused the units.
            self.model.plan = orders.pausing(self.model.plan, ALL, 0.0, 0)
        # Why PostgreSQL servers did not answer a hook of this command: no later hook waits for them.
        self._silent: dict[tuple[Endpoint, ...], str] = {}

    @property
    def backend_silent(self) -> bool:
        """Return whether PostgreSQL did not answer a hook of this command."""
        backend = self.model.backend.credentials
        return backend is not None and backend.endpoints in self._silent

    def pooler(self, unit: str, waiting: WaitingBudget | None = None) -> LocalPooler:
        """Return the PgBouncer processes of a unit."""
        program = pathlib.Path(self.state.pgbouncer)
        return LocalPooler(program, self.layout(unit), self._owner, waiting)

    def consoles(self, unit: str, waiting: WaitingBudget | None = None) -> PsycopgConsoles:
        """Return the consoles of the processes of a unit."""
        return PsycopgConsoles(self.layout(unit).socket_directory, waiting)

    def read(self, unit: str) -> Facts:
        """Return the facts that a unit sees now."""
        return LocalFacts(self.model, unit, self.layout(unit), self.pooler(unit).read).read()

    @contextmanager
    def hook(self, unit: str) -> Generator[Application]:
        """Yield the application of a unit to run one of its hooks, and then save what the hook wrote."""
        self.certification.ask(unit)
        application = self._application(unit)
        yield application
        self._note_pause()
        self.certification.publish()
        self.store.save(self.state)

    def applications(self) -> Iterator[Application]:
        """Yield the application of every unit, the leader first, to run a hook on all units."""
        for unit in self.leader_first():
            with self.hook(unit) as application:
                yield application

    def _application(self, unit: str) -> Application:
        # Each hook and each action has a new application, and so a new budget of time to wait.
        program = pathlib.Path(self.state.pgbouncer)
        layout = self.layout(unit)
        return wiring.on_machine(
            self.model, unit, program, layout, self._owner, self._silent, self._save
        )

    def _save(self) -> None:
        self.store.save(self.state)

    def named(self, unit: str | None) -> list[str]:
        """Return the names of the unit with this number or name, or of all units. Raises UsageError."""
        units = self.model.units
        names = [name for name in units if unit in (None, name, name.rpartition("/")[2])]
        if not names:
            if not units:
                raise UsageError("there is no unit: run `pooler up` first")
            meant = did_you_mean(str(unit), units) or f": {choices(units)}"
            raise UsageError(f"unit {str(unit)[:SHOWN]!r} does not exist{meant}")
        return names

    def in_order(self) -> list[str]:
        """Return the names of all units, by their numbers."""
        return sorted(self.model.units, key=number_of)

    def leader_first(self) -> list[str]:
        """Return the names of all units, the leader first, because other units wait for its decisions."""
        return sorted(self.model.units, key=lambda name: (name != self.model.leader, name))

    def order(self, give: Callable[[Application], Outcome]) -> None:
        """Run an action on the leader, which may raise ActionFailed, and the hooks of the other units once."""
        with self.hook(self.model.leader) as application:
            give(application)
        self.follow()

    def follow(self) -> bool:
        """Run the hooks of the peer relation once; return whether no unit waits for anything."""
        return not any(
            isinstance(application.peers_changed(), AskAgain)
            for application in self.applications()
        )

    def _note_pause(self) -> None:
        """Keep in the state whether the plan has a pause: earlier releases read that."""
        self.state.paused = bool(self.model.plan and self.model.plan.paused)

    def settle(self) -> bool:
        """Run the hooks of the peer relation until they change nothing; return False if that does not happen.

        While PostgreSQL does not answer, only the units can change something: after SILENT_ROUNDS rounds in
        a row without a change, the units wait for PostgreSQL alone.
        """
        idle = 0
        for _ in range(MOST_ROUNDS):
            before = self.model.model_dump_json()
            outcomes = [application.peers_changed() for application in self.applications()]
            waits = any(isinstance(outcome, AskAgain) for outcome in outcomes)
            idle = 0 if self.model.model_dump_json() != before else idle + 1
            if idle and not waits:
                return True
            if idle >= SILENT_ROUNDS and self.backend_silent:
                return False
            if waits:
                time.sleep(ROUND_SECONDS)
        return False

    def attach(self, credentials: BackendLogin, version: str) -> None:
        """Relate the units with a PostgreSQL server of this version."""
        known = credentials.with_version(version)
        self.model.backend = related(known)
        self.store.save(self.state)

    def run_startup_hooks(self, unit: str) -> None:
        """Run the hooks that start a unit, or that start it again after any interruption."""
        files.remove_incomplete(pathlib.Path(self.layout(unit).root))
        with self.hook(unit) as application:
            application.peers_created()
        if unit == self.model.leader:
            with self.hook(unit) as application:
                application.leader_elected()
        with self.hook(unit) as application:
            application.start()
        with self.hook(unit) as application:
            application.pebble_ready()

    def stop(self) -> list[str]:
        """Stop all processes, and return the names of their units.

        Without an answer of PostgreSQL no transaction of a client can end, so no process waits for its
        clients. The units include units that a killed command had started, and had not written to the state yet.
        """
        numbers = [number_of(name) for name in self.model.units]
        folders = [folder.name for folder in (self.store.home / "units").glob("[0-9]*")]
        numbers += [int(name) for name in folders if re.fullmatch("[0-9]{1,9}", name)]
        names = [f"{self.model.application}/{number}" for number in sorted(set(numbers))]
        waits = self._backend_answers()
        with ThreadPoolExecutor() as threads:  # The units wait for their clients at the same time.
            list(threads.map(self._stop if waits else self._stop_at_once, names))
        return names

    def _backend_answers(self) -> bool:
        backend = self.model.backend.credentials
        if backend is None:
            return True  # The state that named PostgreSQL may be lost.
        servers = ((server.host, server.port) for server in backend.endpoints)
        return ping.answers(servers, PING_SECONDS)

    def _stop(self, unit: str) -> None:
        self.pooler(unit).stop()

    def _stop_at_once(self, unit: str) -> None:
        self.pooler(unit).stop_at_once()

    def restart(self, unit: str) -> None:
        """Replace the processes of a unit in turn, so that the other processes serve clients."""
        # A process that has ended is started first, because a single process that runs would be stopped.
        with self.hook(unit) as application:
            application.pebble_ready()
        for index in sorted(self.read(unit).container.running):
            self.pooler(unit).stop(index)
            with self.hook(unit) as application:
                application.pebble_ready()

    def add_unit(self) -> str:
        """Add a unit, start it, and return its name."""
        number = 1 + max((number_of(name) for name in self.model.units), default=-1)
        name = self.model.add_unit(unit_address(number))
        # The unit is in the state before it has processes, so `pooler down` finds them.
        self.store.save(self.state)
        self.run_startup_hooks(name)
        return name

    def remove_unit(self, name: str) -> None:
        """Remove a unit: run the hooks of its departure, end its processes and delete its files.

        A leader leads until its last hook has run; then another unit becomes the leader.
        """
        staying = [unit for unit in self.leader_first() if unit != name]
        departure = Departure(self.model, name)
        while relations := departure.relations:
            departing = departure.next(relations[0])
            with self.hook(name) as application:
                departing.run(application)
        if staying and self.model.leader == name:
            self.model.leader = staying[0]
        # Clients get the endpoints of the units that stay before this unit stops accepting connections.
        for unit in staying:
            with self.hook(unit) as application:
                application.peers_changed()
        self.pooler(name).stop()
        self.model.remove_unit(name)
        layout = self.layout(name)
        for directory in (layout.root, layout.sockets):
            shutil.rmtree(directory, ignore_errors=True)
        self.store.save(self.state)
        for application in self.applications():
            application.peers_departed(name)
        if self.model.leader:
            with self.hook(self.model.leader) as application:
                application.leader_elected()

    def layout(self, unit: str) -> Layout:
        """Return the paths of a unit, and the addresses at which it listens."""
        number = str(number_of(unit))
        own = self.model.units[unit].address if unit in self.model.units else ""
        return Layout(
            root=str(self.store.home / "units" / number),
            # A short path, because the length of a socket's path is limited. PgBouncer's user can write there.
            sockets=str(self.store.home / "run" / number),
            listen_address=",".join(filter(None, (own, self.state.listen))),
            with_pid_files=True,
        )
