"""What the application relies on in PostgreSQL. The real adapter and its double pass these tests."""

from __future__ import annotations

import pydantic
import pytest

from app.errors import AccessRefused, DatabaseRefused, DatabaseUnreachable
from contract.renames import RenamesContract
from contract.withdrawal import WithdrawalContract
from domain.ledger import Ledger
from domain.made import AUTH, CLIENT, GROUP, OwnDatabase
from logins import AUTH_PASSWORD, AUTH_USER, asked, login, material


class DatabasesContract(RenamesContract, WithdrawalContract):
    """All tests: connections, the auth user and clients, and those of the other contracts."""

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
        assert self.admits(server, login(AUTH_USER, AUTH_PASSWORD), server.backend.database)
        with self.opened(server) as database:
            assert database.users() == set()
            database.revoke(AUTH_USER)
            with pytest.raises(AccessRefused):
                database.set_password(login(AUTH_USER))
            with pytest.raises(AccessRefused):
                database.grant(asked(1).model_copy(update={"username": AUTH_USER}))
        assert self.admits(server, login(AUTH_USER, AUTH_PASSWORD), server.backend.database)

    def test_a_new_auth_user_replaces_that_of_an_ended_relation(self, server):
        self.provided(server, asked(1))
        other = material("other-pw", "pgbouncer_auth_relation_9")
        with self.opened(server) as database:
            database.provision(other, server.backend.database)
            assert database.users() == {"relation_id_1"}
        assert self.admits(server, login(other.auth_user, "other-pw"), server.backend.database)
        assert not self.admits(server, login(AUTH_USER, AUTH_PASSWORD), server.backend.database)
        assert self.admits(server, login(1))

    def test_a_second_provision_changes_only_a_new_password(self, server):
        self.provided(server)
        self.provided(server)
        assert self.admits(server, login(AUTH_USER, AUTH_PASSWORD), server.backend.database)
        with self.opened(server) as database:
            database.provision(material("another"), server.backend.database)
        assert self.admits(server, login(AUTH_USER, "another"), server.backend.database)
        assert not self.admits(server, login(AUTH_USER, AUTH_PASSWORD), server.backend.database)

    def test_two_auth_users_can_log_in_while_they_take_turns(self, server):
        auth, second = material(), login(f"{AUTH_USER}_2", "of-the-second")
        own = server.backend.database
        self.provided(server, asked(1))
        for changing in (
            auth.model_copy(update={"next_auth": second, "auth_schema": AUTH_USER}),
            auth.model_copy(
                update={
                    "auth_user": second.username, "auth_password": second.password,
                    "former_auth": login(AUTH_USER, AUTH_PASSWORD), "auth_schema": AUTH_USER,
                }
            ),
        ):  # fmt: skip
            for _ in range(2):
                with self.opened(server) as database:
                    database.provision(changing, own)
                    database.provision_next(changing, own)
                    assert {*database.made().names(AUTH)} == {AUTH_USER, second.username}
                assert self.admits(server, login(AUTH_USER, AUTH_PASSWORD), own)
                assert self.admits(server, second, own)
        alone = changing.model_copy(update={"former_auth": None})
        with self.opened(server) as database:
            database.provision(alone, own)
            assert {*database.made().names(AUTH)} == {second.username}
        assert not self.admits(server, login(AUTH_USER, AUTH_PASSWORD), own)
        assert self.admits(server, second, own)

    def test_a_next_auth_user_with_the_name_of_another_role_is_refused(self, server):
        server.has_role("stranger")
        self.provided(server)
        changing = material().model_copy(update={"next_auth": login("stranger")})
        with self.opened(server) as database, pytest.raises(DatabaseRefused):
            database.provision_next(changing, server.backend.database)
        assert self.admits(server, login(AUTH_USER, AUTH_PASSWORD), server.backend.database)

    @pytest.mark.parametrize("name", ["stranger", "relation_id_1"])
    def test_an_auth_user_with_the_name_of_another_role_is_refused(self, server, name):
        self.provided(server, asked(1))
        server.has_role("stranger")
        with self.opened(server) as database, pytest.raises(DatabaseRefused):
            database.provision(material(user=name), server.backend.database)
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
