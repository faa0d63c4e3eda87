"""How client users are dropped, and what a withdrawal leaves in PostgreSQL."""

from __future__ import annotations

import contextlib

import pytest

from app.errors import AccessRefused, DatabaseBusy, DatabaseRefused, NoTimeLeft
from contract.server import ServerContract
from logins import AUTH_PASSWORD, AUTH_USER, asked, login


class WithdrawalContract(ServerContract):
    """The tests for the end of a client, and of the relation to PostgreSQL."""

    def test_a_dropped_client_leaves_its_database_to_other_clients(self, server):
        self.provided(server, asked(1), asked(2))
        with self.opened(server) as database:
            database.revoke("relation_id_1")
            database.revoke("relation_id_1")
            assert database.users() == {"relation_id_2"}
        assert not self.admits(server, login(1))
        assert self.admits(server, login(2))
        with self.opened(server) as database:
            assert database.grant(asked(1)), "it comes back without a password"

    def test_a_client_that_cannot_be_dropped_is_locked_out_and_can_return(self, server):
        self.provided(server, asked(1), asked(2))
        with server.sticks("relation_id_1", "shop"), self.opened(server) as database:
            with pytest.raises(DatabaseRefused):
                database.revoke("relation_id_1")
            assert database.users() == {"relation_id_1", "relation_id_2"}
        assert not self.admits(server, login(1))
        assert self.admits(server, login(2))
        with self.opened(server) as database:
            assert database.grant(asked(1)), "it has no password any more"
            database.set_password(login(1))
        assert self.admits(server, login(1))

    def test_users_that_are_locked_out_have_no_login_and_no_password(self, server):
        self.provided(server, asked(1), asked(2), asked(3, "blog"))
        server.has_role("stranger")
        with self.opened(server) as database:
            names = ["relation_id_1", "relation_id_3", "stranger", AUTH_USER, "relation_id_9"]
            assert database.lock_out(names) == {}
            assert database.lock_out(names) == {}
            assert database.users() == {"relation_id_1", "relation_id_2", "relation_id_3"}
        assert not self.admits(server, login(1))
        assert not self.admits(server, login(3), "blog")
        assert self.admits(server, login(2))
        assert self.admits(server, login(AUTH_USER, AUTH_PASSWORD), server.backend.database)
        with self.opened(server) as database:
            assert database.grant(asked(1)), "it has no password any more"
        assert not self.admits(server, login(1))

    def test_a_locked_database_delays_only_its_own_clients(self, server):
        self.provided(server, asked(1), asked(2, "blog"))
        with server.hangs("shop"), self.opened(server) as database:
            with pytest.raises(DatabaseBusy):
                database.grant(asked(1))
            assert database.grant(asked(3, "blog"))
            assert database.lock_out(["relation_id_1"]) == {}
            with pytest.raises(DatabaseBusy):
                database.revoke("relation_id_1")
            database.revoke("relation_id_2")
            assert database.users() == {"relation_id_1", "relation_id_3"}
        assert not self.admits(server, login(1))
        with self.opened(server) as database:
            database.revoke("relation_id_1")
            assert database.users() == {"relation_id_3"}

    def test_a_hook_whose_time_is_used_waits_for_no_further_database(self, server):
        names = [f"shop{number}" for number in range(1, 5)]
        self.provided(server, *(asked(number, name) for number, name in enumerate(names, 1)))
        with contextlib.ExitStack() as hanging:
            for name in names:
                hanging.enter_context(server.hangs(name))
            with self.opened(server) as database:
                tried = [self.trouble(database, number) for number in range(1, 5)]
            assert tried == [DatabaseBusy, DatabaseBusy, NoTimeLeft, NoTimeLeft]
            with self.opened(server) as database:
                database.hurry()
                tried = [self.trouble(database, number) for number in range(1, 5)]
            assert tried == [DatabaseBusy] * 4

    def test_a_withdrawal_leaves_only_databases_and_foreign_roles(self, server):
        self.provided(server, asked(1))
        server.has_role("stranger")
        with self.opened(server) as database:
            database.withdraw()
            database.withdraw()
            assert database.users() == set()
            with pytest.raises(AccessRefused):
                database.grant(asked(1).model_copy(update={"username": "stranger"}))
        assert not self.admits(server, login(1))
        assert not self.admits(server, login(AUTH_USER, AUTH_PASSWORD), server.backend.database)
        self.provided(server, asked(1))
        assert self.admits(server, login(1))

    def test_a_withdrawal_continues_after_a_client_that_cannot_be_dropped(self, server):
        self.provided(server, asked(1))
        with server.sticks("relation_id_1", "shop"), self.opened(server) as database:
            with pytest.raises(DatabaseRefused):
                database.withdraw()
            assert database.users() == {"relation_id_1"}
        assert not self.admits(server, login(1))
        assert not self.admits(server, login(AUTH_USER, AUTH_PASSWORD), server.backend.database)
        with self.opened(server) as database:
            database.withdraw()
            assert database.users() == set()
