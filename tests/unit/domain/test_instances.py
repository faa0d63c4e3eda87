import pytest
from configurations import LAYOUT, config
from plans import plan

from domain.budget import MOST_PROCESSES
from domain.capabilities import Version
from domain.console import first_line_not_applied
from domain.plan import Member
from domain.settings import Settings


def settings(index=0, **how):
    return dict(config(**how).instances[index].settings)


def test_all_that_a_process_is_told():
    assert settings() == {
        "listen_addr": "*",
        "listen_port": "6432",
        "unix_socket_dir": "/var/lib/pgbouncer/0",
        "so_reuseport": "1",
        "peer_id": "1",
        "auth_type": "hba",
        "auth_hba_file": "/var/lib/pgbouncer/hba.conf",
        "auth_file": "/var/lib/pgbouncer/userlist.txt",
        "stats_users": "stats",
        "admin_users": "admin",
        "auth_user": "auth",
        "auth_dbname": "pgbouncer_auth",
        "auth_query": 'SELECT username, password FROM "pgbouncer".get_auth($1)',
        "server_tls_sslmode": "prefer",
        **dict(Settings().passed_on()),
        "max_client_conn": "10000",
        "max_user_client_connections": "7500",
        "max_db_client_connections": "7500",
        "max_db_connections": "25",
        "default_pool_size": "25",
        "min_pool_size": "0",
        "reserve_pool_size": "0",
        "server_reset_query": "DISCARD ALL",
        "client_login_timeout": "60",
        "server_connect_timeout": "5",
        "server_login_retry": "1",
        "dns_max_ttl": "5",
        "server_fast_close": "1",
        "tcp_keepidle": "10",
        "tcp_keepintvl": "5",
        "tcp_keepcnt": "3",
        "tcp_user_timeout": "25000",
        "cancel_wait_timeout": "1",
        "ignore_startup_parameters": "extra_float_digits,",
        "log_connections": "1",
        "log_disconnections": "1",
    }


@pytest.mark.parametrize(
    ("version", "standing"),
    [(Version(1, 24), ("auth", 1)), (Version(1, 23, 1), ("", None))],
)
def test_a_process_keeps_a_connection_for_look_ups_open(version, standing):
    upstream = plan().upstream.model_copy(update={"auth_user": "auth"})
    shared = plan(databases=("shop",)).model_copy(update={"upstream": upstream})
    for instance in config(shared, version=version).instances:
        found = {pool.alias: (pool.user, pool.standing) for pool in instance.pools}
        assert found == {"pgbouncer_auth": standing, "shop": ("", None)}


def test_pool_sizes_of_an_option_are_the_parts_of_a_process():
    found = settings(default_pool_size=8, min_pool_size=4, reserve_pool_size=4)
    sizes = ("default_pool_size", "min_pool_size", "reserve_pool_size")
    assert [found[size] for size in sizes] == ["2", "1", "1"]


def test_parts_of_different_units_differ():
    # Of five connections for four processes the first unit has three.
    assert [
        settings(unit=unit, index=index, default_pool_size=5)["default_pool_size"]
        for unit in ("pgb/0", "pgb/1")
        for index in (0, 1)
    ] == ["2", "1", "1", "1"]


def test_five_hundred_units_later_peer_ids_start_again():
    def peer_id(unit):
        alone = plan(units=1)
        (member,) = alone.members
        members = (member.model_copy(update={"name": unit}),)
        return settings(shared=alone.model_copy(update={"members": members}), unit=unit)["peer_id"]

    assert [peer_id(f"pgb/{n}") for n in (0, 499, 500)] == ["1", str(1 + 499 * 32), "1"]


def test_without_a_server_none_is_remembered():
    shared = plan(databases=("shop",))
    assert config(shared).server == shared.upstream.server_id
    assert config(shared.without_upstream()).server == ""


def test_processes_share_a_port_and_have_a_socket_each():
    found = [dict(process.settings) for process in config().instances]
    assert [process["unix_socket_dir"] for process in found] == [
        "/var/lib/pgbouncer/0",
        "/var/lib/pgbouncer/1",
    ]
    assert {(process["listen_port"], process["so_reuseport"]) for process in found} == {
        ("6432", "1")
    }


