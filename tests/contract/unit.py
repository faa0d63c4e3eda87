"""How do tests of a contract tell the PgBouncer processes of a unit what to run with, whatever they are?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import pydantic

from domain.change import Change, change_to
from domain.endpoints import Endpoint
from domain.facts import Container
from domain.instances import PoolerConfig, pooler_config
from domain.plan import Member, Plan, Upstream
from domain.settings import Settings
from domain.users import AuthMaterial

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from app.ports import Consoles, Pooler
    from domain.instances import Layout

AUTH = AuthMaterial(
    auth_user="auth", auth_password=pydantic.SecretStr("auth-pw"),
    stats_user="stats", stats_password=pydantic.SecretStr("stats-pw"),
    admin_user="admin", admin_password=pydantic.SecretStr("admin-pw"),
)  # fmt: skip

DATABASE = "postgres"
WRONG = ("pool_mode", "sideways")


class Transaction(Protocol):
    """What a client has begun."""

    def lives(self) -> bool:
        """Whether something can be done in it."""

    def end(self) -> None:
        """It is committed, and its client has left."""


class Unit(Protocol):
    """The processes of one unit, and what others do there."""

    pooler: Pooler
    consoles: Consoles
    layout: Layout
    server: Endpoint
    ports: tuple[int, int]  #: free ones

    def read(self) -> Container:
        """What is there now."""

    def with_clients(self, config: PoolerConfig) -> PoolerConfig:
        """The same, as clients need it who are to be let in."""

    def transaction(self, index: int, port: int) -> AbstractContextManager[Transaction]:
        """A client of this process has begun one; it leaves at the end of the block."""

    def serves(self, index: int, port: int) -> bool:
        """Whether this process answers a new client in a moment."""

    def refuse(self, line: tuple[str, str]) -> None:
        """PgBouncer takes no such line."""

    def kill(self, index: int) -> None:
        """The process has been killed."""

    def hang(self, index: int) -> None:
        """The process runs, and does nothing any more."""

    def silence(self) -> AbstractContextManager[None]:
        """Meanwhile no process says a word."""

    def away(self) -> AbstractContextManager[None]:
        """Meanwhile the container is not there; then it is a new one. Only of a container."""


class Applying:
    """How a unit is told; a subclass has a fixture `unit`: a Unit of which no process runs yet."""

    @staticmethod
    def config(unit: Unit, processes: int = 1, port: int = 0, **options: object) -> PoolerConfig:
        settings = Settings.model_validate(
            {"listen_port": port or unit.ports[0], "max_db_connections": 8} | options
        )
        plan = Plan(
            settings=settings.model_copy(update={"pool_mode": "transaction"}),
            members=(Member(name="p/0", address="127.0.0.1", share=settings.max_db_connections),),
            upstream=Upstream(
                endpoints=(unit.server,), auth_database="template1", auth_user=AUTH.auth_user
            ),
            databases=(DATABASE,),
        )
        program = unit.pooler.program().model_copy(update={"cpus": processes})
        return unit.with_clients(pooler_config(plan, "p/0", program, unit.layout, AUTH))

    @staticmethod
    def change(unit: Unit, config: PoolerConfig) -> Change:
        """The change to this configuration from what runs now."""
        now = unit.read()
        return change_to(config, unit.pooler.program(), now.applied, now.running)

    def apply(self, unit: Unit, config: PoolerConfig) -> tuple[str, ...]:
        """It is applied; returns what that took."""
        change = self.change(unit, config)
        unit.pooler.apply(change)
        assert unit.read().applied == change.after
        return tuple(f"{step.action} {step.index}" for step in change.steps)

    @staticmethod
    def console(unit: Unit, index: int = 0, port: int = 0):
        return unit.consoles.open(index, port or unit.ports[0], AUTH)

    def limits(self, unit: Unit, *indexes: int) -> list[int]:
        """The most connections to the database that these processes will have."""
        found = []
        for index in indexes:
            with self.console(unit, index) as console:
                found += [one.most for one in console.databases() if one.alias == DATABASE]
        return found

    @staticmethod
    def with_line(config: PoolerConfig, index: int, line: tuple[str, str]) -> PoolerConfig:
        """One process is told this line in place of its own."""
        instances = tuple(
            one.model_copy(
                update={"settings": tuple({**dict(one.settings), line[0]: line[1]}.items())}
            )
            if one.index == index
            else one
            for one in config.instances
        )
        return config.model_copy(update={"instances": instances})


def eventually(true: Callable[[], object], seconds: float = 15.0) -> None:
    """It becomes true, or the test fails."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)
