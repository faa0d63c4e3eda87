"""How PostgreSQL is verified, which follows from its charm, the options and the plan before."""

import pydantic
import pytest
from plans import plan
from samples import but

from domain import verification
from domain.backend import BackendLogin, BackendRelation
from domain.capabilities import PgBouncerRuntime, Version
from domain.endpoints import endpoints_in
from domain.facts import Facts
from domain.instances import Layout, pooler_config
from domain.ledger import Ledger
from domain.planning import upstream
from domain.problems import Level
from domain.settings import Settings
from domain.status import assess
from domain.tls import MOST_CERTIFICATES
from domain.verification import ServerCheck, proof_of, server_check, verified_login
from logins import CONSOLE_AUTH

LAYOUT = Layout(root="/var/lib/pgbouncer")


def certificate(number):
    body = f"{number:04d}" * 4
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----"


OLD, NEW = certificate(1), certificate(2)


def login(**how):
    told = {"tls": True, "authorities": (NEW,), "rooted": True} | how
    return BackendLogin(
        user="operator",
        password=pydantic.SecretStr("secret"),
        database="pgbouncer",
        endpoints=endpoints_in("10.1.0.1:5432"),
        **told,
    )


def facts(credentials, option="verify", before=None, verified=False, **how):
    shared = plan()
    if before:
        found = but(shared.upstream, mode=before.mode, authorities=before.authorities)
        shared = but(shared, upstream=found)
    ledger = Ledger(provisioned_for="operator")
    if verified:
        ledger = ledger.proving(proof_of(credentials))
    return Facts(
        unit="pgb/0",
        address="10.0.0.1",
        leader=True,
        settings=Settings(backend_tls_sslmode=option),
        layout=LAYOUT,
        backend=BackendRelation(related=True, present=True, credentials=credentials),
        plan=shared,
        ledger=ledger,
        auth=CONSOLE_AUTH,
        **how,
    )


def verification_sentences(found):
    texts = ("must be verified", "not verified")
    return [said for said in assess(found) if any(text in said.text for text in texts)]


FULL = ServerCheck("verify-full", (NEW,))
PLAIN = login(tls=False, authorities=(), rooted=False)
NO_ROOT = login(rooted=False)
SILENT = login(authorities=(), rooted=False)


@pytest.mark.parametrize(
    ("credentials", "option", "check"),
    [
        (login(), "verify", FULL),
        (login(), "require-verify", FULL),
        (login(), "prefer", ServerCheck("prefer")),
        (PLAIN, "verify", ServerCheck("prefer")),
        (NO_ROOT, "verify", ServerCheck("prefer")),
        (SILENT, "verify", ServerCheck("prefer")),
        (PLAIN, "require-verify", None),
        (NO_ROOT, "require-verify", None),
        (SILENT, "require-verify", None),
        (None, "verify", None),
        (login(mode="verify-ca", rooted=False), "prefer", ServerCheck("verify-ca", (NEW,))),
        (login(mode="verify-ca"), "require-verify", ServerCheck("verify-ca", (NEW,))),
        (login(mode="require"), "verify", ServerCheck("require")),
        (login(mode="disable"), "require-verify", None),
    ],
)
def test_a_server_is_verified_in_full_wherever_that_can_be(credentials, option, check):
    found = facts(credentials, option)
    assert server_check(found) == check
    if credentials:
        shared = upstream(found)
        assert (shared and (shared.mode, shared.authorities)) == (check and tuple(check))
        used = verified_login(found)
        assert (used and (used.mode, used.authorities)) == (check and tuple(check))


def test_a_follower_goes_by_the_option_of_the_plan():
    found = but(facts(PLAIN, "verify"), settings=None)
    assert server_check(found) == ServerCheck("prefer")
    assert server_check(but(found, plan=None)) == ServerCheck("prefer")


def test_the_authorities_before_stay_until_every_endpoint_is_verified():
    before = ServerCheck("verify-full", (OLD,))
    found = facts(login(), before=before)
    assert server_check(found) == ServerCheck("verify-full", (NEW, OLD))
    assert verification.rotates(found)
    assert verification.login_to_prove(found).authorities == (NEW,)
    proven = facts(login(), before=before, verified=True)
    assert server_check(proven) == FULL
    settled = facts(login(), before=FULL, verified=True)
    assert not verification.rotates(settled)
    assert server_check(settled) == FULL


def test_a_new_endpoint_has_to_be_verified_again():
    more = but(login(), read_only=endpoints_in("10.1.0.2:5432"))
    assert proof_of(more) != proof_of(login())


def test_former_authorities_never_exceed_what_a_relation_may_have():
    many = tuple(certificate(number) for number in range(MOST_CERTIFICATES))
    found = facts(login(authorities=(certificate(77),)), before=ServerCheck("verify-full", many))
    assert server_check(found).authorities == (certificate(77), *many[:-1])


