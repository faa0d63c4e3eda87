"""How a client gets another name, and how its former name ends."""

from __future__ import annotations

import time

import pytest

from app.errors import AccessRefused
from contract.server import ServerContract
from domain.made import CLIENT
from logins import AUTH_USER, asked, login

FIRST, SECOND = "relation_id_1", "relation_id_1__2"


def renamed(grant):
    return grant.model_copy(update={"username": SECOND})


class RenamesContract(ServerContract):
    """The tests for the names of a client."""

    def test_the_former_password_is_that_of_the_former_name_alone(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database:
            for _ in range(2):
                database.rename(FIRST, SECOND)
                assert database.grant(renamed(asked(1))), "it has no password yet"
                assert database.users() == {FIRST, SECOND}
            assert database.made().names(CLIENT) == {FIRST, SECOND}
        assert self.admits(server, login(FIRST))
        assert not self.admits(server, login(SECOND))

    def test_a_client_logs_in_again_after_its_sessions_have_ended(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database:
            database.end_sessions(FIRST)
            database.end_sessions("no such role")
            database.end_sessions(AUTH_USER)
            assert not database.has_sessions(FIRST)
        assert self.admits(server, login(FIRST))

    def test_a_new_password_is_that_of_the_new_name_alone(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database:
            database.rename(FIRST, SECOND)
            database.set_password(login(SECOND, "another"))
        assert self.admits(server, login(FIRST))
        assert self.admits(server, login(SECOND, "another"))
        assert not self.admits(server, login(FIRST, "another"))
        assert not self.admits(server, login(SECOND))

    def test_a_former_name_expires_and_can_be_dropped(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database:
            database.rename(FIRST, SECOND)
            until = database.expire(FIRST, 60)
            assert abs(until - time.time() - 60) < 30
            assert not database.has_sessions(FIRST)
        assert self.admits(server, login(FIRST))
        with self.opened(server) as database:
            database.expire(FIRST, -60)
        assert not self.admits(server, login(FIRST))
        with self.opened(server) as database:
            database.lock_out([FIRST])
            database.revoke(FIRST)
            assert database.users() == {SECOND}
            database.expire(FIRST, 1)
            database.set_password(login(SECOND))
        assert self.admits(server, login(SECOND))

    def test_a_client_gets_its_first_name_back(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database:
            before = database.made()
            database.rename(FIRST, SECOND)
            database.revoke(FIRST)
            database.rename(SECOND, FIRST)
            database.revoke(SECOND)
            assert database.made() == before
            database.set_password(login(FIRST))
        assert self.admits(server, login(FIRST))

    def test_a_name_that_is_in_use_refuses_a_rename(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database:
            database.rename(FIRST, SECOND)
            with pytest.raises(AccessRefused):
                database.rename(SECOND, FIRST)
        server.has_role("relation_id_2__2")
        with self.opened(server) as database:
            database.grant(asked(2))
            with pytest.raises(AccessRefused):
                database.rename("relation_id_2", "relation_id_2__2")
            assert "relation_id_2" in database.users()

    def test_only_client_users_get_other_names(self, server):
        self.provided(server)
        server.has_role("stranger")
        with self.opened(server) as database:
            for name in ("stranger", AUTH_USER):
                with pytest.raises(AccessRefused):
                    database.rename(name, SECOND)
                with pytest.raises(AccessRefused):
                    database.expire(name, 1)
            database.rename("nowhere", SECOND)
            assert database.users() == set()

    def test_a_foreign_member_of_a_renamed_user_is_refused(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database:
            database.rename(FIRST, SECOND)
        server.has_role("stranger")
        server.has_member(SECOND, "stranger")
        with self.opened(server) as database, pytest.raises(AccessRefused):
            database.grant(renamed(asked(1)))
