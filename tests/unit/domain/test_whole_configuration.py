"""Whole configurations of a unit, with each option, order and file that a configuration can have."""

import pydantic
import pytest
from configurations import LAYOUT, NOW, PROGRAM
from plans import plan
from samples import but

from domain.capabilities import PgBouncerRuntime, Version
from domain.certificate_logins import CertificateLogin, TrustedLogin
from domain.client_tls import ClientTls, ServedTls, served_tls
from domain.hba import Rule, access_rules
from domain.instances import CancelPeer, ConsoleUser, Instance, PoolerConfig, pooler_config
from domain.operations import KillOrder, Pause
from domain.plan import Serving
from domain.pools import Pool, PoolUser
from domain.process import Process
from domain.scram import verifier
from domain.settings import Settings
from domain.tls import ServedPair
from domain.users import Login
from domain.value import digest
from logins import CONSOLE_AUTH, login


def pem(letters):
    return f"-----BEGIN CERTIFICATE-----\n{letters}\n-----END CERTIFICATE-----"


LEAF, ROOT, MORE, OF_ANN, OF_BOB, SERVER = map(
    pem, ("bGVhZg==", "cm9vdA==", "bW9yZQ==", "YW5u", "Ym9i", "c2VydmVy")
)
PAIR = ServedPair(key=pydantic.SecretStr("key"), chain=(LEAF,), authorities=(ROOT,))
ANN = CertificateLogin(username="relation_id_1", name="of-ann", certificate=OF_ANN)
BOB = CertificateLogin(username="relation_id_2", name="of-bob", certificate=OF_BOB)
TRUSTED = TrustedLogin(username="relation_id_1", name="of-ann", since=100.0)
NEW = TrustedLogin(username="relation_id_2", name="of-bob")
KEY = LAYOUT.pem_file("client-key", "key")
CHAIN = LAYOUT.pem_file("client-chain", f"{LEAF}\n")
CLIENTS = LAYOUT.pem_file("client-ca", f"{OF_ANN}\n{OF_BOB}\n")
MAP_NAME = f"client_{digest([CLIENTS.path, [('relation_id_1', 'of-ann')]])}"
MAP = LAYOUT.pem_file("client-logins", f'{MAP_NAME} "of-ann" "relation_id_1"\n')
TLS = ClientTls(PAIR, (MORE,), (TRUSTED,), 220.0)

# ---- TLS -------------------------------------------------------------------------------------
LOGINS = plan(certificate_logins=(ANN, BOB))
BOTH = ("relation_id_1", "relation_id_2")


def test_clients_log_in_by_certificates_that_are_trusted_for_a_time():
    first_release = PgBouncerRuntime(version=Version(1, 24))
    for program in (PROGRAM, first_release):
        assert served_tls(LOGINS, program, LAYOUT, TLS, BOTH) == ServedTls(
            (KEY, CHAIN, CLIENTS), (TRUSTED, NEW), ("relation_id_1",), MAP_NAME, MAP
        )


@pytest.mark.parametrize(
    ("tls", "passwords"), [(TLS._replace(now=219.0), BOTH), (TLS, ("relation_id_2",))]
)
def test_a_certificate_is_trusted_before_its_first_login(tls, passwords):
    expected = ServedTls((KEY, CHAIN, CLIENTS), (TRUSTED, NEW))
    assert served_tls(LOGINS, PROGRAM, LAYOUT, tls, passwords) == expected


def test_the_time_since_when_a_certificate_is_trusted_is_noted():
    trusting = TLS._replace(trusted=(NEW,))
    found = served_tls(LOGINS, PROGRAM, LAYOUT, trusting, BOTH)
    assert found.trusted == (but(TRUSTED, since=0.0), but(NEW, since=220.0))


@pytest.mark.parametrize(
    ("pair", "more", "authorities"),
    [
        (PAIR, (MORE, ROOT), f"{ROOT}\n{MORE}\n"),
        (but(PAIR, authorities=()), (MORE,), f"{MORE}\n"),
        (but(PAIR, authorities=()), (), f"{LEAF}\n"),
    ],
)
def test_without_logins_by_certificate_authorities_are_those_of_the_pair(pair, more, authorities):
    files = (KEY, CHAIN, LAYOUT.pem_file("client-ca", authorities))
    tls = TLS._replace(pair=pair, authorities=more)
    assert served_tls(plan(), PROGRAM, LAYOUT, tls, BOTH) == ServedTls(files)
    old = PgBouncerRuntime(version=Version(1, 23, 9))
    assert served_tls(LOGINS, old, LAYOUT, tls, BOTH) == ServedTls(files)


