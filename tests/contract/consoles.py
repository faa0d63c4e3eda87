"""What does the application rely on of a process's console? Whoever stands in for it keeps the same word."""

from __future__ import annotations

import pydantic
import pytest

from app.errors import ConsoleFailed
from contract.unit import AUTH, DATABASE, Applying
from domain.console import held


class ConsolesContract(Applying):
    """The consoles of processes, with what clients notice of them."""

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

    def test_a_process_that_is_restarted_remembers_no_pause(self, unit):
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
