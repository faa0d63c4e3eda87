"""Configure the PgBouncer processes of a unit, which are real or in memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from domain.change import Change, change_to
from domain.endpoints import Endpoint
from domain.facts import Container
from domain.instances import PoolerConfig, pooler_config
from domain.plan import Member, Plan, Upstream
from domain.settings import Settings
from logins import CONSOLE_AUTH

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from app.ports import Consoles, Pooler
    from domain.instances import Layout

DATABASE = "postgres"
WRONG = ("pool_mode", "sideways")


def plan_for(settings: Settings, server: Endpoint) -> Plan:
    """Return the plan of the single unit p/0, which has a pool to DATABASE on this server."""
    return Plan(
        settings=settings,
        members=(Member(name="p/0", address="127.0.0.1", share=settings.max_db_connections),),
        upstream=Upstream(
            endpoints=(server,), auth_database="template1", auth_user=CONSOLE_AUTH.auth_user
        ),
        databases=(DATABASE,),
    )


class Transaction(Protocol):
    """A transaction of a client."""

    def lives(self) -> bool:
        """Return whether the client can run a query in it."""

    def end(self) -> None:
        """Commit it, and disconnect the client."""


class Unit(Protocol):
    """The processes of a unit, and what clients and the machine do to them."""

    pooler: Pooler
    consoles: Consoles
    layout: Layout
    server: Endpoint
    # Two free ports.
    ports: tuple[int, int]

    def read(self) -> Container:
        """Return the state of the processes."""

    def with_clients(self, config: PoolerConfig) -> PoolerConfig:
        """Return the configuration with the user of `transaction`."""

    def transaction(self, index: int, port: int) -> AbstractContextManager[Transaction]:
        """Begin a transaction at this process; its client disconnects at the end of the block."""

    def serves(self, index: int, port: int) -> bool:
        """Return whether this process runs a query of a new client within seconds."""

    def refuse(self, line: tuple[str, str]) -> None:
        """Let PgBouncer refuse this line."""

    def kill(self, index: int) -> None:
        """Kill the process."""

    def hang(self, index: int) -> None:
        """Suspend the process: it runs, and does not answer."""

    def silence(self) -> AbstractContextManager[None]:
        """Let no console answer."""

    def away(self) -> AbstractContextManager[None]:
        """Remove the container, and start another container at the end. Only units in a container have it."""


class Applying:
    """Applies configurations. A subclass has a fixture `unit`: a Unit before its first process."""

    @staticmethod
    def config(unit: Unit, processes: int = 1, port: int = 0, **options: object) -> PoolerConfig:
        settings = Settings.model_validate(
            {"listen_port": port or unit.ports[0], "max_db_connections": 8} | options
        )
        plan = plan_for(settings.model_copy(update={"pool_mode": "transaction"}), unit.server)
        program = unit.pooler.program().model_copy(update={"cpus": processes})
        return unit.with_clients(pooler_config(plan, "p/0", program, unit.layout, CONSOLE_AUTH))

    @staticmethod
    def change(unit: Unit, config: PoolerConfig) -> Change:
        """Return the change to this configuration from what runs now."""
        now = unit.read()
        return change_to(config, unit.pooler.program(), now.applied, now.running)

    def apply(self, unit: Unit, config: PoolerConfig) -> tuple[str, ...]:
        """Apply a configuration; return the steps that it took."""
        change = self.change(unit, config)
        unit.pooler.apply(change)
        assert unit.read().applied == change.after
        return tuple(f"{step.action} {step.index}" for step in change.steps)

    @staticmethod
    def console(unit: Unit, index: int = 0, port: int = 0):
        return unit.consoles.open(index, port or unit.ports[0], CONSOLE_AUTH)

    def pause(self, unit: Unit, alias: str = "", index: int = 0) -> None:
        """Pause a database of a process unless it is paused."""
        with self.console(unit, index) as console:
            if alias in console.paused():
                return
        with self.console(unit, index) as console:
            console.pause(alias)

    def is_busy(self, unit: Unit) -> bool:
        """Return whether a server connection of process 0 has a transaction."""
        with self.console(unit) as console:
            return any(pool.servers_active for pool in console.pools())

    def limits(self, unit: Unit, *indexes: int) -> list[int]:
        """Return the max_db_connections of DATABASE in each of these processes."""
        found = []
        for index in indexes:
            with self.console(unit, index) as console:
                found += [row.most for row in console.databases() if row.alias == DATABASE]
        return found

    @staticmethod
    def with_line(config: PoolerConfig, index: int, line: tuple[str, str]) -> PoolerConfig:
        """Return the configuration with another line in place of a line of a process."""
        instances = tuple(
            instance.model_copy(
                update={"settings": tuple({**dict(instance.settings), line[0]: line[1]}.items())}
            )
            if instance.index == index
            else instance
            for instance in config.instances
        )
        return config.model_copy(update={"instances": instances})


def eventually(true: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait until `true` returns a true value; fail after some seconds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)