def test_each_process_has_a_directory_with_its_configuration():
    assert LAYOUT.ini(1) == "/var/lib/pgbouncer/1/pgbouncer.ini"
    assert settings(1)["unix_socket_dir"] == LAYOUT.directory(1)
    assert settings(1)["auth_file"] == "/var/lib/pgbouncer/userlist.txt"


def test_processes_of_a_unit_find_one_anothers_queries_to_cancel():
    first, second = config(plan(4, databases=("shop",)), unit="pgb/3").instances
    assert [peer.peer_id for peer in first.peers] == [97, 98]
    assert [peer.host for peer in first.peers] == ["/var/lib/pgbouncer/0", "/var/lib/pgbouncer/1"]
    assert first.peers == second.peers
    assert [dict(each.settings)["peer_id"] for each in (first, second)] == ["97", "98"]


def across(*processors, **how):
    members = tuple(
        Member(
            name=f"pgb/{n}",
            address=f"10.0.0.{n}" if count else "",
            processors=count,
            share=100 // len(processors),
        )
        for n, count in enumerate(processors)
    )
    return plan(databases=("shop",), **how).model_copy(update={"members": members})


def test_processes_of_all_units_know_one_another():
    found = [config(across(2, 1, 3), unit=f"pgb/{n}", cpus=c) for n, c in enumerate((2, 1, 3))]
    ids = [
        {peer.peer_id for peer in process.peers}
        for process in found[0].instances + found[2].instances
    ]
    assert ids == [{1, 2, 33, 65, 66, 67}] * 5
    own = {int(dict(process.settings)["peer_id"]) for unit in found for process in unit.instances}
    assert own == ids[0]
    hosts = {peer.peer_id: (peer.host, peer.port) for peer in found[1].instances[0].peers}
    assert hosts[33] == ("/var/lib/pgbouncer/0", 6432)
    assert {hosts[n] for n in (65, 66, 67)} == {("10.0.0.2", 6432)}


def test_a_unit_of_which_nothing_is_known_is_no_peer():
    """A host that is empty or made up would keep whoever cancels waiting."""
    assert len(config(across(1, 0), cpus=1).instances[0].peers) == 1


def test_peers_are_on_both_ports_while_the_port_changes():
    moving = across(1, 1).model_copy(update={"former_port": 7000, "process_set": 1})
    peers = config(moving, cpus=1).instances[0].peers
    assert [(peer.peer_id, peer.host, peer.port) for peer in peers] == [
        (17, "/var/lib/pgbouncer/16", 6432), (1, "/var/lib/pgbouncer/0", 7000),
        (49, "10.0.0.1", 6432), (33, "10.0.0.1", 7000),
    ]  # fmt: skip


def test_a_process_keeps_its_id_when_it_gets_a_sibling():
    """An id is read when a process starts: another process would take a restart."""
    assert settings(cpus=1)["peer_id"] == settings(cpus=4)["peer_id"]


@pytest.mark.parametrize("unit", ["pgb/499", "pgb/500", "pgb/0", "odd"])
def test_peer_ids_are_ids_that_pgbouncer_takes(unit):
    moving = plan(limit=0).model_copy(update={"former_port": 7000})
    ids = [peer.peer_id for peer in config(moving, unit=unit, cpus=99).instances[0].peers]
    assert len(set(ids)) == 2 * MOST_PROCESSES
    assert min(ids) >= 1
    assert max(ids) <= 16383


@pytest.mark.parametrize(("cpus", "processes"), [(0, 1), (1, 1), (4, 4), (400, MOST_PROCESSES)])
def test_there_is_a_process_for_each_processor_up_to_a_point(cpus, processes):
    assert len(config(cpus=cpus).instances) == processes


def test_without_auth_material_nobody_is_let_in():
    found = config(auth=None)
    assert found.users == ()
    assert found.serving.databases == ()
    assert found.instances[0].pools == ()
    assert not {"auth_user", "auth_query", "stats_users"} & {
        n for n, _ in found.instances[0].settings
    }


