"""Lines of a process, what its console shows of them, and texts about endpoints and certificates."""

import pytest
from configurations import LAYOUT, NOW
from plans import plan
from samples import AUTH, but

from domain.capabilities import Capabilities, PgBouncerRuntime, Version, capabilities, version_in
from domain.capacity import Demand, demand
from domain.certificate_logins import CertificateLogin, ClientCertificate, distinct, name_refused
from domain.console import PooledDatabase, lines_not_applied, most_connections
from domain.endpoints import Endpoint, address_in, endpoints_in, endpoints_text
from domain.ini_lines import looking_up, most_clients, pooling, server_tls
from domain.instances import Instance, pooler_config
from domain.plan import Member
from domain.pools import Part, Pool

# ---- lines -----------------------------------------------------------------------------------
PLAN = plan(databases=("blog", "shop"), limit=100)


@pytest.mark.parametrize(
    ("files", "limit", "clients"),
    [
        (0, 10, 10_000),
        (1, 10, 1),
        (101, 10, 1),
        (103, 10, 1),
        (200, 10, 70),
        (300, 0, 140),
        (300, 5, 185),
        (300, 100, 100),
        (300, 34, 100),
        (20_000, 10, 10_000),
    ],
)
def test_files_of_a_process_are_for_its_clients_and_server_connections(files, limit, clients):
    assert most_clients(PLAN, limit, files) == clients


@pytest.mark.parametrize(
    ("version", "limits"),
    [
        (Version(1, 23, 9), {}),
        (
            Version(1, 24),
            {"max_user_client_connections": "52", "max_db_client_connections": "52"},
        ),
    ],
)
def test_a_user_or_a_database_has_three_quarters_of_the_clients(version, limits):
    found = dict(pooling(PLAN, version, Part(limit=10), 200))
    named = {name: value for name, value in found.items() if name.endswith("client_connections")}
    assert (found["max_client_conn"], named) == ("70", limits)
    least = dict(pooling(PLAN, NOW, Part(limit=10), 1))
    assert (least["max_client_conn"], least["max_db_client_connections"]) == ("1", "1")


@pytest.mark.parametrize(
    ("server", "end"), [("18.1", "ALL"), ("17.9", "DEALLOCATE ALL"), ("", "DEALLOCATE ALL")]
)
def test_a_reset_depends_on_the_version_of_postgresql(server, end):  # fmt: skip
    known = but(PLAN, upstream=but(PLAN.upstream, version=server))
    query = dict(pooling(known, Version(1, 26), Part(), 0))["server_reset_query"]
    assert query.endswith(end)
    assert (query == "DISCARD ALL") == (end == "ALL")
    nothing = dict(pooling(PLAN.without_upstream(), Version(1, 26), Part(), 0))
    assert nothing["server_reset_query"].endswith("DEALLOCATE ALL")


def test_lines_on_logins_name_what_there_is():
    files = (
        ("auth_type", "hba"),
        ("auth_hba_file", "/var/lib/pgbouncer/hba.conf"),
        ("auth_file", "/var/lib/pgbouncer/userlist.txt"),
    )
    consoles = (("stats_users", "stats"), ("admin_users", "admin"))
    known = but(
        PLAN, upstream=but(PLAN.upstream, auth_schema='a"b', auth_alias="pgbouncer_auth_2")
    )
    query = (
        ("auth_user", "auth"),
        ("auth_dbname", "pgbouncer_auth_2"),
        ("auth_query", 'SELECT username, password FROM "a""b".get_auth($1)'),
    )
    assert looking_up(known, LAYOUT, AUTH) == (*files, *consoles, *query)
    assert looking_up(known, LAYOUT, None) == (*files, *query)
    assert looking_up(known.without_upstream(), LAYOUT, AUTH) == (*files, *consoles)


def test_without_postgresql_there_are_no_lines_on_its_tls():
    assert server_tls(None, LAYOUT) == ((), ())
    file = but(PLAN.upstream, mode="verify-full", authority_file="/etc/ca.pem")
    lines = (("server_tls_sslmode", "verify-full"), ("server_tls_ca_file", "/etc/ca.pem"))
    assert server_tls(file, LAYOUT) == (lines, ())
    assert server_tls(but(file, authority_file=""), LAYOUT) == (lines[:1], ())