def test_without_a_pair_no_tls_is_served():
    served = served_tls(LOGINS, PROGRAM, LAYOUT, TLS._replace(pair=None), BOTH)
    assert served == ServedTls()
    assert (served.lines(required=True), served.all_files) == ((), ())


def test_files_of_tls_have_a_line_each():
    served = ServedTls((KEY, CHAIN, CLIENTS))
    paths = (
        ("client_tls_key_file", KEY.path),
        ("client_tls_cert_file", CHAIN.path),
        ("client_tls_ca_file", CLIENTS.path),
    )
    assert served.lines(required=False) == (("client_tls_sslmode", "prefer"), *paths)
    assert served.all_files == (KEY, CHAIN, CLIENTS)
    mapped = served._replace(map_file=MAP)
    mapping = ("auth_ident_file", MAP.path)
    assert mapped.lines(required=True) == (("client_tls_sslmode", "require"), *paths, mapping)
    assert mapped.all_files == (KEY, CHAIN, CLIENTS, MAP)


# ---- rules -----------------------------------------------------------------------------------
OWN = ("stats", "admin")
FIRST_RULES = (
    Rule(origins=("local",), database="pgbouncer", users=OWN, admits=True),
    Rule(database="pgbouncer"),
    Rule(users=(*OWN, "auth")),
    Rule(database="pgbouncer_auth"),
)


def test_the_rules_of_a_new_application_admit_clients_last():
    assert access_rules(CONSOLE_AUTH) == (*FIRST_RULES, Rule(replication=True), Rule(admits=True))
    assert access_rules(CONSOLE_AUTH, md5=True)[-1] == Rule(admits=True, md5=True)
    assert access_rules(None, md5=True, disabled=("shop",)) == (Rule(),)
    by_name = Rule(origins=("hostssl",), users=("ann",), admits=True)
    assert access_rules(CONSOLE_AUTH, by_certificate=("ann",))[-2] == by_name


def test_the_rules_of_tls_admit_users_by_certificate_and_by_password():
    auth = but(CONSOLE_AUTH, generation=1, next_auth=login("auth-2"))
    assert access_rules(
        auth, tls_only=True, md5=True, certificate_map="map",
        by_certificate=("ann", "bob"), disabled=("blog", "shop"),
    ) == (
        *FIRST_RULES[:2],
        Rule(users=(*OWN, "auth", "auth-2")),
        FIRST_RULES[3],
        Rule(database="pgbouncer_auth_2"),
        Rule(replication=True),
        Rule(database="blog"),
        Rule(database="shop"),
        Rule(origins=("hostssl",), users=("ann",), admits=True, certificate_map="map"),
        Rule(origins=("hostssl",), users=("bob",), admits=True, certificate_map="map"),
        Rule(origins=("local", "hostssl"), admits=True, md5=True),
    )  # fmt: skip


@pytest.mark.parametrize(
    "later", [{}, {"md5": True}, {"certificate_map": "m"}, {"md5": True, "certificate_map": "m"}]
)
def test_a_record_of_a_rule_has_later_fields_only_if_they_are_used(later):
    rule = Rule(origins=("hostssl",), database="shop", users=("ann",), admits=True, **later)
    assert rule.record() == {
        "origins": ["hostssl"], "database": "shop", "users": ["ann"], "replication": False,
        "admits": True, **later,
    }  # fmt: skip


# ---- the whole -------------------------------------------------------------------------------
AUTH = but(CONSOLE_AUTH, generation=8, clients=(login(1, "pw-1"), login(2, "pw-2")))
CERTIFICATE_OF_SERVER = LAYOUT.pem_file("server-ca", f"{SERVER}\n")


def whole_plan(**options):
    """Return a plan with each order, for two units with 15 connections each."""
    made = plan(
        limit=30, readers="10.1.0.9:5432", databases=("shop", "blog"), disabled=("shop",),
        paused=(Pause(database="blog"),), restarts=4, reconnects=5, kills=KillOrder(number=6),
        revision=7, md5_logins=True, known_users=("eve",), certificate_logins=(ANN, BOB),
    )  # fmt: skip
    first, second = made.members
    return but(
        made,
        settings=Settings(max_db_connections=30, **options),
        members=(but(first, restarts=3), but(second, processors=1)),
        upstream=but(
            made.upstream, mode="verify-ca", authorities=(SERVER,), server_id="a", version="17.2"
        ),
    )