def test_only_the_auth_users_password_is_kept_readable():
    users = {user.name: user.secret.get_secret_value() for user in config().users}
    assert users["auth"] == "auth-pw"
    for name in ("stats", "admin"):
        assert users[name].startswith("SCRAM-SHA-256$4096:")
        assert f"{name}-pw" not in users[name]


def test_passwords_are_looked_up_in_one_database_by_a_qualified_name():
    found = settings()
    assert found["auth_user"] == "auth"
    assert found["auth_dbname"] == "pgbouncer_auth"
    assert found["auth_query"] == 'SELECT username, password FROM "pgbouncer".get_auth($1)'


def test_passwords_are_looked_up_in_the_schema_of_the_plan():
    shared = plan()
    upstream = shared.upstream.model_copy(update={"auth_schema": 'a"b'})
    found = settings(shared=shared.model_copy(update={"upstream": upstream}))
    assert found["auth_query"] == 'SELECT username, password FROM "a""b".get_auth($1)'


def test_pools_are_as_large_as_the_share():
    shared = plan(2, limit=30, databases=("shop",))
    found = [dict(process.settings) for process in config(shared).instances]
    assert [process["max_db_connections"] for process in found] == ["8", "7"]
    assert [process["default_pool_size"] for process in found] == ["8", "7"]


def test_a_supervisor_keeps_the_pid_or_a_file_does():
    assert "pidfile" not in settings()
    layout = LAYOUT.model_copy(
        update={"with_pid_files": True, "listen_address": "127.0.0.2", "sockets": "/run/pgb"}
    )
    found = settings(layout=layout)
    assert found["pidfile"] == "/run/pgb/0/pgbouncer.pid"
    assert found["listen_addr"] == "127.0.0.2"


# ---- what a process runs with after a reload ---------------------------------------------------
def shown(instance, **changes):
    return dict(instance.settings) | changes


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, ""),
        ({"query_timeout": "0.000000"}, ""),
        ({"server_lifetime": "60"}, "server_lifetime = 3600"),
        ({"pool_mode": "statement"}, "pool_mode = session"),
        ({"listen_port": "1"}, ""),  # it would take a restart
        ({"server_reset_query": ""}, "server_reset_query = DISCARD ALL"),
    ],
)
def test_a_line_that_is_not_in_force_after_a_reload_was_refused(changes, line):
    process = config(cpus=1).instances[0]
    aliases = {pool.alias for pool in process.pools}
    assert first_line_not_applied(process, shown(process, **changes), aliases) == line
    assert first_line_not_applied(process, {}, aliases) == ""


def test_a_database_that_is_not_there_after_a_reload_was_refused():
    process = config(plan(databases=("blog", "shop"), any_database=True), cpus=1).instances[0]
    assert (
        first_line_not_applied(process, shown(process), {"shop", "pgbouncer_auth"})
        == "blog = … in [databases]"
    )


@pytest.mark.parametrize(
    ("files", "limit", "clients"),
    [
        (0, 100, "10000"),
        (1_000_000, 100, "10000"),
        (4096, 100, "3796"),
        (4096, 0, "3956"),
        (4096, 100_000, "1998"),
        (64, 0, "1"),
    ],
)
def test_there_are_no_more_clients_than_the_process_may_open_files(files, limit, clients):
    shared = plan(1, limit=limit, databases=("shop",))
    found = config(shared, cpus=1, files=files).instances[0]
    assert dict(found.settings)["max_client_conn"] == clients


def test_another_text_in_pem_has_another_path():
    one, other = LAYOUT.pem_file("server-ca", "a text"), LAYOUT.pem_file("server-ca", "another")
    assert one == LAYOUT.pem_file("server-ca", "a text")
    assert one.path.startswith("/var/lib/pgbouncer/tls/server-ca-")
    assert one.path.endswith(".pem")
    assert one.path != other.path
    assert "a text" not in repr(one)
