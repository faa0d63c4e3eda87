"""How PostgreSQL is verified where the operator gave its address with a mode and a file of authorities."""

import pytest
from in_memory import related
from plans import plan

from domain import planning, verification
from domain.capabilities import PgBouncerRuntime, Version
from domain.instances import pooler_config
from domain.layout import Layout
from logins import CONSOLE_AUTH

PROGRAM = PgBouncerRuntime(version=Version(1, 26, 1))
LAYOUT = Layout(root="/var/lib/pgbouncer")
FILE = "/home/of/pooler/backend-ca-1.pem"


def facts(mode, file=FILE, **options):
    platform = related()
    login = platform.model.backend.credentials.model_copy(
        update={"mode": mode, "authority_file": file}
    )
    platform.model.backend = platform.model.backend.with_credentials(login)
    platform.model.options |= options
    return platform.leader.read()


def lines(mode, file):
    shared = plan(databases=("shop",))
    upstream = shared.upstream.model_copy(update={"mode": mode, "authority_file": file})
    shared = shared.model_copy(update={"upstream": upstream})
    (first, *_) = pooler_config(shared, "pgb/0", PROGRAM, LAYOUT, CONSOLE_AUTH).instances
    return {name: text for name, text in first.settings if name.startswith("server_tls")}


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_pools_verify_by_the_file_of_the_operator(mode):
    upstream = planning.upstream(facts(mode))
    assert (upstream.mode, upstream.authority_file) == (mode, FILE)
    assert lines(mode, FILE) == {"server_tls_sslmode": mode, "server_tls_ca_file": FILE}


@pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
def test_a_mode_that_does_not_verify_names_no_file(mode):
    upstream = planning.upstream(facts(mode))
    assert (upstream.mode, upstream.authority_file) == (mode, "")
    assert lines(mode, "") == {"server_tls_sslmode": mode}


def test_every_endpoint_has_to_show_a_certificate_of_the_file():
    seen = facts("verify-full")
    assert verification.login_to_prove(seen).authority_file == FILE
    assert verification.login_to_prove(facts("verify-full", "")) is None
    other = facts("verify-full", "/another").backend.credentials
    assert verification.proof_of(other) != verification.proof_of(seen.backend.credentials)


def test_an_address_without_verification_is_refused_where_it_is_required():
    seen = facts("require", "", backend_tls_sslmode="require-verify")
    assert verification.verified_login(seen) is None
    (problem,) = verification.problems(seen)
    assert "the address of PostgreSQL has sslmode require" in problem.text


def test_a_login_with_another_file_keeps_everything_else():
    login = facts("verify-full").backend.credentials
    other = login.with_authority_file("/another")
    assert other.authority_file == "/another"
    assert other.with_authority_file(FILE) == login
