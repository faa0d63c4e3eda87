"""A reader follows README.md and then the tutorial, on machines that differ."""

import contextlib
import pathlib

import pytest

from pages.blocks import page
from pages.machine import ROOT, Machine, without
from pooler import binaries

README = page(ROOT / "README.md", "README.md")
TUTORIAL = page(ROOT / "docs/tutorial.md", "docs/tutorial.md")

LISTENER = """
import socket, time
taken = [socket.create_server((address, 6432)) for address in ("127.0.0.1", "127.0.0.2")]
time.sleep(1000)
"""
PORT_IS_TAKEN = f"""
.venv/bin/python -c '{LISTENER}' &
until .venv/bin/python -c 'import socket; socket.create_connection(("127.0.0.2", 6432))'; do sleep 0.1; done
"""

# PostgreSQL of the reader, which has signed its certificate itself.
SERVER = """
export PATH="{programs}:$PATH"
initdb --pgdata="$HOME/server" --username=admin --auth=scram-sha-256 --encoding=UTF8 --locale=C \\
    --pwfile=<(echo its-password)
openssl req -new -x509 -nodes -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \\
    -out "$HOME/server/server.crt" -keyout "$HOME/server/server.key"
chmod 600 "$HOME/server/server.key"
pg_ctl --pgdata="$HOME/server" --wait --log="$HOME/log" start \\
    --options="-c ssl=on -c port=5544 -c unix_socket_directories=''"
export PGPASSWORD=its-password
test "$(psql 'host=127.0.0.1 port=5544 user=admin dbname=postgres sslmode=require' -Atc 'show ssl')" = on
if ./pooler up --backend 'postgresql://admin@127.0.0.1:5544?sslrootcert=system' 2>"$HOME/refused"; then
    echo 'a certificate of no known authority was not refused'; exit 1
fi
grep 'certificate verify failed' "$HOME/refused"
./pooler up --backend "postgresql://admin@127.0.0.1:5544?sslmode=verify-full&sslrootcert=$HOME/server/server.crt"
"""
SERVER_STAYS = """
export PGPASSWORD=its-password
psql 'host=127.0.0.1 port=5544 user=admin dbname=shop' -c 'table orders'
"""


def follow(machine, *, before="", after=""):
    with contextlib.closing(machine):
        failure = machine.read(README, TUTORIAL, before=before, after=after)
    assert failure is None, str(failure)


@pytest.mark.root
def test_root_follows_the_readme_and_the_tutorial():
    follow(Machine(root=True))


def test_an_ordinary_user_follows_the_readme_and_the_tutorial():
    follow(Machine())


def test_the_pages_work_in_a_directory_with_a_space_in_its_name():
    follow(Machine(name="my pool"))


def test_the_pages_work_while_another_program_has_port_6432():
    follow(Machine(), before=PORT_IS_TAKEN)


def test_the_pages_work_without_apt_if_pgbouncer_is_given():
    program = binaries.pgbouncer(binaries.default_cache(), print)
    with without("apt", "dpkg", "pgbouncer") as path:
        follow(Machine(path=path, cache=False, variables={"PGBOUNCER": str(program)}))


def test_the_pages_work_with_an_existing_postgresql_that_offers_tls():
    programs = binaries.postgresql(pathlib.Path(binaries.default_cache()), print)
    follow(Machine(), before=SERVER.format(programs=programs), after=SERVER_STAYS)
