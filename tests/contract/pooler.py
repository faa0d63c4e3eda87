"""What does the application rely on of PgBouncer processes and their consoles? Whoever stands in for them keeps
the same word.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import pydantic
import pytest

from app.errors import ConsoleFailed, PoolerFailed
from domain.applied import applied, steps
from domain.console import held
from domain.facts import Container
from domain.instances import PoolerConfig, pooler_config
from domain.pools import Endpoint, Member, Plan, Upstream
from domain.settings import Settings
from domain.users import AuthMaterial

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from app.ports import Consoles, Pooler
    from domain.applied import Applied, Step
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

    def look(self) -> Container:
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

    def silence(self) -> AbstractContextManager[None]:
        """Meanwhile no process says a word."""


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
    def wanted(unit: Unit, config: PoolerConfig) -> tuple[Applied, tuple[Step, ...]]:
        """What is to be remembered, and what has to be done."""
        now = unit.look()
        wanted = applied(config, unit.pooler.program(), now.applied, now.running)
        return wanted, steps(now.applied, wanted, now.running)

    def apply(self, unit: Unit, config: PoolerConfig) -> tuple[str, ...]:
        """It is applied; returns what that took."""
        wanted, taken = self.wanted(unit, config)
        unit.pooler.apply(config, wanted, taken)
        assert unit.look().applied == wanted
        return tuple(f"{step.action} {step.index}" for step in taken)

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


class PoolerContract(Applying):
    """The processes of a platform on which what is told to stop has gone when that was said."""

    def test_at_first_nothing_runs(self, unit):
        assert unit.look() == Container(reachable=True)
        with pytest.raises(ConsoleFailed), self.console(unit):
            pass

    def test_the_program_says_the_same_twice(self, unit):
        program = unit.pooler.program()
        assert program.cpus >= 1
        assert unit.pooler.program() == program

    # ---- steps ----------------------------------------------------------------------------------

    def test_what_was_started_runs_and_is_remembered(self, unit):
        assert self.apply(unit, self.config(unit, 2)) == ("start 0", "start 1")
        seen = unit.look()
        assert (seen.running, seen.ending, seen.runs) == ({0, 1}, frozenset(), True)
        assert seen.program == unit.pooler.program()
        assert all(unit.serves(index, unit.ports[0]) for index in (0, 1))
        assert self.apply(unit, self.config(unit, 2)) == ()

    def test_what_is_remembered_is_found_and_touches_no_process(self, unit):
        self.apply(unit, self.config(unit))
        other, _ = self.wanted(unit, self.config(unit, max_db_connections=4))
        unit.pooler.remember(other)
        assert unit.look().applied == other
        assert unit.look().running == {0}
        assert self.limits(unit, 0) == [8]

    def test_a_reload_is_in_force_at_once_and_ends_no_transaction(self, unit):
        self.apply(unit, self.config(unit))
        with unit.transaction(0, unit.ports[0]) as open_one:
            assert self.apply(unit, self.config(unit, max_db_connections=4)) == ("reload 0",)
            assert self.limits(unit, 0) == [4]
            assert open_one.lives()

    def test_who_is_not_told_goes_on_as_before(self, unit):
        self.apply(unit, self.config(unit, 2))
        config = self.config(unit, 2, max_db_connections=4)
        wanted, (first, _) = self.wanted(unit, config)
        unit.pooler.apply(config, wanted, (first,))
        assert self.limits(unit, 0, 1) == [2, 4]
        unit.pooler.apply(config, wanted, ())
        assert self.limits(unit, 0, 1) == [2, 4]

    def test_a_restart_moves_a_process_to_its_new_port(self, unit):
        old, new = unit.ports
        self.apply(unit, self.config(unit))
        assert self.apply(unit, self.config(unit, port=new)) == ("restart 0",)
        assert unit.look().running == {0}
        assert (unit.serves(0, old), unit.serves(0, new)) == (False, True)
        with self.console(unit, port=new) as console:
            assert held(console.databases()) <= 1
        with pytest.raises(ConsoleFailed), self.console(unit, port=old):
            pass

    def test_a_process_that_was_killed_does_not_run_until_it_is_started(self, unit):
        self.apply(unit, self.config(unit, 2))
        with unit.transaction(1, unit.ports[0]) as open_one:
            unit.kill(1)
            assert unit.look().running == {0}
            assert not unit.look().runs
            assert not open_one.lives()
        with pytest.raises(ConsoleFailed), self.console(unit, 1):
            pass
        assert self.apply(unit, self.config(unit, 2)) == ("start 1",)
        assert unit.look().runs
        assert unit.serves(1, unit.ports[0])

    def test_what_was_stopped_is_gone_with_its_clients_and_the_others_go_on(self, unit):
        self.apply(unit, self.config(unit, 2))
        port = unit.ports[0]
        with unit.transaction(0, port) as staying, unit.transaction(1, port) as stopped:
            assert self.apply(unit, self.config(unit, 1)) == ("reload 0", "stop 1")
            seen = unit.look()
            assert (seen.running, seen.ending) == ({0}, frozenset())
            assert (staying.lives(), stopped.lives()) == (True, False)
        assert not unit.serves(1, port)
        with pytest.raises(ConsoleFailed), self.console(unit, 1):
            pass
        assert self.apply(unit, self.config(unit, 2)) == ("reload 0", "start 1")

    # ---- what is refused ------------------------------------------------------------------------

    def test_a_line_that_is_refused_is_named_and_all_stays_as_it_was(self, unit):
        self.apply(unit, self.config(unit))
        before = unit.look()
        unit.refuse(WRONG)
        config = self.with_line(self.config(unit, max_db_connections=4), 0, WRONG)
        wanted, taken = self.wanted(unit, config)
        with unit.transaction(0, unit.ports[0]) as open_one:
            with pytest.raises(
                PoolerFailed, match=r"^PgBouncer refuses the line pool_mode = sideways$"
            ):
                unit.pooler.apply(config, wanted, taken)
            assert open_one.lives()
            with self.console(unit) as console:
                assert {pool.mode for pool in console.pools()} == {"transaction"}
        assert unit.look() == before
        assert self.apply(unit, self.config(unit, max_db_connections=4)) == ("reload 0",)
        assert self.limits(unit, 0) == [4]

    def test_a_line_that_the_second_refuses_leaves_it_as_it_was_and_nothing_is_remembered(
        self, unit
    ):
        self.apply(unit, self.config(unit, 2))
        before = unit.look()
        unit.refuse(WRONG)
        config = self.with_line(self.config(unit, 2, max_db_connections=4), 1, WRONG)
        wanted, taken = self.wanted(unit, config)
        with pytest.raises(PoolerFailed, match="sideways"):
            unit.pooler.apply(config, wanted, taken)
        assert unit.look() == before
        assert self.limits(unit, 1) == [4]

    def test_a_process_that_its_file_does_not_let_start_says_so_and_starts_with_another(
        self, unit
    ):
        unit.refuse(WRONG)
        config = self.with_line(self.config(unit), 0, WRONG)
        wanted, taken = self.wanted(unit, config)
        with pytest.raises(PoolerFailed, match="sideways"):
            unit.pooler.apply(config, wanted, taken)
        assert (unit.look().running, unit.look().applied) == (frozenset(), None)
        assert self.apply(unit, self.config(unit)) == ("start 0",)
        assert unit.serves(0, unit.ports[0])

    def test_a_process_that_is_restarted_with_a_file_it_refuses_does_not_run(self, unit):
        self.apply(unit, self.config(unit))
        before = unit.look().applied
        unit.refuse(WRONG)
        config = self.with_line(self.config(unit, port=unit.ports[1]), 0, WRONG)
        wanted, taken = self.wanted(unit, config)
        with pytest.raises(PoolerFailed, match="sideways"):
            unit.pooler.apply(config, wanted, taken)
        assert (unit.look().running, unit.look().applied) == (frozenset(), before)

    # ---- consoles -------------------------------------------------------------------------------

    def test_a_console_tells_what_is_open_and_what_may_be(self, unit):
        self.apply(unit, self.config(unit, 2))
        with unit.transaction(0, unit.ports[0]), unit.transaction(0, unit.ports[0]):
            with self.console(unit) as console:
                databases, pools = console.databases(), console.pools()
            with self.console(unit, 1) as console:
                others = console.databases(), console.pools()
        (shop,) = [one for one in databases if one.alias == DATABASE]
        assert (shop.database, shop.connections, shop.most) == (DATABASE, 2, 4)
        (pool,) = pools
        assert (pool.alias, pool.mode) == (DATABASE, "transaction")
        assert (pool.clients_active, pool.clients_waiting, pool.servers_active) == (2, 0, 2)
        assert (held(databases), held(others[0]), others[1]) == (2, 0, ())

    def test_nobody_has_a_console_without_its_password_or_at_another_port(self, unit):
        self.apply(unit, self.config(unit))
        wrong = AUTH.model_copy(update={"admin_password": pydantic.SecretStr("wrong")})
        with pytest.raises(ConsoleFailed), unit.consoles.open(0, unit.ports[0], wrong):
            pass
        with pytest.raises(ConsoleFailed), self.console(unit, port=unit.ports[1]):
            pass

    def test_a_console_that_says_nothing_has_failed_until_it_answers(self, unit):
        self.apply(unit, self.config(unit))
        with unit.silence(), pytest.raises(ConsoleFailed), self.console(unit):
            pass
        assert self.limits(unit, 0) == [8]

    def test_what_clients_hold_on_to_stays_above_a_new_limit_until_they_let_go(self, unit):
        self.apply(unit, self.config(unit))
        port = unit.ports[0]
        with unit.transaction(0, port) as one, unit.transaction(0, port) as other:
            self.apply(unit, self.config(unit, max_db_connections=1))
            with self.console(unit) as console:
                assert held(console.shed(0.2, reconnect=True)) == 2
            assert (one.lives(), other.lives()) == (True, True)
        with self.console(unit) as console:
            assert held(console.shed(2.0, reconnect=True)) <= 1

    def test_a_pause_of_what_is_idle_is_complete_and_nothing_begins_until_it_is_resumed(
        self, unit
    ):
        self.apply(unit, self.config(unit, 2))
        for _ in range(2):
            with self.console(unit) as console:
                assert console.pause(2.0)
        assert [unit.serves(index, unit.ports[0]) for index in (0, 1)] == [False, True]
        for _ in range(2):
            with self.console(unit) as console:
                console.resume()
        assert unit.serves(0, unit.ports[0])

    def test_a_pause_is_complete_when_what_was_open_has_ended(self, unit):
        self.apply(unit, self.config(unit))
        with unit.transaction(0, unit.ports[0]) as open_one:
            for _ in range(2):
                with self.console(unit) as console:
                    assert not console.pause(0.0)
            assert open_one.lives()
            open_one.end()
            with self.console(unit) as console:
                assert console.pause(2.0)
        assert not unit.serves(0, unit.ports[0])

    def test_a_process_that_was_paused_and_is_restarted_is_not(self, unit):
        self.apply(unit, self.config(unit))
        with self.console(unit) as console:
            assert console.pause(2.0)
        self.apply(unit, self.config(unit, port=unit.ports[1]))
        assert unit.serves(0, unit.ports[1])

    def test_new_connections_while_paused_or_not_break_no_transaction(self, unit):
        self.apply(unit, self.config(unit))
        with unit.transaction(0, unit.ports[0]) as open_one:
            with self.console(unit) as console:
                console.reconnect()
            with self.console(unit) as console:
                console.pause(0.0)
            with self.console(unit) as console:
                console.reconnect()
                assert held(console.databases()) == 1
                console.resume()
            assert open_one.lives()
        assert unit.serves(0, unit.ports[0])

    def test_a_pool_that_is_killed_loses_what_was_open_and_begins_nothing_until_it_is_resumed(
        self, unit
    ):
        self.apply(unit, self.config(unit))
        with unit.transaction(0, unit.ports[0]) as open_one, self.console(unit) as console:
            console.kill(DATABASE)
            assert not open_one.lives()
            assert [one.alias for one in console.databases() if one.paused] == [DATABASE]
            assert held(console.databases()) == 0
        assert not unit.serves(0, unit.ports[0])
        with self.console(unit) as console:
            console.resume()
        assert unit.serves(0, unit.ports[0])

    def test_what_is_paused_cannot_be_killed(self, unit):
        self.apply(unit, self.config(unit))
        with unit.transaction(0, unit.ports[0]) as open_one:
            with self.console(unit) as console:
                console.pause(0.0)
            with pytest.raises(ConsoleFailed), self.console(unit) as console:
                console.kill(DATABASE)
            assert open_one.lives()


class SupervisedContract(Applying):
    """The processes of a platform whose supervisor stops them while others go on."""

    def test_what_was_stopped_ends_with_its_transactions_and_starts_when_it_has_ended(self, unit):
        self.apply(unit, self.config(unit, 2))
        eventually(lambda: unit.serves(1, unit.ports[0]))
        with unit.transaction(1, unit.ports[0]) as open_one:
            self.apply(unit, self.config(unit, 1))
            seen = unit.look()
            assert (seen.running, seen.ending, seen.runs) == ({0}, {1}, True)
            assert [one.index for one in seen.applied.ending] == [1]
            assert unit.serves(0, unit.ports[0])
            config = self.config(unit, 2)
            wanted, taken = self.wanted(unit, config)
            with pytest.raises(PoolerFailed, match="cannot start service while terminating"):
                unit.pooler.apply(config, wanted, taken)
            assert unit.look().applied == seen.applied
            assert open_one.lives()
            open_one.end()
        eventually(lambda: not unit.look().ending)
        assert unit.look().running == {0}
        assert self.apply(unit, self.config(unit, 2))[-1] == "start 1"
        assert unit.look().runs


def eventually(true: Callable[[], object], seconds: float = 15.0) -> None:
    """It becomes true, or the test fails."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)
