"""B-1 to B-5: PgBouncer verifies a real PostgreSQL through every change of its certificates."""

import time

import psycopg
import pytest
from postgresql import PostgreSQL
from verified_platform import ManInTheMiddle, VerifiedPlatform, Workload, running

from authority import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authorities") / "first")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authorities") / "other", "other root")


@pytest.fixture(scope="module")
def pair(authority):
    return authority.issue("postgresql", "127.0.0.1", "127.0.0.2", "localhost")


@pytest.fixture(scope="module")
def tls_server(pair):
    settings = {
        "listen_addresses": "127.0.0.1,127.0.0.2",
        "log_connections": "on",
        # The standby needs what was written while it did not know that the server had restarted.
        "wal_keep_size": "128MB",
    }
    with PostgreSQL(settings=settings, tls=pair) as server:
        yield server


@pytest.fixture
def postgresql(tls_server, pair):
    tls_server.serve(pair)
    yield tls_server
    tls_server.wipe()


@pytest.fixture(scope="module")
def standby(tls_server, pair):
    with PostgreSQL(tls=pair, standby_of=tls_server) as server:
        yield server


@pytest.fixture
def platform(program, home):
    with running(VerifiedPlatform(program, home)) as platform:
        yield platform


def until_replayed(primary, standby):
    """Wait until the standby has every user and password of the primary."""
    ((position,),) = primary.sql("SELECT pg_current_wal_lsn()")
    end = time.monotonic() + 60
    while standby.sql("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [position]) != [(True,)]:
        assert time.monotonic() < end, "\n".join(
            line for line in standby.log.splitlines() if " connection " not in line
        )[-3000:]
        time.sleep(0.05)


def encrypted(platform):
    """Return whether each server connection is encrypted; those from before a reload end after it."""
    end = time.monotonic() + 30
    while True:
        found = [row["tls"] for row in platform.servers()]
        if found and all(found):
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.05)


def answers(platform, database=""):
    """Return whether a client gets an answer; PgBouncer repeats the last error of a server for a second."""
    end = time.monotonic() + 5
    while True:
        try:
            with platform.client(database=database) as client:
                return client.execute("SELECT 1").fetchone() == (1,)
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def authorities_in_use(platform):
    with open(platform.settings()["server_tls_ca_file"]) as file:
        return file.read()


def test_b1_server_connections_are_encrypted_and_verified(platform, postgresql, authority):
    platform.tell(f"127.0.0.1:{postgresql.port}", authority.root.read_text())
    platform.relate()
    with platform.client() as client:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert client.execute(query).fetchone() == (True,)
        assert encrypted(platform)
    assert platform.settings()["server_tls_sslmode"] == "verify-full"
    assert authorities_in_use(platform) == authority.root.read_text()
    assert "verified" not in platform.status


@pytest.mark.parametrize("what", ["another authority", "a wrong name"])
@pytest.mark.parametrize("option", ["verify", "require-verify"])
def test_b1_a_man_in_the_middle_gets_no_login_and_is_named(
    platform, postgresql, authority, other, what, option
):
    root = authority.root.read_text()
    platform.model.options["backend_tls_sslmode"] = option
    platform.tell(f"127.0.0.1:{postgresql.port}", root)
    platform.relate()
    signed = other if what == "another authority" else authority
    names = ["127.0.0.1"] if what == "another authority" else ["127.0.0.2", "db.example"]
    with ManInTheMiddle(signed.issue("middle", *names)) as middle:
        platform.tell(middle.endpoint, root)
        assert (
            f"PostgreSQL at {middle.endpoint} is not verified: its certificate" in platform.status
        )
        with pytest.raises(psycopg.OperationalError):
            platform.client(seconds=3)
        assert middle.handshakes >= 3, "the hook and PgBouncer have tried"
        assert middle.received == b""
    platform.tell(f"127.0.0.1:{postgresql.port}", root)
    assert "verified" not in platform.status
    assert answers(platform)


def test_b1_a_server_without_tls_gets_no_login_where_it_has_to_be_verified(
    platform, postgresql, authority
):
    platform.model.options["backend_tls_sslmode"] = "require-verify"
    before = postgresql.log.count("connection authorized: user=operator")
    platform.tell(f"127.0.0.1:{postgresql.port}", tls=False)
    assert "PostgreSQL must be verified, and PostgreSQL offers no TLS" in platform.status
    assert postgresql.log.count("connection authorized: user=operator") == before
    assert platform.model.auth is None
    platform.tell(f"127.0.0.1:{postgresql.port}", authority.root.read_text())
    platform.relate()
    assert answers(platform)
    assert encrypted(platform)