def test_paths_of_processes_are_below_two_directories():
    layout = but(LAYOUT, root="/r", sockets="/s")
    paths = [layout.directory(3), layout.socket_directory(3), layout.ini(3), layout.pid_file(3)]
    assert paths == ["/r/3", "/s/3", "/r/3/pgbouncer.ini", "/r/3/pid"]
    kept = but(layout, with_pid_files=True)
    assert kept.pid_file(3) == "/s/3/pgbouncer.pid"
    assert (kept.auth_file, kept.hba_file, kept.pem_directory) == (
        "/r/userlist.txt",
        "/r/hba.conf",
        "/r/tls",
    )
    alone = but(kept, sockets="")
    assert (alone.socket_directory(3), alone.pid_file(3)) == ("/r/3", "/r/3/pgbouncer.pid")


def test_a_process_restarts_only_for_what_takes_effect_at_its_start():
    (first, second) = pooler_config(
        PLAN, "pgb/0", PgBouncerRuntime(version=NOW, cpus=2), LAYOUT, AUTH
    ).instances
    assert first.restart_digest() != second.restart_digest()
    reloaded = but(first, settings=(*first.settings, ("verbose", "1")), pools=())
    assert reloaded.restart_digest() == first.restart_digest()
    assert reloaded.reload_digest() != first.reload_digest()
    restarted = but(first, restarts=1)
    assert restarted.restart_digest() not in (
        first.restart_digest(),
        but(first, restarts=2).restart_digest(),
    )


def test_each_process_has_its_part_and_each_unit_that_is_known_is_a_peer():
    known = {"name": "pgb/1", "address": "10.0.0.1", "processors": 1, "share": 50}
    first = but(PLAN.members[0], share=50)
    both = PgBouncerRuntime(version=NOW, cpus=2)
    for changes, peers in (({}, 3), ({"address": ""}, 2), ({"processors": 0}, 2)):
        members = (first, Member(**known | changes))
        settings = but(PLAN.settings, min_pool_size=5)
        shared = but(PLAN, members=members, settings=settings)
        found = pooler_config(shared, "pgb/0", both, LAYOUT, AUTH).instances
        assert [dict(each.settings)["min_pool_size"] for each in found] == ["2", "1"]
        assert {len(each.peers) for each in found} == {peers}


# ---- consoles --------------------------------------------------------------------------------
def test_each_line_that_is_not_in_force_is_found():
    pools = tuple(
        Pool(alias=alias, hosts=("h",), port=5432, database=alias)
        for alias in ("shop", "news", "blog")
    )
    settings = (
        ("pool_mode", "session"), ("listen_port", "6432"), ("query_timeout", "60"),
        ("tcp_user_timeout", "1234567"), ("server_lifetime", "90"), ("unknown", "1"),
        ("dns_max_ttl", "5"),
    )  # fmt: skip
    process = Instance(index=0, port=6432, settings=settings, pools=pools)
    shown = {
        "pool_mode": "statement", "listen_port": "1", "query_timeout": "60.000000",
        "tcp_user_timeout": "1.23457e+06", "server_lifetime": "60", "dns_max_ttl": "none",
    }  # fmt: skip
    assert list(lines_not_applied(process, shown, {"news"})) == [
        "blog = … in [databases]",
        "shop = … in [databases]",
        "pool_mode = session",
        "server_lifetime = 90",
        "dns_max_ttl = 5",
    ]


def test_a_pool_and_its_read_only_pool_share_a_database():
    found = [
        PooledDatabase(alias=alias, database=database, connections=connections, most=9)
        for alias, database, connections in (("a", "x", 3), ("b", "y", 4), ("c", "x", 2))
    ]
    assert most_connections(found) == 5
    assert most_connections(found[:2]) == 4


# ---- versions and capacity -------------------------------------------------------------------
@pytest.mark.parametrize(
    ("version", "supported", "waits"),
    [
        (Version(1, 20, 9), False, False),
        (Version(1, 21), True, False),
        (Version(1, 22, 9), True, False),
        (Version(1, 23), True, True),
    ],
)
def test_a_release_of_pgbouncer_can_do_what_it_can_since_then(version, supported, waits):
    expected = Capabilities(supported=supported, waits_for_clients=waits)
    assert capabilities(version) == expected


