"""What the application relies on in PostgreSQL. The real adapter and its double pass these tests."""

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
    """A PostgreSQL server, and what other users do there."""

    backend: BackendLogin
    # The connections that the server accepts from ordinary users.
    capacity: int

    def databases(self) -> Databases:
        """Return a new adapter for the server, as each hook has."""

    def has_role(self, name: str) -> None:
        """Create a role with a password, as another user."""

    def roles_of(self, name: str) -> set[str]:
        """Return the roles of a user, of those that a client may ask for."""

    def has_database(self, name: str) -> None:
        """Create a database, as another user."""

    def has_member(self, role: str, member: str) -> None:
        """Add a member to a role, as another user."""

    def has_closed_database(self, name: str) -> None:
        """Create a database on which the backend's user cannot grant rights."""

    def sticks(self, name: str, database: str) -> AbstractContextManager[None]:
        """Keep a client user from being dropped."""

    def hangs(self, database: str) -> AbstractContextManager[None]:
        """Keep sessions from beginning in this database."""

    def connected(self, address: str) -> AbstractContextManager[None]:
        """Keep a connection from this address open."""

    def down(self) -> AbstractContextManager[None]:
        """Stop the server, and start it again as another process."""


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
    """The tests. A subclass has a fixture `server`: a Server without roles of this application."""

    @staticmethod
    def provided(server: Server, *grants: Grant) -> None:
        """Create the auth user, and clients with a password."""
        with server.databases().open(server.backend) as database:
            database.provision(auth(), server.backend.database)
            for grant in grants:
                oids = {entry.name: entry.oid for entry in database.server_databases()}
                assert database.grant(grant, oids.get(grant.database, 0))
                database.set_password(login(grant.relation_id))

    @staticmethod
    def admits(server: Server, credentials: Login, database: str = "shop") -> bool:
        return server.databases().admits(server.backend, credentials, database)

    @staticmethod
    def trouble(database: Database, number: int) -> type[Exception]:
        """Return the class of the error that dropping a user raises."""
        with pytest.raises(DatabaseBusy) as caught:
            database.revoke(login(number).username)
        return caught.type

    @staticmethod
    def opened(server: Server):
        return server.databases().open(server.backend)

    # ---- connections ----------------------------------------------------------------------------

    def test_a_server_answers_without_a_login(self, server):
        wrong = server.backend.model_copy(update={"password": pydantic.SecretStr("wrong")})
        assert server.databases().answers(wrong)

    def test_a_wrong_password_is_refused(self, server):
        wrong = server.backend.model_copy(update={"password": pydantic.SecretStr("wrong")})
        with pytest.raises(DatabaseRefused), server.databases().open(wrong):
            pass

    def test_a_server_that_is_down_is_unreachable_and_admits_no_client(self, server):
        self.provided(server, asked(1))
        with server.down():
            assert not server.databases().answers(server.backend)
            with pytest.raises(DatabaseUnreachable), self.opened(server):
                pass
            with pytest.raises(DatabaseUnreachable):
                self.admits(server, login(1))
        assert server.databases().answers(server.backend)
        assert self.admits(server, login(1))

    def test_a_connection_ends_with_its_server(self, server):
        with pytest.raises(DatabaseUnreachable), self.opened(server) as database, server.down():
            database.users()

    def test_a_server_is_identified_by_its_address_and_start_time(self, server):
        with self.opened(server) as database:
            before = database.server()
        with self.opened(server) as database:
            assert database.server() == before
        with server.down():
            pass
        with self.opened(server) as database:
            assert database.server() not in ("", before)

    def test_the_capacity_is_the_connections_that_a_server_accepts(self, server):
        with self.opened(server) as database:
            assert database.capacity() == server.capacity

    def test_an_open_connection_is_found_by_its_address(self, server):
        with self.opened(server) as database:
            assert not database.has_connection_from("127.0.0.9")
            with server.connected("127.0.0.9"):
                assert database.has_connection_from("127.0.0.9")
                assert not database.has_connection_from("127.0.0.8")

    # ---- the auth user --------------------------------------------------------------------------

    def test_the_auth_user_can_log_in_and_is_no_client_user(self, server):
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

    def test_a_new_auth_user_replaces_that_of_an_ended_relation(self, server):
        self.provided(server, asked(1))
        other = auth("other-pw", "pgbouncer_auth_relation_9")
        with self.opened(server) as database:
            database.provision(other, server.backend.database)
            assert database.users() == {"relation_id_1"}
        assert self.admits(server, login(other.auth_user, "other-pw"), server.backend.database)
        assert not self.admits(server, login(AUTH_USER, "auth-pw"), server.backend.database)
        assert self.admits(server, login(1))

    def test_a_second_provision_changes_only_a_new_password(self, server):
        self.provided(server)
        self.provided(server)
        assert self.admits(server, login(AUTH_USER, "auth-pw"), server.backend.database)
        with self.opened(server) as database:
            database.provision(auth("another"), server.backend.database)
        assert self.admits(server, login(AUTH_USER, "another"), server.backend.database)
        assert not self.admits(server, login(AUTH_USER, "auth-pw"), server.backend.database)

    @pytest.mark.parametrize("name", ["stranger", "relation_id_1"])
    def test_an_auth_user_with_the_name_of_another_role_is_refused(self, server, name):
        self.provided(server, asked(1))
        server.has_role("stranger")
        with self.opened(server) as database, pytest.raises(DatabaseRefused):
            database.provision(auth(user=name), server.backend.database)
        assert self.admits(server, login(1))

    # ---- clients --------------------------------------------------------------------------------

    def test_a_new_client_cannot_log_in_before_it_has_a_password(self, server):
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

    def test_a_new_password_replaces_the_old_password(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database:
            database.set_password(login(1, "another"))
        assert self.admits(server, login(1, "another"))
        assert not self.admits(server, login(1))

    def test_a_password_that_is_not_ascii_is_refused_and_the_old_stays(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database, pytest.raises(DatabaseRefused):
            database.set_password(login(1, "größe"))
        assert self.admits(server, login(1))

    def test_clients_of_a_database_cannot_connect_to_another_database(self, server):
        self.provided(server, asked(1, "shop"), asked(2, "shop"), asked(3, "blog"))
        admitted = [self.admits(server, login(number)) for number in (1, 2, 3)]
        assert admitted == [True, True, False]
        assert self.admits(server, login(3), "blog")

    def test_a_client_that_changes_its_database_loses_the_first(self, server):
        self.provided(server, asked(1, "shop"), asked(2, "shop"))
        with self.opened(server) as database:
            assert not database.grant(asked(1, "blog")), "it keeps its password"
            assert database.users() == {"relation_id_1", "relation_id_2"}
        assert self.admits(server, login(1), "blog")
        assert not self.admits(server, login(1), "shop")
        assert self.admits(server, login(2), "shop")

    @pytest.mark.parametrize("role", ["charmed_read", "admin", "createdb", "createrole"])
    def test_a_role_is_granted_and_revoked_with_the_request(self, server, role):
        self.provided(server, asked(1, "shop", role))
        assert role in server.roles_of("relation_id_1")
        with self.opened(server) as database:
            database.grant(asked(1, "shop"))
        assert server.roles_of("relation_id_1") == set()

    @pytest.mark.parametrize("role", ["unknown", "superuser", "stranger"])
    def test_a_role_that_no_client_can_have_is_refused(self, server, role):
        server.has_role("stranger")
        self.provided(server, asked(1, "shop", "charmed_read"))
        with self.opened(server) as database:
            with pytest.raises(AccessRefused):
                database.grant(asked(2, "shop", role))
            with pytest.raises(AccessRefused):
                database.grant(asked(1, "shop", role))
            assert database.users() == {"relation_id_1"}
        assert server.roles_of("relation_id_1") == {"charmed_read"}

    def test_a_user_that_the_charm_did_not_make_is_refused_and_unchanged(self, server):
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

    def test_a_database_without_grantable_rights_is_refused(self, server):
        server.has_closed_database("vault")
        with self.opened(server) as database:
            with pytest.raises(AccessRefused):
                database.grant(asked(1, "vault"))
            assert database.users() == {"relation_id_1"}, "it was made, and will be dropped"
            assert database.grant(asked(2))
            database.revoke("relation_id_1")
            assert database.users() == {"relation_id_2"}

    def test_an_existing_database_is_given_only_by_its_oid(self, server):
        server.has_database("old")
        with self.opened(server) as database:
            (old,) = (entry for entry in database.server_databases() if entry.name == "old")
            assert not old.belongs_to_group(database.made())
            for oid in (0, old.oid + 1):
                with pytest.raises(AccessRefused):
                    database.grant(asked(1, "old"), oid)
            assert database.grant(asked(1, "old"), old.oid)
            database.set_password(login(1))
        assert self.admits(server, login(1), "old")

    def test_a_database_that_was_made_for_a_client_belongs_to_its_group(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database:
            (shop,) = (entry for entry in database.server_databases() if entry.name == "shop")
            assert shop.belongs_to_group(database.made())
            assert not shop.open

    def test_a_user_with_a_foreign_member_is_refused(self, server):
        self.provided(server, asked(1), asked(2, "blog"))
        server.has_role("stranger")
        server.has_member("relation_id_1", "stranger")
        with self.opened(server) as database:
            with pytest.raises(AccessRefused):
                database.grant(asked(1))
            assert not database.grant(asked(2, "blog"))

    def test_roles_are_recorded_by_oid_until_they_are_dropped(self, server):
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

    def test_an_attribute_gives_itself_and_a_group_without_rights_nothing(self, server):
        with self.opened(server) as database:
            rights = database.role_rights(("createdb", "charmed_read", "admin"), "shop")
        assert [role.attributes for role in rights] == [
            (("createdb", "createdb"),),
            (),
            (("createdb", "admin"),),
        ]
        assert rights[1].outside() == ""

    def test_objects_that_stay_after_a_withdrawal_are_named(self, server):
        self.provided(server, asked(1))
        with self.opened(server) as database:
            made = database.made()
            (shop,) = (entry for entry in database.server_databases() if entry.name == "shop")
        noted = OwnDatabase(name="shop", oid=shop.oid, application="shop-app")
        ledger = Ledger(made=made.model_copy(update={"databases": (noted,)}))
        with server.databases().open(server.backend, ledger) as database:
            database.withdraw()
            assert [text for text in database.left() if text.startswith("database shop")]
        # An empty ledger: the comment of the database proves for which application it was made.
        with self.opened(server) as database:
            (shop,) = (entry for entry in database.server_databases() if entry.name == "shop")
            assert shop.application == "shop-app"

    def test_a_user_that_does_not_exist_gets_no_password(self, server):
        with self.opened(server) as database, pytest.raises(DatabaseRefused):
            database.set_password(login(1))

    # ---- revoke and withdraw --------------------------------------------------------------------

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
        assert self.admits(server, login(AUTH_USER, "auth-pw"), server.backend.database)
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
        assert not self.admits(server, login(AUTH_USER, "auth-pw"), server.backend.database)
        self.provided(server, asked(1))
        assert self.admits(server, login(1))

    def test_a_withdrawal_continues_after_a_client_that_cannot_be_dropped(self, server):
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
