import pydantic
import pytest

from domain.roles import ROLES
from domain.users import (
    AccessRequest,
    AuthMaterial,
    Login,
    Offer,
    auth_user,
    grant_for,
    read_only_unit_uris,
    read_only_uri,
    request_problem,
    unit_uris,
    uri,
)


def test_postgresql_knows_our_auth_user_by_the_name_of_its_relation():
    assert auth_user("relation-7") == "pgbouncer_auth_relation_7"


def test_each_request_has_a_user_of_its_own():
    one = AccessRequest(relation_id=3, application="shop", database="shop")
    other = one.model_copy(update={"request_id": "abc"})
    assert (one.username, other.username) == ("relation_id_3", "relation_id_3_abc")


def test_a_grant_lists_each_role_once():
    request = AccessRequest(
        relation_id=3, application="shop", database="shop", roles=("createdb", "admin", "admin")
    )
    assert grant_for(request).roles == ("admin", "createdb")
    one_of_many = request.model_copy(update={"request_id": "abc"})
    assert grant_for(one_of_many).request_id == "abc"


@pytest.mark.parametrize("name", ["shop", "with-dash", "with.dot", "UPPER", "9", "_", "x" * 63])
def test_a_usable_name_is_no_problem(name):
    assert request_problem(name, ()) == ""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("postgres", "which is reserved"),
        ("Template1", "which is reserved"),
        ("pgbouncer", "which is reserved"),
        ("pgbouncer_auth", "which is reserved"),
        ("shop_readonly", "but names ending in _readonly are those of read-only pools"),
        ("shop*", "but prefixes are not supported"),
        ("*", "but prefixes are not supported"),
        ("x" * 64, "which is longer than 63 bytes"),
        ("é" * 32, "longer than 63 bytes"),
        ("é", "but PgBouncer takes only letters, digits, _, . and - in a name"),
        ("it's", "takes only letters"),
        ('we"ird', "takes only letters"),
        ("a b", "takes only letters"),
        ("a;b", "takes only letters"),
        ("a=b", "takes only letters"),
        ("[peers]", "takes only letters"),
        ("a\nb", "takes only letters"),
        ("a\x00b", "takes only letters"),
        ("shop\n", "takes only letters"),
        ("%include", "takes only letters"),
    ],
)
def test_an_unusable_name_is_quoted_with_its_reason(name, reason):
    problem = request_problem(name, ())
    assert problem.startswith("asks for database '" if "'" not in name else 'asks for database "')
    assert problem.endswith(reason) or (reason in problem and reason[0] not in "bw")
    assert problem.isprintable()
    assert len(problem) < 200


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_known_role_is_no_problem(role):
    assert request_problem("shop", [role]) == ""


@pytest.mark.parametrize(
    "role", ["superuser", "replication", "bypassrls", "pg_read_all_data", "x;y"]
)
def test_any_other_role_is_named_with_those_that_there_are(role):
    problem = request_problem("shop", ["createdb", role])
    assert problem.startswith(f"asks for role '{role}'; clients can have admin, ")


def test_entities_and_groups_of_the_clients_own_are_refused():
    assert "entity of type 'GROUP'" in request_problem("shop", (), entity="GROUP")
    assert "extra-group-roles 'staff'" in request_problem("shop", (), groups="staff")
    assert request_problem("shop", (), entity="user") == ""


def test_a_uri_can_be_read_back_whatever_it_holds():
    login = Login(username="a@/b", password=pydantic.SecretStr("p/wX?"))
    offer = Offer(database="sh.op", endpoints="pool:6432")
    assert uri(offer, login) == "postgresql://a%40%2Fb:p%2FwX%3F@pool:6432/sh.op"
    strange = offer.model_copy(update={"database": "X/op"})
    assert uri(strange, login).endswith("@pool:6432/X%2Fop")
    assert read_only_uri(offer, login) == ""
    readers = offer.model_copy(
        update={"read_only_endpoints": "pool:6432", "read_only_alias": "sh.op_readonly"}
    )
    assert read_only_uri(readers, login).endswith("@pool:6432/sh.op_readonly")


def test_each_endpoint_has_a_uri_of_its_own():
    login = Login(username="a@b", password=pydantic.SecretStr("p/w"))
    offer = Offer(database="shop", endpoints="pool:6432,[2001:db8::1]:6433")
    assert unit_uris(offer, login) == (
        "postgresql://a%40b:p%2Fw@pool:6432/shop",
        "postgresql://a%40b:p%2Fw@[2001:db8::1]:6433/shop",
    )
    assert read_only_unit_uris(offer, login) == ()
    readers = offer.model_copy(
        update={"read_only_endpoints": "a:1,b:2", "read_only_alias": "shop_readonly"}
    )
    assert read_only_unit_uris(readers, login) == (
        "postgresql://a%40b:p%2Fw@a:1/shop_readonly",
        "postgresql://a%40b:p%2Fw@b:2/shop_readonly",
    )


def test_what_a_stranger_wrote_is_cut_where_it_becomes_too_long():
    assert request_problem("shop", ["x" * 63]).startswith(f"asks for role '{'x' * 63}'; ")
    assert request_problem("shop", ["x" * 64]).startswith(f"asks for role '{'x' * 63}…'; ")


def material(**how):
    names = {"auth_user": "auth", "stats_user": "stats", "admin_user": "admin"}
    passwords = dict.fromkeys(("auth_password", "stats_password", "admin_password"), "secret")
    return AuthMaterial.model_validate({**names, **passwords, **how})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auth_user", "a\nb"), ("auth_user", "a "), ("auth_user", ""), ("auth_user", "admin"),
        ("stats_user", "a,b"), ("admin_user", "a b"), ("admin_user", "stats"),
        ("auth_password", ""), ("stats_password", "\u00e9"), ("admin_password", "a\nb"),
    ],
)  # fmt: skip
def test_users_of_ours_are_three_that_can_be_written_down(key, value):
    assert material().auth_user == "auth"
    with pytest.raises(pydantic.ValidationError):
        material(**{key: value})


def test_a_name_of_bytes_that_are_no_text_is_refused():
    assert request_problem("\udcff", ()).startswith("asks for database '\\udcff', but ")


def test_a_login_keeps_its_user_with_another_password():
    login = Login(username="a", password=pydantic.SecretStr("former"))
    following = login.with_password(pydantic.SecretStr("new"))
    assert (following.username, following.password.get_secret_value()) == ("a", "new")
