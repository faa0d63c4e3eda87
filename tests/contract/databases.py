"""What does the application rely on when it talks to PostgreSQL? Whoever stands in for it keeps the same word."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

import pydantic
import pytest

from app.errors import (
    AccessRefused,
    DatabaseBusy,
    DatabaseRefused,
    DatabaseUnreachable,
    NoTimeLeft,
)
from domain.facts import Ledger
from domain.made import AUTH, CLIENT, GROUP, OwnDatabase
from domain.users import AuthMaterial, Grant, Login

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from app.ports import Database, Databases
    from domain.facts import BackendLogin

AUTH_USER = "pgbouncer_auth_operator"


class Server(Protocol):
    """A PostgreSQL, and what others do there."""

    backend: BackendLogin
    capacity: int  # connections that it accepts from ordinary users

    def databases(self) -> Databases:
        """The way to it, as each hook has a new one."""

    def has_role(self, name: str) -> None:
        """Somebody else's, with a password."""

    def roles_of(self, name: str) -> set[str]:
        """Which of the roles that a client may ask for a user has."""

    def has_database(self, name: str) -> None:
        """Made by another user."""

    def has_member(self, role: str, member: str) -> None:
        """Another user has put this member into a role."""

    def has_closed_database(self, name: str) -> None:
        """To which the backend's user can let in nobody."""

    def sticks(self, name: str, database: str) -> AbstractContextManager[None]:
        """Meanwhile this user, a client with a password, cannot be dropped."""

    def hangs(self, database: str) -> AbstractContextManager[None]:
        """Meanwhile no session can begin in this database."""

    def connected(self, address: str) -> AbstractContextManager[None]:
        """Meanwhile somebody is connected from there."""

    def down(self) -> AbstractContextManager[None]:
        """Meanwhile nobody gets an answer; then it is another process."""


def auth(password: str = "auth-pw", user: str = AUTH_USER) -> AuthMaterial:
    other = pydantic.SecretStr("unused")
    return AuthMaterial(
        auth_user=user,
        auth_password=pydantic.SecretStr(password),
        stats_user="stats",
        stats_password=other,
        admin_user="admin",
        admin_password=other,
    )


def login(number: int | str, password: str = "client-pw") -> Login:
    name = number if isinstance(number, str) else f"relation_id_{number}"
    return Login(username=name, password=pydantic.SecretStr(password))


def asked(number: int, database: str = "shop", *roles: str) -> Grant:
    name = login(number).username
    return Grant(relation_id=number, username=name, database=database, roles=roles)