@pytest.mark.parametrize("told_first", [True, False])
def test_b2_a_new_authority_of_postgresql_cuts_no_transaction(
    platform, postgresql, standby, authority, other, pair, told_first
):
    old, new = authority.root.read_text(), other.root.read_text()
    renewed = other.issue("postgresql", "127.0.0.1")
    place, reader = f"127.0.0.1:{postgresql.port}", f"127.0.0.1:{standby.port}"
    standby.serve(pair)
    platform.tell(place, old, readers=reader)
    platform.relate()
    until_replayed(postgresql, standby)
    assert answers(platform, "shop_readonly")
    with Workload(platform) as work:
        work.goes_on()
        if told_first:
            platform.tell(place, new, readers=reader)
            work.goes_on()
            assert authorities_in_use(platform) == new + old
        standby.serve(renewed)
        platform.hook("update_status")
        work.goes_on()
        if told_first:
            assert authorities_in_use(platform) == new + old
            assert f"{place} is not verified" in platform.status
        postgresql.serve(renewed)
        switched = time.time()
        time.sleep(1)
        work.goes_on()
        if told_first:
            platform.hook("update_status")
        else:
            platform.tell(place, new, readers=reader)
        assert authorities_in_use(platform) == new
        work.goes_on()
        time.sleep(1)
        oldest = min(row["connect_time"] for row in platform.servers())
    assert work.failures == []
    assert oldest >= time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(switched))
    assert "verified" not in platform.status
    assert answers(platform, "shop_readonly")


def test_b3_an_authority_without_its_root_is_named_and_the_root_verifies(
    platform, postgresql, tmp_path
):
    below = Authority(tmp_path / "vault", "vault", intermediate=True)
    postgresql.serve(below.issue("postgresql", "127.0.0.1"))
    place, issuer, root = f"127.0.0.1:{postgresql.port}", below.chain, below.root.read_text()
    platform.tell(place, issuer)
    platform.relate()
    assert "the authority that PostgreSQL tells is no root: integrate receive-ca-certs" in (
        platform.status
    )
    assert platform.settings()["server_tls_sslmode"] == "prefer"
    assert answers(platform)
    platform.tell(place, issuer, received=root)
    assert platform.settings()["server_tls_sslmode"] == "verify-full"
    assert authorities_in_use(platform) == issuer + root
    assert "verified" not in platform.status
    assert answers(platform)
    assert encrypted(platform)


def test_b4_replicas_with_several_hosts_are_verified(platform, postgresql, authority):
    readers = f"127.0.0.1:{postgresql.port},127.0.0.2:{postgresql.port}"
    platform.tell(f"127.0.0.1:{postgresql.port}", authority.root.read_text(), readers=readers)
    platform.relate()
    assert platform.settings()["server_tls_sslmode"] == "verify-full"
    # The kernel spreads the clients over the processes.
    for _ in range(8):
        assert answers(platform, "shop_readonly")
    assert encrypted(platform)
    older = "trixie" in str(platform.program)
    assert ("verifies a single host of a pool" in platform.status) == older


def test_b4_a_replica_with_a_wrong_name_is_named_before_a_client_waits(
    platform, postgresql, authority
):
    with ManInTheMiddle(authority.issue("middle", "elsewhere")) as middle:
        platform.tell(
            f"127.0.0.1:{postgresql.port}", authority.root.read_text(), readers=middle.endpoint
        )
        assert (
            f"PostgreSQL at {middle.endpoint} is not verified: its certificate" in platform.status
        )
        platform.relate()
        assert answers(platform)
        assert middle.received == b""


@pytest.mark.parametrize("option", ["verify", "require-verify"])
def test_b5_no_transaction_is_cut_while_tls_of_postgresql_comes_and_goes(
    platform, postgresql, authority, pair, option
):
    place, root = f"127.0.0.1:{postgresql.port}", authority.root.read_text()
    platform.model.options["backend_tls_sslmode"] = option
    platform.tell(place, root)
    platform.relate()
    with Workload(platform) as work:
        work.goes_on()
        platform.tell(place, tls=False)
        work.goes_on()
        restarts = time.time()
        postgresql.stop()
        postgresql.start()
        work.goes_on()
        restarted = time.time()
        platform.tell(place, root)
        work.goes_on()
    # PgBouncer ends a login to PostgreSQL that is under way when it is reloaded (docs/promises.md).
    cut = [
        text
        for when, text in work.failures
        if not restarts <= when <= restarted and "connect string changed" not in text
    ]
    assert cut == []
    assert answers(platform)
    assert encrypted(platform)
    assert "verified" not in platform.status