@pytest.mark.parametrize("credentials", [PLAIN, NO_ROOT, SILENT])
def test_a_server_that_was_verified_is_not_used_unverified(credentials):
    before = ServerCheck("verify-full", (OLD,))
    required = facts(credentials, "require-verify", before=before)
    assert server_check(required) == before
    assert upstream(required).authorities == (OLD,)
    assert server_check(facts(credentials, "verify", before=before)) == ServerCheck("prefer")


def test_nothing_is_to_be_proven_where_nothing_is_verified():
    for found in (facts(PLAIN), facts(None), facts(PLAIN, "require-verify")):
        assert verification.login_to_prove(found) is None
        assert not verification.rotates(found)
    before = ServerCheck("verify-full", (OLD,))
    assert verification.login_to_prove(facts(PLAIN, "require-verify", before=before)) is None
    assert verified_login(facts(None)) is None


@pytest.mark.parametrize(
    ("credentials", "reason"),
    [
        (PLAIN, "PostgreSQL offers no TLS: integrate PostgreSQL with a certificate authority"),
        (
            NO_ROOT,
            "the authority that PostgreSQL tells is no root: integrate receive-ca-certs with the"
            " charm that has the root",
        ),
        (
            SILENT,
            "PostgreSQL does not tell its certificate authority: look at the relation between"
            " PostgreSQL and its authority",
        ),
        (
            login(mode="prefer"),
            "the address of PostgreSQL has sslmode prefer: give an address with"
            " sslmode=verify-full and sslrootcert",
        ),
    ],
)
def test_what_keeps_a_server_from_being_verified_is_said_with_what_to_do(credentials, reason):
    (said,) = verification_sentences(
        facts(
            credentials,
            "require-verify",
        )
    )
    assert said.level is Level.BLOCKED
    assert said.text == (
        f"PostgreSQL must be verified, and {reason}, or run"
        " `juju config pgbouncer-k8s backend_tls_sslmode=verify`"
    )


def test_an_unverified_server_with_tls_is_noted_unless_that_is_wanted():
    reason = "because the authority that PostgreSQL tells is no root"
    (said,) = list(verification.problems(facts(NO_ROOT)))
    assert said.level is Level.ACTIVE
    assert said.text.startswith(
        f"connections to PostgreSQL are encrypted and not verified, {reason}"
    )
    for found in (
        facts(PLAIN),
        facts(NO_ROOT, "prefer"),
        facts(login()),
        facts(login(mode="require")),
        facts(None),
        but(facts(NO_ROOT), backend=BackendRelation()),
    ):
        assert list(verification.problems(found)) == []


def configured(version, mode="verify-full", readers="10.1.0.2:5432,10.1.0.3:5432"):
    shared = plan(readers=readers, databases=("shop",))
    found = but(shared.upstream, mode=mode, authorities=(NEW, OLD) if "verify" in mode else ())
    program = PgBouncerRuntime(version=version, cpus=2)
    return [
        pooler_config(but(shared, upstream=found), unit, program, LAYOUT, CONSOLE_AUTH)
        for unit in ("pgb/0", "pgb/1")
    ]


def test_processes_verify_with_a_file_named_by_its_content():
    config, _ = configured(Version(1, 26, 1))
    (file,) = config.pem_files
    assert file.text.get_secret_value() == f"{NEW}\n{OLD}\n"
    for instance in config.instances:
        lines = dict(instance.settings)
        assert lines["server_tls_sslmode"] == "verify-full"
        assert lines["server_tls_ca_file"] == file.path


def test_a_mode_without_verification_names_no_file():
    config, _ = configured(Version(1, 26, 1), "require")
    assert config.pem_files == ()
    lines = dict(config.instances[0].settings)
    assert lines["server_tls_sslmode"] == "require"
    assert "server_tls_ca_file" not in lines


def hosts(configs, alias):
    return [
        pool.hosts
        for config in configs
        for instance in config.instances
        for pool in instance.pools
        if pool.alias == alias
    ]


@pytest.mark.parametrize(
    ("version", "mode", "single"),
    [
        (Version(1, 24, 1), "verify-full", True),
        (Version(1, 25), "verify-full", False),
        (Version(1, 24, 1), "verify-ca", False),
        (Version(1, 24, 1), "prefer", False),
    ],
)
def test_processes_of_an_older_pgbouncer_divide_hosts_to_verify_them(version, mode, single):
    found = hosts(configured(version, mode), "shop_readonly")
    both = ("10.1.0.2", "10.1.0.3")
    assert found == ([(host,) for host in (*both, *both)] if single else [both] * 4)


def test_a_server_without_replicas_keeps_its_endpoint():
    assert hosts(configured(Version(1, 24, 1), readers=""), "shop") == [("10.1.0.1",)] * 4


def test_login_changes_are_named_after_what_happened():
    relation = BackendRelation(related=True, present=True)
    found = but(facts(login()), backend=relation).with_backend(login())
    assert found.backend.credentials == login()
    without_root = login().with_authorities((OLD,), rooted=False)
    assert (without_root.authorities, without_root.rooted) == ((OLD,), False)
    assert without_root.with_authorities((OLD,), rooted=True).rooted