class DatabasesContract:
    """A subclass has a fixture `server`: a Server on which nothing was done yet."""

    @staticmethod
    def provided(server: Server, *grants: Grant) -> None:
        """The auth user is there, and clients with a password."""
        with server.databases().open(server.backend) as database:
            database.provision(auth(), server.backend.database)
            for grant in grants:
                there = {one.name: one.oid for one in database.holdings()}
                assert database.grant(grant, there.get(grant.database, 0))
                database.set_password(login(grant.relation_id))

    @staticmethod
    def admits(server: Server, credentials: Login, database: str = "shop") -> bool:
        return server.databases().admits(server.backend, credentials, database)

    @staticmethod
    def trouble(database: Database, number: int) -> type[Exception]:
        """What dropping a user raises."""
        with pytest.raises(DatabaseBusy) as caught:
            database.revoke(login(number).username)
        return caught.type

    @staticmethod
    def opened(server: Server):
        return server.databases().open(server.backend)

    # ---- the way there --------------------------------------------------------------------------

    def test_it_answers_without_a_login(self, server):
        wrong = server.backend.model_copy(update={"password": pydantic.SecretStr("wrong")})
        assert server.databases().answers(wrong)

    def test_a_wrong_password_is_refused(self, server):
        wrong = server.backend.model_copy(update={"password": pydantic.SecretStr("wrong")})
        with pytest.raises(DatabaseRefused), server.databases().open(wrong):
            pass

    def test_a_server_that_is_down_is_unreachable_and_admits_nobody(self, server):
        self.provided(server, asked(1))
        with server.down():
            assert not server.databases().answers(server.backend)
            with pytest.raises(DatabaseUnreachable), self.opened(server):
                pass
            with pytest.raises(DatabaseUnreachable):
                self.admits(server, login(1))
        assert server.databases().answers(server.backend)
        assert self.admits(server, login(1))

    def test_a_conversation_ends_with_its_server(self, server):
        with pytest.raises(DatabaseUnreachable), self.opened(server) as database, server.down():
            database.users()

    def test_a_server_says_which_it_is_and_since_when(self, server):
        with self.opened(server) as database:
            before = database.server()
        with self.opened(server) as database:
            assert database.server() == before
        with server.down():
            pass
        with self.opened(server) as database:
            assert database.server() not in ("", before)

    def test_a_server_says_how_many_connections_it_accepts(self, server):
        with self.opened(server) as database:
            assert database.capacity() == server.capacity

    def test_an_address_is_known_while_somebody_is_connected_from_there(self, server):
        with self.opened(server) as database:
            assert not database.knows("127.0.0.9")
            with server.connected("127.0.0.9"):
                assert database.knows("127.0.0.9")
                assert not database.knows("127.0.0.8")

    # ---- the auth user --------------------------------------------------------------------------

    def test_the_auth_user_can_log_in_and_is_no_client(self, server):
        self.provided(server)
        assert self.admits(server, login(AUTH_USER, "auth-pw"), server.backend.database)
        with self.opened(server) as database:
            assert database.users() == set()
            database.revoke(AUTH_USER)
            with pytest.raises(AccessRefused):
                database.set_password(login(AUTH_USER))
            with pytest.raises(AccessRefused):
                database.grant(asked(1).model_copy(update={"username": AUTH_USER}))
        assert self.admits(server, login(AUTH_USER, "auth-pw"), server.backend.database)

    def test_the_auth_user_of_a_relation_that_has_ended_goes_when_there_is_another(self, server):
        self.provided(server, asked(1))
        other = auth("other-pw", "pgbouncer_auth_relation_9")
        with self.opened(server) as database:
            database.provision(other, server.backend.database)
            assert database.users() == {"relation_id_1"}
        assert self.admits(server, login(other.auth_user, "other-pw"), server.backend.database)
        assert not self.admits(server, login(AUTH_USER, "auth-pw"), server.backend.database)
        assert self.admits(server, login(1))

    def test_provided_twice_it_is_the_same_but_for_a_new_password(self, server):
        self.provided(server)
        self.provided(server)
        assert self.admits(server, login(AUTH_USER, "auth-pw"), server.backend.database)
        with self.opened(server) as database:
            database.provision(auth("another"), server.backend.database)
        assert self.admits(server, login(AUTH_USER, "another"), server.backend.database)
        assert not self.admits(server, login(AUTH_USER, "auth-pw"), server.backend.database)

    @pytest.mark.parametrize("name", ["somebody", "relation_id_1"])
    def test_a_role_of_that_name_that_is_no_auth_user_is_refused(self, server, name):
        self.provided(server, asked(1))
        server.has_role("somebody")
        with self.opened(server) as database, pytest.raises(DatabaseRefused):
            database.provision(auth(user=name), server.backend.database)
        assert self.admits(server, login(1))

    # ---- clients --------------------------------------------------------------------------------

    def test_a_new_client_has_no_way_in_before_its_password(self, server):
        with self.opened(server) as database:
            assert database.grant(asked(1))
            assert database.grant(asked(1)), "as long as it has no password"
            assert database.users() == {"relation_id_1"}
            assert not self.admits(server, login(1, ""))
            assert not self.admits(server, login(1))
            database.set_password(login(1))
            assert not database.grant(asked(1))
        assert self.admits(server, login(1))
        assert not self.admits(server, login(1, "wrong"))

    def test_a_new_password_takes_the_place_of_the_old(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database:
            database.set_password(login(1, "another"))
        assert self.admits(server, login(1, "another"))
        assert not self.admits(server, login(1))

    def test_a_password_of_other_letters_is_refused_and_the_old_stays(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database, pytest.raises(DatabaseRefused):
            database.set_password(login(1, "größe"))
        assert self.admits(server, login(1))

    def test_clients_of_one_database_do_not_get_into_another(self, server):
        self.provided(server, asked(1, "shop"), asked(2, "shop"), asked(3, "blog"))
        admitted = [self.admits(server, login(number)) for number in (1, 2, 3)]
        assert admitted == [True, True, False]
        assert self.admits(server, login(3), "blog")

    def test_a_client_that_asks_for_another_database_leaves_the_first(self, server):
        self.provided(server, asked(1, "shop"), asked(2, "shop"))
        with self.opened(server) as database:
            assert not database.grant(asked(1, "blog")), "it keeps its password"
            assert database.users() == {"relation_id_1", "relation_id_2"}
        assert self.admits(server, login(1), "blog")
        assert not self.admits(server, login(1), "shop")
        assert self.admits(server, login(2), "shop")

    @pytest.mark.parametrize("role", ["charmed_read", "admin", "createdb", "createrole"])
    def test_a_role_comes_and_goes_with_the_request(self, server, role):
        self.provided(server, asked(1, "shop", role))
        assert role in server.roles_of("relation_id_1")
        with self.opened(server) as database:
            database.grant(asked(1, "shop"))
        assert server.roles_of("relation_id_1") == set()

    @pytest.mark.parametrize("role", ["nobody_knows", "superuser", "somebody"])
    def test_a_role_that_no_client_can_have_is_refused_and_makes_nothing(self, server, role):
        server.has_role("somebody")
        self.provided(server, asked(1, "shop", "charmed_read"))
        with self.opened(server) as database:
            with pytest.raises(AccessRefused):
                database.grant(asked(2, "shop", role))
            with pytest.raises(AccessRefused):
                database.grant(asked(1, "shop", role))
            assert database.users() == {"relation_id_1"}
        assert server.roles_of("relation_id_1") == {"charmed_read"}

    def test_somebody_elses_user_is_refused_and_stays_as_it_is(self, server):
        server.has_role("relation_id_1")
        with self.opened(server) as database:
            with pytest.raises(AccessRefused):
                database.grant(asked(1))
            with pytest.raises(AccessRefused):
                database.set_password(login(1))
            database.revoke("relation_id_1")
            assert database.users() == set()
            database.withdraw()
            with pytest.raises(AccessRefused):
                database.grant(asked(1))

    def test_a_database_that_is_not_ours_to_share_is_refused_to_one_client(self, server):
        server.has_closed_database("vault")
        with self.opened(server) as database:
            with pytest.raises(AccessRefused):
                database.grant(asked(1, "vault"))
            assert database.users() == {"relation_id_1"}, "it was made, and will be dropped"
            assert database.grant(asked(2))
            database.revoke("relation_id_1")
            assert database.users() == {"relation_id_2"}

    def test_a_database_that_was_there_is_given_only_by_its_oid(self, server):
        server.has_database("old")
        with self.opened(server) as database:
            (old,) = (one for one in database.holdings() if one.name == "old")
            assert not old.ours(database.made())
            for oid in (0, old.oid + 1):
                with pytest.raises(AccessRefused):
                    database.grant(asked(1, "old"), oid)
            assert database.grant(asked(1, "old"), old.oid)
            database.set_password(login(1))
        assert self.admits(server, login(1), "old")

    def test_a_database_that_was_made_for_a_client_is_ours(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database:
            (shop,) = (one for one in database.holdings() if one.name == "shop")
            assert shop.ours(database.made())
            assert not shop.open

    def test_a_user_that_was_given_to_others_is_refused(self, server):
        self.provided(server, asked(1), asked(2, "blog"))
        server.has_role("somebody")
        server.has_member("relation_id_1", "somebody")
        with self.opened(server) as database:
            with pytest.raises(AccessRefused):
                database.grant(asked(1))
            assert not database.grant(asked(2, "blog"))

    def test_roles_of_ours_are_noted_by_oid_until_they_are_dropped(self, server):
        self.provided(server, asked(1), asked(2))
        with self.opened(server) as database:
            before = database.made()
            database.revoke("relation_id_1")
            after = database.made()
        assert before.names(CLIENT) == {"relation_id_1", "relation_id_2"}
        assert before.names(AUTH) == {AUTH_USER}
        assert after.names(CLIENT) == {"relation_id_2"}
        assert before.names(GROUP) == after.names(GROUP) != set()
        assert before.cluster == after.cluster != ""
        with server.databases().open(server.backend, Ledger(made=before)) as database:
            assert database.made() == after

    def test_an_attribute_leads_to_itself_and_a_group_nowhere(self, server):
        with self.opened(server) as database:
            reaches = database.reaches(("createdb", "charmed_read", "admin"), "shop")
        assert [one.attributes for one in reaches] == [
            (("createdb", "createdb"),),
            (),
            (("createdb", "admin"),),
        ]
        assert reaches[1].outside() == ""

    def test_what_stays_in_the_end_is_told(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database:
            made = database.made()
            (shop,) = (one for one in database.holdings() if one.name == "shop")
        noted = OwnDatabase(name="shop", oid=shop.oid, application="shop-app")
        ledger = Ledger(made=made.model_copy(update={"databases": (noted,)}))
        with server.databases().open(server.backend, ledger) as database:
            database.withdraw()
            assert [text for text in database.left() if text.startswith("database shop")]
        # A ledger that knows nothing finds for which application it was made.
        with self.opened(server) as database:
            (shop,) = (one for one in database.holdings() if one.name == "shop")
            assert shop.application == "shop-app"

    def test_nobody_gets_a_password_who_is_not_there(self, server):
        with self.opened(server) as database, pytest.raises(DatabaseRefused):
            database.set_password(login(1))

    # ---- the end --------------------------------------------------------------------------------

    def test_a_client_that_goes_leaves_its_database_to_the_others(self, server):
        self.provided(server, asked(1), asked(2))
        with self.opened(server) as database:
            database.revoke("relation_id_1")
            database.revoke("relation_id_1")
            assert database.users() == {"relation_id_2"}
        assert not self.admits(server, login(1))
        assert self.admits(server, login(2))
        with self.opened(server) as database:
            assert database.grant(asked(1)), "it comes back without a password"

    def test_a_client_that_cannot_be_dropped_is_shut_out_and_can_come_back(self, server):
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
        server.has_role("somebody")
        with self.opened(server) as database:
            names = ["relation_id_1", "relation_id_3", "somebody", AUTH_USER, "relation_id_9"]
            assert database.lock_out(names) == {}
            assert database.lock_out(names) == {}
            assert database.users() == {"relation_id_1", "relation_id_2", "relation_id_3"}
        assert not self.admits(server, login(1))
        assert not self.admits(server, login(3), "blog")
        assert self.admits(server, login(2))
        assert self.admits(server, login(AUTH_USER, "auth-pw"), server.backend.database)
        with self.opened(server) as database:
            assert database.grant(asked(1)), "it has no password any more"
        assert not self.admits(server, login(1))

    def test_a_database_that_hangs_is_the_trouble_of_its_clients_alone(self, server):
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

    def test_a_hook_that_has_waited_long_waits_for_no_more_databases(self, server):
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

    def test_nothing_of_ours_is_left_but_databases_and_what_is_not_ours(self, server):
        self.provided(server, asked(1))
        server.has_role("somebody")
        with self.opened(server) as database:
            database.withdraw()
            database.withdraw()
            assert database.users() == set()
            with pytest.raises(AccessRefused):
                database.grant(asked(1).model_copy(update={"username": "somebody"}))
        assert not self.admits(server, login(1))
        assert not self.admits(server, login(AUTH_USER, "auth-pw"), server.backend.database)
        self.provided(server, asked(1))
        assert self.admits(server, login(1))

    def test_the_end_goes_on_where_one_client_cannot_be_dropped(self, server):
        self.provided(server, asked(1))
        with server.sticks("relation_id_1", "shop"), self.opened(server) as database:
            with pytest.raises(DatabaseRefused):
                database.withdraw()
            assert database.users() == {"relation_id_1"}
        assert not self.admits(server, login(1))
        assert not self.admits(server, login(AUTH_USER, "auth-pw"), server.backend.database)
        with self.opened(server) as database:
            database.withdraw()
            assert database.users() == set()
