"""A program that pretends to be PostgreSQL learns no password, and keeps no hook."""

import contextlib
import pathlib
import socket
import struct
import subprocess
import sys
import threading
import time

import pydantic
import pytest
from hostile.scram_server import Refused, asks, message, prove

from adapters.postgres.databases import PsycopgDatabases
from app.errors import DatabaseRefused, DatabaseUnreachable
from domain.backend import BackendLogin
from domain.endpoints import Endpoint
from domain.users import Login
from pooler import server as local
from pooler.server import ServerFailed

PASSWORD = "Sup3rUserPassw0rd"
ENCRYPTION = {struct.pack("!ii", 8, code) for code in (80877103, 80877104)}
UNLIMITED = 20_000_000

# A login has two seconds, and this machine may be busy.
SECONDS = 3.5


class Impostor:
    """A server that answers as `pretend` after the first message, and keeps everything that it receives."""

    def __init__(self, pretend):
        self._pretend = pretend
        self.heard = b""

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def backend(self):
        host, port = self._listener.getsockname()
        return BackendLogin(
            user="postgres",
            password=pydantic.SecretStr(PASSWORD),
            database="postgres",
            endpoints=(Endpoint(host=host, port=port),),
        )

    def recv(self, size):
        data = self._connection().recv(size)
        self.heard += data
        return data

    def sendall(self, data):
        self._connection().sendall(data)

    def _connection(self):
        return self._here.connection

    _here = threading.local()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(
                    target=self._talk, args=self._listener.accept()[:1], daemon=True
                ).start()

    def _talk(self, connection):
        self._here.connection = connection
        with connection, contextlib.suppress(OSError, Refused):
            connection.settimeout(10)
            while (data := self.recv(8192)) in ENCRYPTION:
                self.sendall(b"N")
            if data:
                self._pretend(self)
                while self.recv(8192):
                    pass


def plain(server):
    server.sendall(asks(3))


def md5(server):
    server.sendall(asks(5, b"salt"))


def trust(server):
    server.sendall(asks(0) + message(b"Z", b"I"))


def many_iterations(server):
    prove(server, PASSWORD, UNLIMITED)


def garbage(server):
    server.sendall(bytes(range(256)) * 100)


def slow(server):
    for byte in asks(3):
        server.sendall(bytes([byte]))
        time.sleep(1)


def silent(server):
    time.sleep(10)


def notices(server):
    while True:
        server.sendall(message(b"N", b"MNotice\0\0") * 100)


def settings(server):
    prove(server, PASSWORD)
    for number in range(10**9):
        server.sendall(message(b"S", b"setting%d\0value\0" % number))


def refusal(backend):
    with pytest.raises((DatabaseRefused, DatabaseUnreachable)) as caught:
        PsycopgDatabases("model/pgb").open(backend).__enter__()
    return str(caught.value)


@pytest.mark.parametrize(
    ("pretend", "sentence"),
    [
        (plain, "asks for the password in plain text: check that the address leads to PostgreSQL"),
        (md5, "asks for an MD5 hash of the password: set password_encryption to scram-sha-256"),
        (trust, "asks for no password, and so does not prove that it knows it"),
        (garbage, "refuses user postgres"),
        (slow, "does not answer when user postgres logs in"),
        (silent, "does not answer when user postgres logs in"),
        (notices, ""),
        (settings, "does not answer when user postgres logs in"),
    ],
)
def test_an_impostor_is_named_in_time_and_gets_no_password(pretend, sentence):
    with Impostor(pretend) as impostor:
        begin = time.monotonic()
        said = refusal(impostor.backend)
        assert time.monotonic() - begin < SECONDS
        assert said.startswith(f"PostgreSQL at {impostor.backend.endpoints[0]} ")
        assert sentence in said
        assert PASSWORD not in said
        assert PASSWORD.encode() not in impostor.heard
        assert b"md5" not in impostor.heard


@pytest.mark.parametrize("pretend", [plain, md5, trust, silent])
def test_an_impostor_admits_no_client_and_gets_no_password(pretend):
    client = Login(username="relation_id_1", password=pydantic.SecretStr(PASSWORD))
    with Impostor(pretend) as impostor:
        databases = PsycopgDatabases("model/pgb")
        begin = time.monotonic()
        for _ in range(5):
            assert not databases.admits(impostor.backend, client, "shop")
        assert time.monotonic() - begin < SECONDS
        assert PASSWORD.encode() not in impostor.heard


def test_the_local_platform_gives_an_impostor_no_password():
    with Impostor(plain) as impostor, pytest.raises(ServerFailed, match="in plain text"):
        local.inspect_server(impostor.backend)
    assert PASSWORD.encode() not in impostor.heard


# In a separate process: the threads that hash would take a processor from the tests that follow.
HASHING = """
import sys, time, pydantic
sys.path.insert(0, sys.argv[1])
from adapters.postgres.databases import PsycopgDatabases
from domain.backend import BackendLogin
from domain.endpoints import Endpoint
from domain.users import Login
password = pydantic.SecretStr(sys.argv[3])
endpoints = (Endpoint(host="127.0.0.1", port=int(sys.argv[2])),)
backend = BackendLogin(user="postgres", password=password, database="postgres", endpoints=endpoints)
databases = PsycopgDatabases("model/pgb")
import psycopg
begin = time.monotonic()
try:
    if sys.argv[4] == "open":
        databases.open(backend).__enter__()
    for _ in range(5):
        databases.admits(backend, Login(username="u", password=password), "shop")
except Exception as error:
    print(error)
print(time.monotonic() - begin)
from adapters.connections.login import end_process
end_process(0)
"""


@pytest.mark.parametrize("what", ["open", "admits"])
def test_a_server_that_asks_for_many_hashes_delays_no_process(what):
    source = str(pathlib.Path(local.__file__).parents[1])
    with Impostor(many_iterations) as impostor:
        port = str(impostor.backend.endpoints[0].port)
        command = [sys.executable, "-c", HASHING, source, port, PASSWORD, what]
        begin = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took = time.monotonic() - begin
    assert (done.returncode, done.stderr) == (0, "")
    *said, seconds = done.stdout.splitlines()
    assert float(seconds) < SECONDS
    assert took < 10, "the same hashes, to the end, take 37 s"
    if what == "open":
        assert said == [
            f"PostgreSQL at 127.0.0.1:{port} does not answer when user postgres logs in:"
            " check that it runs and has processor time"
        ]