def test_a_configuration_has_all_that_the_plan_decides():
    options = {
        "client_tls_sslmode": "require",
        "default_pool_size": 5,
        "min_pool_size": 9,
        "reserve_pool_size": 7,
    }
    made = whole_plan(**options)
    waits = (Process(index=1, port=6432, limit=5),)
    program = PgBouncerRuntime(version=NOW, files=4000, cpus=2)
    found = pooler_config(
        made, "pgb/0", program, LAYOUT, AUTH, waits, TLS, exported=True, restarts={1: 2, 0: 9}
    )
    line_of_server = {"hosts": ("10.1.0.1",), "port": 5432}
    assert found == PoolerConfig(
        instances=(
            Instance(
                index=1, port=6432, limit=5, restarts=2,
                settings=(
                    ("listen_addr", "*"),
                    ("listen_port", "6432"),
                    ("unix_socket_dir", "/var/lib/pgbouncer/1"),
                    ("so_reuseport", "1"),
                    ("peer_id", "2"),
                    ("auth_type", "hba"),
                    ("auth_hba_file", "/var/lib/pgbouncer/hba.conf"),
                    ("auth_file", "/var/lib/pgbouncer/userlist.txt"),
                    ("stats_users", "stats"),
                    ("admin_users", "admin"),
                    ("auth_user", "auth"),
                    ("auth_dbname", "pgbouncer_auth"),
                    ("auth_query", 'SELECT username, password FROM "pgbouncer".get_auth($1)'),
                    ("server_tls_sslmode", "verify-ca"),
                    ("server_tls_ca_file", CERTIFICATE_OF_SERVER.path),
                    ("client_tls_sslmode", "require"),
                    ("client_tls_key_file", KEY.path),
                    ("client_tls_cert_file", CHAIN.path),
                    ("client_tls_ca_file", CLIENTS.path),
                    ("auth_ident_file", MAP.path),
                    *made.settings.passed_on(),
                    ("max_client_conn", "3885"),
                    ("max_user_client_connections", "2913"),
                    ("max_db_client_connections", "2913"),
                    ("max_db_connections", "5"),
                    ("default_pool_size", "1"),
                    ("min_pool_size", "1"),
                    ("reserve_pool_size", "2"),
                    ("server_reset_query", "DISCARD ALL"),
                    ("client_login_timeout", "60"),
                    ("server_connect_timeout", "5"),
                    ("server_login_retry", "1"),
                    ("dns_max_ttl", "5"),
                    ("server_fast_close", "1"),
                    ("tcp_keepidle", "10"),
                    ("tcp_keepintvl", "5"),
                    ("tcp_keepcnt", "3"),
                    ("tcp_user_timeout", "25000"),
                    ("cancel_wait_timeout", "1"),
                    ("ignore_startup_parameters", "extra_float_digits,"),
                    ("log_connections", "0"),
                    ("log_disconnections", "0"),
                ),
                pools=(
                    Pool(
                        alias="pgbouncer_auth", database="pgbouncer", connections=2, size=2,
                        mode="transaction", standing=1, user="auth", **line_of_server,
                    ),
                    Pool(alias="blog", database="blog", **line_of_server),
                    Pool(alias="shop", database="shop", **line_of_server),
                ),
                users=(PoolUser(name="eve"),),
                peers=(
                    CancelPeer(peer_id=1, host="/var/lib/pgbouncer/0", port=6432),
                    CancelPeer(peer_id=2, host="/var/lib/pgbouncer/1", port=6432),
                    CancelPeer(peer_id=33, host="10.0.0.1", port=6432),
                ),
            ),
        ),
        users=tuple(
            ConsoleUser(name=name, secret=pydantic.SecretStr(secret))
            for name, secret in (
                ("auth", "auth-pw"),
                ("stats", verifier("stats", "stats-pw")),
                ("admin", verifier("admin", "admin-pw")),
                ("relation_id_1", "pw-1"),
                ("relation_id_2", "pw-2"),
            )
        ),
        rules=(
            *FIRST_RULES,
            Rule(database="pgbouncer_auth_2"),
            Rule(replication=True),
            Rule(database="shop"),
            Rule(database="shop_readonly"),
            Rule(
                origins=("hostssl",), users=("relation_id_1",), admits=True,
                certificate_map=MAP_NAME,
            ),
            Rule(origins=("local", "hostssl"), admits=True, md5=True),
        ),
        serving=Serving(
            port=6432, databases=("blog", "shop"), processors=2, tls=True, authorities=(ROOT,),
            certificate_users=("relation_id_1",), credentials=8, auth_user="auth", revision=7,
        ),
        upstream=made.upstream.endpoints[0],
        server="a",
        admin=Login(username="admin", password=pydantic.SecretStr("admin-pw")),
        pem_files=(CERTIFICATE_OF_SERVER, KEY, CHAIN, CLIENTS, MAP),
        client_files=(KEY, CHAIN, CLIENTS),
        tls_only=True,
        trusted=(TRUSTED, NEW),
        paused=("blog",),
        reconnects=5,
        kills=6,
    )  # fmt: skip


