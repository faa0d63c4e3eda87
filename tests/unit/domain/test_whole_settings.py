"""Whole lines, sentences and parts of settings and certificates."""

import base64
import hashlib
import hmac

import pydantic
import pytest
from plans import plan
from samples import but

from domain.backend import BackendLogin, BackendRelation
from domain.capabilities import Version
from domain.endpoints import endpoints_in
from domain.facts import Facts
from domain.layout import Layout
from domain.ledger import Ledger
from domain.options import Accepts, Named, Option, WholeNumber, option_of
from domain.overrides import Override, Overrides, supported_by, unsupported_by
from domain.pools import Part, pools
from domain.scram import verifier
from domain.settings import Settings, field_of
from domain.supported import supported_part, supported_pools, verifies_single_hosts
from domain.tls import CertificateNames, ServedPair, UnitCertificates
from domain.verification import login_to_prove, proof_of, verified_login


def pem(letters):
    return f"-----BEGIN CERTIFICATE-----\n{letters}\n-----END CERTIFICATE-----"


OLD, NEW, LEAF = pem("b2xk"), pem("bmV3"), pem("bGVhZg==")


def test_options_that_are_passed_on_become_lines_in_their_order():
    settings = Settings(
        pool_mode="statement", max_prepared_statements=1, max_packet_size=2**21,
        reserve_pool_timeout=2, query_wait_timeout=3, query_timeout=4, idle_transaction_timeout=5,
        client_idle_timeout=6, server_idle_timeout=7, server_lifetime=8,
    )  # fmt: skip
    assert settings.passed_on() == (
        ("pool_mode", "statement"),
        ("max_prepared_statements", "1"),
        ("max_packet_size", "2097152"),
        ("reserve_pool_timeout", "2"),
        ("query_wait_timeout", "3"),
        ("query_timeout", "4"),
        ("idle_transaction_timeout", "5"),
        ("client_idle_timeout", "6"),
        ("server_idle_timeout", "7"),
        ("server_lifetime", "8"),
    )


def test_a_row_of_the_table_becomes_an_option():
    accepts = Accepts("a name, or nothing")
    assert option_of("shared_databases", (accepts, Named("shared-databases"))) == Option(
        name="shared-databases", field="shared_databases", accepts=accepts, passed_on=False
    )
    assert field_of("shared-databases") == "shared_databases"
    assert field_of("pool_mode") == "pool_mode"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (WholeNumber(2, 9), "a whole number from 2 to 9"),
        (WholeNumber(0, 9, "seconds", least_means="off"), "whole seconds from 0 (off) to 9"),
        (WholeNumber(1, 2**30, "bytes", most_means="1 GiB"), "whole bytes from 1 to 1073741824 (1 GiB)"),
    ],
)  # fmt: skip
def test_what_a_number_may_be_is_told_with_what_its_bounds_mean(number, text):
    assert number.text == text


ANN = Override(name="ann", pool_size=3)
BLOG = Override(name="blog", pool_mode="statement")


def test_overrides_are_written_as_json_and_found_by_name():
    overrides = Overrides(databases=(BLOG,), users=(ANN,))
    assert str(overrides) == (
        '{"databases": {"blog": {"pool_mode": "statement"}}, "users": {"ann": {"pool_size": 3}}}'
    )
    assert (str(Overrides()), str(Overrides(users=(ANN,)))) == (
        "", '{"users": {"ann": {"pool_size": 3}}}'
    )  # fmt: skip
    assert (overrides.of_database("blog"), overrides.of_user("ann")) == (BLOG, ANN)
    assert overrides.of_database("ann") == Override(name="ann")
    assert overrides.of_user("blog") == Override(name="blog")
    assert overrides.modes == {"statement"}


@pytest.mark.parametrize(
    ("version", "supported"),
    [(Version(1, 22, 9), False), (Version(1, 23), True), (Version(1, 24), True)],
)
def test_users_with_settings_of_their_own_need_a_later_pgbouncer(version, supported):
    overrides = Overrides(databases=(BLOG,), users=(ANN,))
    known = plan(databases=("blog",), short_lived=("blog",), known_users=("ann",))
    known = but(known, settings=but(known.settings, overrides=overrides))
    without = Overrides(databases=(BLOG,))
    assert supported_by(overrides, version) == (overrides if supported else without)
    assert supported_part(known, version) == (
        known
        if supported
        else but(
            known,
            settings=but(known.settings, overrides=without),
            known_users=(),
            short_lived=(),
        )
    )
    sentence = "option overrides: users need PgBouncer 1.23 or later: 1.22.9 runs here"
    assert unsupported_by(overrides, version) == (() if supported else (sentence,))
    assert unsupported_by(without, version) == ()


