"""What the application relies on in the PgBouncer processes of a unit."""

from __future__ import annotations

import pytest

from app.errors import ConsoleFailed, PoolerFailed, PoolerUnreachable
from contract.unit import WRONG, Applying, eventually
from domain.applied import Step
from domain.console import most_connections
from domain.facts import Container


class PoolerContract(Applying):
    """The processes of a platform that stops a process before `apply` returns."""

    def test_no_process_runs_before_the_first_configuration(self, unit):
        assert unit.read() == Container(reachable=True)
        with pytest.raises(ConsoleFailed), self.console(unit):
            pass

    def test_the_program_is_the_same_in_every_answer(self, unit):
        program = unit.pooler.program()
        assert program.cpus >= 1
        assert unit.pooler.program() == program

    # ---- steps ----------------------------------------------------------------------------------

    def test_started_processes_run_and_are_stored(self, unit):
        assert self.apply(unit, self.config(unit, 2)) == ("start 0", "start 1")
        seen = unit.read()
        assert (seen.running, seen.ending, seen.runs) == ({0, 1}, frozenset(), True)
        assert seen.program == unit.pooler.program()
        assert all(unit.serves(index, unit.ports[0]) for index in (0, 1))
        assert self.apply(unit, self.config(unit, 2)) == ()

    def test_a_state_is_stored_without_a_change_of_a_process(self, unit):
        self.apply(unit, self.config(unit))
        other = self.change(unit, self.config(unit, max_db_connections=4)).after
        unit.pooler.remember(other)
        assert unit.read().applied == other
        assert unit.read().running == {0}
        assert self.limits(unit, 0) == [8]

    def test_a_reload_is_in_force_at_once_and_ends_no_transaction(self, unit):
        self.apply(unit, self.config(unit))
        with unit.transaction(0, unit.ports[0]) as open_one:
            assert self.apply(unit, self.config(unit, max_db_connections=4)) == ("reload 0",)
            assert self.limits(unit, 0) == [4]
            assert open_one.lives()

    def test_a_process_without_a_step_keeps_its_configuration(self, unit):
        self.apply(unit, self.config(unit, 2))
        config = self.config(unit, 2, max_db_connections=4)
        change = self.change(unit, config)
        unit.pooler.apply(change._replace(steps=change.steps[:1]))
        assert self.limits(unit, 0, 1) == [2, 4]
        unit.pooler.apply(change._replace(steps=()))
        assert self.limits(unit, 0, 1) == [2, 4]

    def test_a_restart_moves_a_process_to_its_new_port(self, unit):
        old, new = unit.ports
        self.apply(unit, self.config(unit))
        assert self.apply(unit, self.config(unit, port=new)) == ("restart 0",)
        assert unit.read().running == {0}
        assert (unit.serves(0, old), unit.serves(0, new)) == (False, True)
        with self.console(unit, port=new) as console:
            assert most_connections(console.databases()) <= 1
        with pytest.raises(ConsoleFailed), self.console(unit, port=old):
            pass

    def test_a_process_that_was_killed_does_not_run_until_it_is_started(self, unit):
        self.apply(unit, self.config(unit, 2))
        with unit.transaction(1, unit.ports[0]) as open_one:
            unit.kill(1)
            assert unit.read().running == {0}
            assert not unit.read().runs
            assert not open_one.lives()
        with pytest.raises(ConsoleFailed), self.console(unit, 1):
            pass
        assert self.apply(unit, self.config(unit, 2)) == ("start 1",)
        assert unit.read().runs
        assert unit.serves(1, unit.ports[0])

    def test_a_process_that_does_not_answer_is_found_and_replaced(self, unit):
        self.apply(unit, self.config(unit, 2))
        unit.hang(1)
        seen = unit.read()
        assert (seen.running, seen.unresponsive, seen.runs) == ({0}, {1}, False)
        with pytest.raises(ConsoleFailed), self.console(unit, 1):
            pass
        assert self.apply(unit, self.config(unit, 2)) == ("start 1",)
        assert (unit.read().unresponsive, unit.read().runs) == (frozenset(), True)
        assert unit.serves(1, unit.ports[0])

    def test_a_process_that_does_not_answer_can_be_stopped(self, unit):
        self.apply(unit, self.config(unit, 2))
        unit.hang(1)
        change = self.change(unit, self.config(unit, 1))
        unit.pooler.apply(change._replace(steps=(Step(action="stop", index=1),)))
        seen = unit.read()
        assert (seen.running, seen.unresponsive, seen.runs) == ({0}, frozenset(), True)

    def test_a_stopped_process_ends_with_its_clients_and_no_other_process(self, unit):
        self.apply(unit, self.config(unit, 2))
        port = unit.ports[0]
        with unit.transaction(0, port) as staying, unit.transaction(1, port) as stopped:
            assert self.apply(unit, self.config(unit, 1)) == ("reload 0", "stop 1")
            seen = unit.read()
            assert (seen.running, seen.ending) == ({0}, frozenset())
            assert (staying.lives(), stopped.lives()) == (True, False)
        assert not unit.serves(1, port)
        with pytest.raises(ConsoleFailed), self.console(unit, 1):
            pass
        assert self.apply(unit, self.config(unit, 2)) == ("reload 0", "start 1")

    # ---- what is refused ------------------------------------------------------------------------

    def test_a_refused_line_is_named_and_changes_nothing(self, unit):
        self.apply(unit, self.config(unit))
        before = unit.read()
        unit.refuse(WRONG)
        config = self.with_line(self.config(unit, max_db_connections=4), 0, WRONG)
        change = self.change(unit, config)
        with unit.transaction(0, unit.ports[0]) as open_one:
            with pytest.raises(
                PoolerFailed, match=r"^PgBouncer refuses the line pool_mode = sideways$"
            ):
                unit.pooler.apply(change)
            assert open_one.lives()
            with self.console(unit) as console:
                assert {pool.mode for pool in console.pools()} == {"transaction"}
        assert unit.read() == before
        assert self.apply(unit, self.config(unit, max_db_connections=4)) == ("reload 0",)
        assert self.limits(unit, 0) == [4]

    def test_a_line_that_the_second_process_refuses_is_not_in_force_or_stored(self, unit):
        self.apply(unit, self.config(unit, 2))
        before = unit.read()
        unit.refuse(WRONG)
        config = self.with_line(self.config(unit, 2, max_db_connections=4), 1, WRONG)
        change = self.change(unit, config)
        with pytest.raises(PoolerFailed, match="sideways"):
            unit.pooler.apply(change)
        assert unit.read() == before
        assert self.limits(unit, 0, 1) == [4, 4], "the first process has taken it, and back"

    def test_a_reload_without_an_answer_is_not_stored(self, unit):
        self.apply(unit, self.config(unit, 2))
        before = unit.read().applied
        config = self.config(unit, 2, max_db_connections=4)
        change = self.change(unit, config)
        unit.hang(1)
        with pytest.raises(PoolerUnreachable, match=r"process 1 cannot be asked after its reload"):
            unit.pooler.apply(change)
        assert unit.read().applied == before
        assert self.apply(unit, config) == ("reload 0", "start 1")
        assert self.limits(unit, 0, 1) == [2, 2]

    def test_a_process_whose_file_is_refused_reports_it_and_starts_later(self, unit):
        unit.refuse(WRONG)
        config = self.with_line(self.config(unit), 0, WRONG)
        change = self.change(unit, config)
        with pytest.raises(PoolerFailed, match="sideways"):
            unit.pooler.apply(change)
        assert (unit.read().running, unit.read().applied) == (frozenset(), None)
        assert self.apply(unit, self.config(unit)) == ("start 0",)
        assert unit.serves(0, unit.ports[0])

    def test_a_process_that_is_restarted_with_a_refused_file_does_not_run(self, unit):
        self.apply(unit, self.config(unit))
        before = unit.read().applied
        unit.refuse(WRONG)
        config = self.with_line(self.config(unit, port=unit.ports[1]), 0, WRONG)
        change = self.change(unit, config)
        with pytest.raises(PoolerFailed, match="sideways"):
            unit.pooler.apply(change)
        assert (unit.read().running, unit.read().applied) == (frozenset(), before)