def test_without_other_numbers_a_process_has_the_restart_of_its_unit():
    made = whole_plan()
    found = pooler_config(made, "pgb/0", PROGRAM, LAYOUT, AUTH)
    assert [(each.index, each.limit, each.restarts) for each in found.instances] == [(0, 15, 3)]
    found = pooler_config(made, "pgb/0", PROGRAM, LAYOUT, AUTH, restarts={1: 1})
    assert [each.restarts for each in found.instances] == [3]


def test_a_unit_without_users_of_pgbouncer_has_processes_that_admit_no_login():
    found = pooler_config(whole_plan(), "pgb/0", PROGRAM, LAYOUT, None)
    (only,) = found.instances
    names = {name for name, _ in only.settings}
    assert not {"auth_user", "stats_users", "server_tls_sslmode", "client_tls_sslmode"} & names
    assert (only.pools, only.limit, only.readers) == ((), 15, False)
    assert but(found, instances=()) == PoolerConfig(
        instances=(), users=(), rules=(Rule(),),
        serving=Serving(port=6432, processors=1, revision=7),
        paused=("blog",), reconnects=5, kills=6,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "pair", "port", "reports"),
    [
        ("prefer", None, 6432, {"databases": ("blog", "shop")}),
        ("require", None, 6432, {}),
        ("prefer", None, 7000, {}),
        ("require", PAIR, 7000, {"tls": True, "authorities": (ROOT,)}),
        (
            "require",
            PAIR,
            6432,
            {"databases": ("blog", "shop"), "tls": True, "authorities": (ROOT,)},
        ),
    ],
)
def test_a_unit_reports_databases_only_if_clients_can_log_in(mode, pair, port, reports):
    made = but(whole_plan(client_tls_sslmode=mode), certificate_logins=())
    run = (Process(index=0, port=port, limit=5),)
    tls = ClientTls(pair)
    auth = but(AUTH, clients=())
    found = pooler_config(made, "pgb/0", PROGRAM, LAYOUT, auth, run, tls).serving
    assert found == Serving(
        port=6432, processors=1, credentials=8, auth_user="auth", revision=7, **reports
    )


def test_a_unit_reports_read_only_databases_if_all_processes_have_them():
    made = but(whole_plan(), former_port=7000)
    names = ("blog", "blog_readonly", "shop", "shop_readonly")
    with_readers = Process(index=0, port=6432, limit=5, readers=True)
    without = Process(index=1, port=6432, limit=5)
    for run, databases in (
        ((with_readers, but(without, port=7000)), names),
        ((with_readers, without), ("blog", "shop")),
    ):
        found = pooler_config(made, "pgb/0", PROGRAM, LAYOUT, AUTH, run).serving
        assert found.databases == databases


def test_a_unit_without_a_server_reports_passwords_and_no_auth_user():
    without_server = whole_plan().without_upstream()
    found = pooler_config(without_server, "pgb/0", PROGRAM, LAYOUT, AUTH)
    assert found.serving == Serving(port=6432, processors=1, credentials=8, revision=7)
    assert (found.upstream, found.server) == (None, "")
    first = pooler_config(whole_plan(), "pgb/0", PROGRAM, LAYOUT, CONSOLE_AUTH).serving
    assert (first.credentials, first.auth_user) == (0, "")


def test_a_file_of_authorities_of_the_operator_takes_the_place_of_the_others():
    made = whole_plan()
    for upstream, files, path in (
        (but(made.upstream, authority_file="/etc/ca.pem"), (), "/etc/ca.pem"),
        (but(made.upstream, authorities=()), (), None),
    ):
        found = pooler_config(but(made, upstream=upstream), "pgb/0", PROGRAM, LAYOUT, CONSOLE_AUTH)
        lines = dict(found.instances[0].settings)
        assert (found.pem_files, lines.get("server_tls_ca_file")) == (files, path)
        assert lines["server_tls_sslmode"] == "verify-ca"
