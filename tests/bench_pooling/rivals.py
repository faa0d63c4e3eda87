"""Who takes part? Our platform, and a PgBouncer that somebody set up by hand."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

from pgbench import DATABASE, Target
from platform_under_test import Pooler, lives
from postgresql import PostgreSQL

from adapters.local.run_as import chown, identity
from domain.capabilities import Version
from domain.endpoints import endpoints_in
from domain.plan import share
from domain.reset import reset_settings
from domain.settings import Settings
from pooler import binaries

BUDGET = 12  #: connections to PostgreSQL, for each who has a pool
PORTS = range(7500, 7600)

# What PgBouncer's documentation shows, and no line more than it takes. Passwords are looked up in
# PostgreSQL as ours are: a file of them would have to be written anew for each new user.
INI = """[databases]
{database} = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
so_reuseport = 1
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/userlist.txt
auth_user = bench_auth
auth_query = SELECT uname, phash FROM user_lookup($1)
pool_mode = {mode}
max_client_conn = 1000
default_pool_size = {size}
{reset}
"""


# The reset of equal meaning. With server_reset_query_always=true it is the parts of DISCARD ALL that keep prepared
# statements; where PostgreSQL does not report search_path, a reset also ends a server connection whose path
# was changed, in session mode too. A reset by hand that keeps less means less.
def _reset(mode: str, always: bool, pgbouncer: Version, postgresql: Version) -> str:
    wanted = Settings.model_validate({"pool_mode": mode, "server_reset_query_always": always})
    return "\n".join(f"{k} = {v}" for k, v in reset_settings(wanted, pgbouncer, postgresql))


LOOK_UP = f"""
CREATE ROLE bench_auth LOGIN PASSWORD 'bench';
GRANT CONNECT ON DATABASE {DATABASE} TO bench_auth;
CREATE FUNCTION user_lookup(IN i_username text, OUT uname text, OUT phash text) RETURNS record
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
    AS $$ SELECT usename::text, passwd FROM pg_shadow WHERE usename = i_username $$;
REVOKE ALL ON FUNCTION user_lookup(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION user_lookup(text) TO bench_auth
"""


@contextlib.contextmanager
def ours(server: PostgreSQL, mode: str) -> Iterator[Pooler]:
    """Our platform with one unit."""
    login = server.credentials()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="poolB-", dir="/tmp"))
    folder.chmod(0o711)  # servers run as another user where we are root
    password = login.password.get_secret_value()
    pooler = Pooler(folder / "home", PGPASSWORD=password, PGBOUNCER=str(program()))
    pooler.port = _free_port()
    try:
        pooler.up(
            *(f"pool_mode={mode}", f"max_db_connections={BUDGET}"),
            *("--units", "1", "--backend", f"postgresql://{login.user}@{server.endpoint}"),
        )
        yield pooler
    finally:
        left = pooler.pids()
        pooler.close()
        for pid in filter(lives, left):  # where `down` itself has failed
            os.kill(pid, signal.SIGTERM)


def program() -> pathlib.Path:
    """The PgBouncer that ours and those by hand run: the newest, which knows every option."""
    return binaries.pgbouncer(binaries.default_cache(), print, suite="sid")


def units(pooler: Pooler) -> list[Target]:
    """Where each unit listens."""
    told = pooler.credentials(DATABASE)
    return [Target(one.host, one.port) for one in endpoints_in(told["endpoints"])]


@contextlib.contextmanager
def by_hand(server: PostgreSQL, mode: str, *, reset: bool) -> Iterator[Target]:
    """As many processes as a unit of ours has, on one port, with as many connections."""
    folder, port = pathlib.Path(tempfile.mkdtemp(prefix="poolB-", dir="/tmp")), _free_port()
    owner = binaries.postgresql_owner()
    chown(folder, owner)
    (folder / "userlist.txt").write_text('"bench_auth" "bench"\n')
    count = len(os.sched_getaffinity(0))
    cleared = _reset(mode, reset, binaries.version_of(program()), Version(server.version))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        for index in range(count):
            ini = INI.format(
                database=DATABASE, host=server.host, port=server.port, listen=port, folder=folder,
                mode=mode, size=share(BUDGET, count, index), reset=cleared,
            )  # fmt: skip
            file = folder / f"{index}.ini"
            file.write_text(ini)
            log = stack.enter_context(open(folder / f"{index}.log", "w"))
            # A session of its own, as ours have: Linux divides processors between sessions first.
            process = subprocess.Popen(
                [str(program()), str(file)],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **identity(owner),
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield _answering(Target("127.0.0.1", port), folder)


def _answering(target: Target, folder: pathlib.Path) -> Target:
    for _ in range(50):
        with contextlib.suppress(OSError):
            socket.create_connection((target.host, target.port)).close()
            return target
        time.sleep(0.1)
    raise SystemExit("".join(one.read_text() for one in sorted(folder.glob("*.log"))))


def _free_port() -> int:
    for port in PORTS:
        with contextlib.suppress(OSError):
            socket.create_server(("", port)).close()
            return port
    raise SystemExit(f"no port from {PORTS[0]} to {PORTS[-1]} is free")