class SupervisedContract(Applying):
    """The processes of a platform whose supervisor stops a process after `apply` has returned."""

    def test_a_stopped_process_ends_after_its_transactions_and_can_start_again(self, unit):
        self.apply(unit, self.config(unit, 2))
        eventually(lambda: unit.serves(1, unit.ports[0]))
        with unit.transaction(1, unit.ports[0]) as open_one:
            self.apply(unit, self.config(unit, 1))
            seen = unit.read()
            assert (seen.running, seen.ending, seen.runs) == ({0}, {1}, True)
            assert [process.index for process in seen.applied.ending] == [1]
            assert unit.serves(0, unit.ports[0])
            config = self.config(unit, 2)
            change = self.change(unit, config)
            with pytest.raises(PoolerFailed, match="cannot start service while terminating"):
                unit.pooler.apply(change)
            assert unit.read().applied == seen.applied
            assert open_one.lives()
            open_one.end()
        eventually(lambda: not unit.read().ending)
        assert unit.read().running == {0}
        assert self.apply(unit, self.config(unit, 2))[-1] == "start 1"
        assert unit.read().runs

    def test_a_process_that_does_not_answer_is_replaced_by_its_supervisor(self, unit):
        self.apply(unit, self.config(unit, 2))
        eventually(lambda: unit.serves(1, unit.ports[0]))
        unit.hang(1)
        eventually(lambda: unit.read().unresponsive == {1}, 25)
        eventually(lambda: unit.serves(1, unit.ports[0]))
        eventually(lambda: unit.read().unresponsive == frozenset())
        assert unit.read().runs

    def test_a_restart_that_waits_for_a_transaction_happens_once(self, unit):
        self.apply(unit, self.config(unit))
        eventually(lambda: unit.serves(0, unit.ports[0]))
        config = self.config(unit, port=unit.ports[1])
        with unit.transaction(0, unit.ports[0]) as open_one:
            assert self.apply(unit, config) == ("restart 0",)
            assert (unit.read().runs, unit.read().ending) == (True, frozenset())
            assert self.apply(unit, config) == ()
            open_one.end()
        eventually(lambda: unit.serves(0, unit.ports[1]))
        assert unit.read().runs

    def test_a_container_that_is_away_refuses_calls_and_returns_empty(self, unit):
        self.apply(unit, self.config(unit))
        config = self.config(unit, max_db_connections=4)
        change = self.change(unit, config)
        with unit.away():
            assert unit.read() == Container()
            for attempt in (
                unit.pooler.program,
                lambda: unit.pooler.remember(change.after),
                lambda: unit.pooler.apply(change),
            ):
                with pytest.raises(PoolerFailed):
                    attempt()
            with pytest.raises(ConsoleFailed), self.console(unit):
                pass
        assert unit.read() == Container(reachable=True)
        assert self.apply(unit, self.config(unit)) == ("start 0",)
        assert unit.read().runs
