"""What the application relies on in the console of a PgBouncer process."""

from __future__ import annotations

import pydantic
import pytest

from app.errors import ConsoleFailed
from contract.unit import DATABASE, Applying, eventually
from domain.console import most_connections
from domain.operations import ALL
from logins import CONSOLE_AUTH


class ConsolesContract(Applying):
    """The consoles of processes, and what their clients notice."""

    def test_a_console_shows_open_connections_and_their_limit(self, unit):
        self.apply(unit, self.config(unit, 2))
        with unit.transaction(0, unit.ports[0]), unit.transaction(0, unit.ports[0]):
            with self.console(unit) as console:
                databases, pools = console.databases(), console.pools()
            with self.console(unit, 1) as console:
                others = console.databases(), console.pools()
        (shop,) = [row for row in databases if row.alias == DATABASE]
        assert (shop.database, shop.connections, shop.most) == (DATABASE, 2, 4)
        # The pool in which names are looked up may have an open connection, too.
        (pool,) = [pool for pool in pools if pool.alias == DATABASE]
        assert (pool.alias, pool.mode) == (DATABASE, "transaction")
        assert (pool.clients_active, pool.clients_waiting, pool.servers_active) == (2, 0, 2)
        assert most_connections(databases) == 2
        assert most_connections([row for row in others[0] if row.alias == DATABASE]) == 0
        assert all(pool.alias != DATABASE for pool in others[1])

    def test_a_console_needs_its_password_and_the_port_of_its_process(self, unit):
        self.apply(unit, self.config(unit))
        wrong = CONSOLE_AUTH.model_copy(update={"admin_password": pydantic.SecretStr("wrong")})
        with pytest.raises(ConsoleFailed), unit.consoles.open(0, unit.ports[0], wrong):
            pass
        with pytest.raises(ConsoleFailed), self.console(unit, port=unit.ports[1]):
            pass

    def test_a_silent_console_fails_until_it_answers(self, unit):
        self.apply(unit, self.config(unit))
        with unit.silence(), pytest.raises(ConsoleFailed), self.console(unit):
            pass
        assert self.limits(unit, 0) == [8]

    def test_open_transactions_keep_connections_above_a_lower_limit(self, unit):
        self.apply(unit, self.config(unit))
        port = unit.ports[0]
        with unit.transaction(0, port) as first, unit.transaction(0, port) as second:
            self.apply(unit, self.config(unit, max_db_connections=1))
            with self.console(unit) as console:
                assert most_connections(console.drain_surplus(0.2, reconnect=True)) == 2
            assert (first.lives(), second.lives()) == (True, True)
        with self.console(unit) as console:
            assert most_connections(console.drain_surplus(2.0, reconnect=True)) <= 1

    def test_sessions_of_a_unix_socket_are_not_sessions_without_tls(self, unit):
        self.apply(unit, self.config(unit))
        with unit.transaction(0, unit.ports[0]) as transaction:
            with self.console(unit) as console:
                assert console.end_plain_sessions(at_once=True) == 0
            assert transaction.lives()

    def test_a_pause_of_an_idle_pool_is_complete_and_lasts_until_resume(self, unit):
        self.apply(unit, self.config(unit, 2))
        for _ in range(2):
            self.pause(unit)
        assert [unit.serves(index, unit.ports[0]) for index in (0, 1)] == [False, True]
        with self.console(unit) as console:
            assert console.paused() == {ALL}
        for _ in range(2):
            with self.console(unit) as console:
                console.resume()
                assert console.paused() == set()
        assert unit.serves(0, unit.ports[0])

    def test_a_database_is_paused_alone_and_stays_when_all_resume(self, unit):
        self.apply(unit, self.config(unit))
        self.pause(unit, DATABASE)
        self.pause(unit)
        with self.console(unit) as console:
            assert DATABASE in console.paused()
            console.resume({DATABASE})
            assert console.paused() == {DATABASE}
        assert not unit.serves(0, unit.ports[0])
        with self.console(unit) as console:
            console.resume()
        assert unit.serves(0, unit.ports[0])

    def test_a_console_shows_clients_and_disconnects_them(self, unit):
        self.apply(unit, self.config(unit))
        with unit.transaction(0, unit.ports[0]) as transaction:
            with self.console(unit) as console:
                (client,) = console.sessions()
                assert (client.alias, client.linked) == (DATABASE, True)
                assert client.user
                console.kill(client.number)
                console.kill(client.number)
                assert console.sessions() == ()
            assert not transaction.lives()

    def test_a_process_that_starts_during_a_pause_is_paused(self, unit):
        paused = self.config(unit).model_copy(update={"paused": (ALL,)})
        self.apply(unit, paused)
        with self.console(unit) as console:
            assert console.paused() == {ALL}
        assert not unit.serves(0, unit.ports[0])
        self.apply(unit, self.config(unit))
        with self.console(unit) as console:
            console.resume()
        assert unit.serves(0, unit.ports[0])

    def test_a_pause_is_complete_when_open_transactions_have_ended(self, unit):
        self.apply(unit, self.config(unit))
        with unit.transaction(0, unit.ports[0]) as transaction:
            for _ in range(2):
                self.pause(unit)
                assert self.is_busy(unit)
            assert transaction.lives()
            transaction.end()
            eventually(lambda: not self.is_busy(unit))
        assert not unit.serves(0, unit.ports[0])

    def test_a_restarted_process_is_not_paused(self, unit):
        self.apply(unit, self.config(unit))
        self.pause(unit)
        self.apply(unit, self.config(unit, port=unit.ports[1]))
        assert unit.serves(0, unit.ports[1])

    def test_a_reconnect_breaks_no_transaction_also_while_paused(self, unit):
        self.apply(unit, self.config(unit))
        with unit.transaction(0, unit.ports[0]) as transaction:
            with self.console(unit) as console:
                console.reconnect()
            self.pause(unit)
            with self.console(unit) as console:
                console.reconnect()
                assert most_connections(console.databases()) == 1
                console.resume()
            assert transaction.lives()
        assert unit.serves(0, unit.ports[0])
