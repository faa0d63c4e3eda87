"""What a client without credentials can do to PgBouncer: shown by sending the packets.

With each PgBouncer that can be had: the newest, and the one of Debian's release.
"""

import pathlib
import socket
import struct

import psycopg
import pytest
from platform_under_test import value

from domain.capabilities import Version
from pooler.binaries import version_of

SETTINGS = {
    "search_path": "tenant",
    "statement_timeout": "500",
    "jit": "off",
    "TimeZone": "Asia/Tokyo",
}


def startup(pooler, user="relation_id_1", database="demo", **more):
    """A connection that has sent its startup packet."""
    host, _, port = pooler.credentials("demo")["endpoints"].split(",")[0].partition(":")
    words = ["user", user, "database", database, *(word for pair in more.items() for word in pair)]
    body = struct.pack("!i", 3 << 16) + b"".join(one.encode() + b"\0" for one in words) + b"\0"
    client = socket.create_connection((host, int(port)), timeout=5)
    client.sendall(struct.pack("!i", len(body) + 4) + body)
    return client


def answer(client):
    """The type of the next message, and what it says."""
    with client:
        head = client.recv(5, socket.MSG_WAITALL)
        if len(head) < 5:
            return "", ""
        text = client.recv(struct.unpack("!i", head[1:])[0] - 4, socket.MSG_WAITALL)
    return head[:1].decode(), text.decode(errors="replace")


def resident(pid):
    """MiB of memory that a process keeps."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


def serves(pooler):
    with pooler.client("demo") as client:
        return value(client, "select 42") == 42


def test_an_empty_setting_in_options_keeps_no_process_busy(pooler):
    """CVE-2026-107349."""
    for _ in range(2 * len(pooler.pids())):
        kind, _ = answer(startup(pooler, options="-c="))
        assert kind in ("E", "R", "")
    assert all(serves(pooler) for _ in range(8))


def unsupported(pooler, **more):
    kind, text = answer(startup(pooler, **more))
    return kind == "E" and "unsupported startup parameter" in text


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_has_one_answer_in_both_spellings(pooler, program, name):
    kept = name == "TimeZone" or (name == "search_path" and version_of(program) >= Version(1, 26))
    setting = SETTINGS[name]
    assert unsupported(pooler, **{name: setting}) is not kept
    assert unsupported(pooler, options=f"-c {name}={setting}") is not kept


@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("always", ["true", "false"])
def test_a_search_path_of_a_login_is_kept_or_refused(pooler, mode, always):
    pooler.run(
        "config",
        f"pool_mode={mode}",
        f"server_reset_query_always={always}",
        "max_db_connections=4",
    )
    with pooler.client("demo") as client:
        for schema in ("one", "two"):
            client.execute(f"create schema if not exists {schema}")
    wrong, refusals = 0, list[str]()
    for wanted in ("one", "one", "two", "two", "", "") * 3:
        options = {"options": f"-c search_path={wanted}"} if wanted else {}
        try:
            with pooler.client("demo", **options) as client:
                for _ in range(3):
                    wrong += value(client, "show search_path") != (wanted or '"$user", public')
        except psycopg.OperationalError as error:
            refusals.append(str(error))
    pooler(
        "config", "pool_mode=session", "server_reset_query_always=false", "max_db_connections=100"
    )
    assert wrong == 0
    assert all("unsupported startup parameter" in text for text in refusals)


@pytest.mark.parametrize("user", ["stats", "admin"])
@pytest.mark.parametrize("database", ["pgbouncer", "demo", "pgbouncer_auth"])
def test_users_of_the_console_do_not_come_from_the_network(pooler, user, database):
    name = own_users(pooler)[user]
    kind, text = answer(startup(pooler, user=name, database=database))
    assert (kind, "rejected" in text) == ("E", True)


def own_users(pooler):
    text = next(pooler.home.glob("units/0/0/pgbouncer.ini")).read_text()
    lines = dict(line.split(" = ", 1) for line in text.splitlines() if "_users = " in line)
    return {"stats": lines["stats_users"], "admin": lines["admin_users"]}


@pytest.mark.parametrize("database", ["pgbouncer", "pgbouncer_auth"])
def test_a_client_reaches_nothing_but_databases(pooler, database):
    with pytest.raises(psycopg.OperationalError), pooler.client("demo", dbname=database):
        pass


def test_a_stranger_makes_a_process_keep_no_more_than_a_packet(pooler):
    pooler("config", f"max_packet_size={2**24}")
    before = {pid: resident(pid) for pid in pooler.pids()}
    client = startup(pooler)
    client.settimeout(5)
    assert client.recv(1) == b"R"
    piece, sent = b"x" * 2**20, 0
    try:
        client.sendall(b"p" + struct.pack("!i", 2**28))
        for _ in range(200):
            client.sendall(piece)
            sent += 1
    except OSError:
        pass  # PgBouncer has closed the connection.
    more = max(resident(pid) - before[pid] for pid in before)
    client.close()
    pooler("config", f"max_packet_size={2**26}")
    print(f"{sent} MiB sent, {more:.0f} MiB kept")
    assert more < 40
    assert serves(pooler)


def test_the_console_answers_on_its_socket_while_clients_are_limited(pooler):
    assert "demo" in pooler("top", "--once", "--all")