def test_a_version_is_read_from_a_text():
    assert version_in("PgBouncer 1.24.3 of 2.0") == Version(1, 24, 3)
    assert version_in("16 (Ubuntu 16.4-1)") == Version(16, 0, 0)
    assert version_in("123456 17.2") == Version(17, 2, 0)
    assert version_in("devel") is None
    assert str(Version(1, 24, 3)) == "1.24.3"


def test_a_demand_counts_each_process_of_each_unit():
    members = (
        Member(name="pgb/0", address="", processors=3, share=9),
        Member(name="pgb/1", address="", processors=2, share=3),
    )
    known = but(PLAN, settings=but(PLAN.settings, max_db_connections=12), members=members)
    assert demand(known, 7) == Demand(databases=2, each=12, look_ups=8)
    assert demand(known, 7).total == 32
    free = but(known, settings=but(PLAN.settings, max_db_connections=0, reserve_pool_size=4))
    assert demand(free, 7) == Demand(databases=7, each=104, look_ups=10)
    sized = but(free, settings=but(free.settings, default_pool_size=6))
    assert demand(sized, 7) == Demand(databases=7, each=10, look_ups=10)


# ---- texts -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (",".join(f"h{n}" for n in range(65)), "there are 65 endpoints: 64 are the most"),
        ("a b", "'a b' is no endpoint"),
        ("x" * 262, f"'{'x' * 80}'… is no endpoint"),
        ("x" * 261, f"'{'x' * 80}' is no endpoint"),
        ("h:0", "'h:0' is no endpoint"),
        ("h:65536", "'h:65536' is no endpoint"),
    ],
)
def test_a_text_that_is_no_endpoint_is_quoted(text, problem):
    with pytest.raises(ValueError, match="endpoint") as raised:
        endpoints_in(text)
    assert str(raised.value) == problem


def test_the_most_endpoints_and_the_outermost_ports_are_read():
    assert len(endpoints_in(",".join(f"h{n}" for n in range(64)))) == 64
    found = endpoints_in(" h:1 ,, [2001:db8::1]:65535,[2001:db8::2],x.,")
    assert found == (
        Endpoint(host="h", port=1),
        Endpoint(host="2001:db8::1", port=65535),
        Endpoint(host="2001:db8::2", port=5432),
        Endpoint(host="x.", port=5432),
    )
    assert endpoints_text(found) == "h:1,[2001:db8::1]:65535,[2001:db8::2]:5432,x.:5432"


def test_a_host_has_labels_of_63_letters_and_253_letters_in_all():
    label = "x" * 63
    longest = ".".join((label, label, label, "x" * 61))
    for text in (label, longest, "10.0.0.1", "2001:db8::1", "a_b-c"):
        assert address_in(text) == text
    for text in (f"{label}x", f"{longest}x", "", "-a", "a-", "a..b", "fe80::1%eth0", "1:2"):
        assert address_in(text) == ""


LETTERS = "because its common name is not letters, digits, _, . and -"
PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"


def test_a_name_of_a_certificate_is_refused_with_its_reason():
    assert name_refused("a.b_c-1", ("a", "b")) == ""
    assert name_refused(".a", ()) == LETTERS
    assert name_refused("x" * 63, ()) == ""
    assert name_refused("x" * 64, ()) == "because its common name is longer than 63 letters"
    wildcard = "because it has a name with *: give a certificate without it"
    assert name_refused("a", ("b", "*.c")) == wildcard


def test_each_certificate_that_is_not_used_has_its_reason():
    known = ClientCertificate(text=PEM, name="Shop", names=("shop", "pool"))
    refused = ClientCertificate(problem="because it expired")
    used = CertificateLogin(username="a", name="Shop", certificate=PEM, names=("shop", "pool"))
    offered = [("c", refused), ("d", known), ("a", known), ("b", refused)]
    other = "because another client has a certificate with the same name"
    assert distinct(offered, [used]) == (
        (used,),
        {"c": "because it expired", "d": other, "b": "because it expired"},
    )
    assert distinct(offered, ())[0] == (used.named("d"),)
    assert used.named("d").is_for == ("d", "Shop")