def test_processes_divide_hosts_that_pgbouncer_cannot_verify_together():
    known = plan(databases=("shop",), readers="10.1.0.3:5432,10.1.0.4:5432,10.1.0.5:5432")
    known = but(known, upstream=but(known.upstream, mode="verify-full"))
    part = Part(unit=1, units=2, process=1, processes=3)
    single = pools(known.with_single_hosts(4), part)
    assert supported_pools(known, Version(1, 24), part) == single
    assert supported_pools(known, Version(1, 25), part) == pools(known, part)
    older = supported_pools(known, Version(1, 23), part)
    assert older == tuple(pool.without_standing_connections() for pool in single)
    assert verifies_single_hosts(but(known, upstream=None), Version(1, 24)) is False
    lax = but(known, upstream=but(known.upstream, mode="verify-ca"))
    assert verifies_single_hosts(lax, Version(1, 24)) is False


def test_a_verifier_has_the_salt_of_the_name_and_the_password():
    salt = hmac.digest(b"hunter2", b"salt of shop", "sha256")[:16]
    salted = hashlib.pbkdf2_hmac("sha256", b"hunter2", salt, 4096)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    first, second, third = (base64.b64encode(data).decode() for data in (salt, stored, server))
    assert verifier("shop", "hunter2") == f"SCRAM-SHA-256$4096:{first}${second}:{third}"


# ---- certificates ----------------------------------------------------------------------------
PAIR = ServedPair(key=pydantic.SecretStr("key"), chain=(LEAF,), authorities=(OLD,))
FOLLOWING = but(PAIR, authorities=(NEW, OLD))
NAMES = CertificateNames(common="pool", hosts=("pool",))


def test_what_a_unit_knows_of_its_certificates_changes_step_by_step():
    known = UnitCertificates(related=True, authority="vault", hosts=("pool",), kept=PAIR)
    asked = known.renewing()
    assert asked == but(known, due=True)
    requested = asked.requesting(NAMES)
    assert requested == but(known, requested=NAMES, unanswered=True)
    end = "2027-01-01T00:00:00Z"
    issued = but(requested, issued=FOLLOWING, issued_ends=end)
    assert requested.issuing(FOLLOWING, issued.issued_ends) == issued
    assert issued.authorities == (OLD, NEW)
    assert issued.keeping(FOLLOWING) == but(
        requested, kept=FOLLOWING, ends=end, issued=None, issued_ends=None
    )
    other = but(issued, ends=end, expired=True, due=True)
    assert other.keeping(None) == but(issued, kept=None)


# ---- PostgreSQL ------------------------------------------------------------------------------
def test_former_authorities_verify_a_login_until_it_is_proven():
    login = BackendLogin(
        user="operator", password=pydantic.SecretStr("x"), database="own",
        endpoints=endpoints_in("10.1.0.1:5432"), read_only=endpoints_in("10.1.0.2:5432"),
        tls=True, rooted=True, authorities=(NEW,),
    )  # fmt: skip
    before = plan()
    before = but(before, upstream=but(before.upstream, mode="verify-full", authorities=(OLD, NEW)))
    facts = Facts(
        unit="pgb/0", address="10.0.0.1", leader=True, settings=Settings(), plan=before,
        layout=Layout(root="/var/lib/pgbouncer"),
        backend=BackendRelation(related=True, present=True, credentials=login),
    )  # fmt: skip
    full = but(login, mode="verify-full")
    assert verified_login(facts) == but(full, authorities=(NEW, OLD))
    assert login_to_prove(facts) == full
    proven = but(facts, ledger=Ledger(verified=proof_of(login)))
    assert verified_login(proven) == full
    texts = {
        proof_of(known)
        for known in (
            login,
            but(login, read_only=()),
            but(login, endpoints=endpoints_in("10.1.0.9:5432")),
            but(login, authorities=(OLD,)),
            but(login, authority_file="/etc/root.pem"),
        )
    }
    assert len(texts) == 5
