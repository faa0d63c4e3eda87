"""Any answer of a program in the place of PostgreSQL or a console is read, or refused in a short sentence."""

import contextlib
import pathlib
import re
import socket
import struct
import tempfile
import threading
import time
from types import SimpleNamespace

import pydantic
import pytest
from hostile.inputs import ANY_TEXT, HUGE, LINES, TEXT, a_sentence, outcome
from hostile.scram_server import Refused, message, prove
from hypothesis import example
from hypothesis import strategies as st
from plans import plan
from profiles import given
from samples import AUTH

from adapters.connections import ping
from adapters.connections.messages import last_line, one_line
from adapters.connections.waiting import WaitingBudget
from adapters.pgbouncer.console import PsycopgConsole, PsycopgConsoles
from adapters.postgres.databases import PsycopgDatabases
from app.errors import ConsoleFailed, DatabaseRefused, DatabaseUnreachable
from domain.backend import BackendLogin
from domain.capabilities import PgBouncerRuntime, Version, version_in
from domain.console import first_line_not_applied, most_connections
from domain.endpoints import Endpoint
from domain.instances import Layout, pooler_config
from domain.users import Grant

PASSWORD = AUTH.admin_password.get_secret_value()
SILENCE = b"nothing at all"
PATIENCE_SECONDS = 5.0
ENCRYPTION = {struct.pack("!ii", 8, code): b"N" for code in (80877103, 80877104)}


# ---- a program that speaks the protocol of PostgreSQL ----------------------------------------
def error(text):
    fields = {"S": "ERROR", "V": "ERROR", "C": "28000", "M": text.replace("\0", "")}
    body = "".join(f"{kind}{said}\0" for kind, said in fields.items())
    return message(b"E", body.encode(errors="surrogatepass") + b"\0")


def row(*values):
    """Return an answer with a single row of texts."""
    columns = b"".join(b"c\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0) for _ in values)
    fields = b"".join(struct.pack("!i", len(value)) + value for value in values)
    return (
        message(b"T", struct.pack("!h", len(values)) + columns)
        + message(b"D", struct.pack("!h", len(values)) + fields)
        + message(b"C", b"SELECT 1\0")
        + message(b"Z", b"I")
    )


class Login(bytes):
    """The messages after the server has proved that it knows the password."""


def login(version):
    told = {b"server_version": version, b"client_encoding": b"UTF8"}
    settings = b"".join(message(b"S", key + b"\0" + value + b"\0") for key, value in told.items())
    return Login(settings + message(b"Z", b"I"))


@contextlib.contextmanager
def stranger(listener, first, then=b""):
    """Answer a login with `first`, and every later message with `then`, or with nothing."""

    def talk(connection):
        answer = first
        with connection, contextlib.suppress(OSError, Refused):
            connection.settimeout(PATIENCE_SECONDS)
            while data := connection.recv(8192):
                if isinstance(answer, Login) and data not in ENCRYPTION:
                    prove(connection, PASSWORD)
                connection.sendall(ENCRYPTION.get(data) or answer)
                if data not in ENCRYPTION:
                    if not then:
                        return
                    if then is SILENCE:
                        answer = b""
                        continue
                    answer = then
                    # A client that waits for the rest of an invalid answer does not wait long.
                    connection.settimeout(0.05)

    def serve():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=talk, args=listener.accept()[:1], daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with listener:
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def tcp():
    return socket.create_server(("127.0.0.1", 0))


def backend(address):
    return BackendLogin(
        user="postgres",
        password=pydantic.SecretStr(PASSWORD),
        database="postgres",
        endpoints=(Endpoint(host=address[0], port=address[1]),),
    )


def tried(
    first, then=b"", act=lambda database: database.server(), statement_seconds=PATIENCE_SECONDS
):
    """Return the value that a call ends in with such a server, and the sentence of a refusal."""

    def talk():
        with PsycopgDatabases("model/pgb", statement_seconds).open(backend(address)) as database:
            return act(database)

    with stranger(tcp(), first, then) as address:
        return outcome(talk, DatabaseUnreachable, DatabaseRefused)


BYTES = st.binary(max_size=200)
ANSWERS = (
    BYTES
    | TEXT.map(error)
    | st.tuples(st.sampled_from("RSZEKTDN").map(str.encode), BYTES).map(
        lambda pair: message(*pair)
    )
)


@given(ANSWERS)
@example(error("\x1b[2J" * 1000 + f"{PASSWORD}\r\n"))
@example(b"E" + struct.pack("!i", 2**31 - 1))
@example(b"H" * 100_000)
def test_a_login_with_an_invalid_answer_is_refused(answer):
    _, refusal = tried(answer)
    assert refusal.startswith("PostgreSQL at 127.0.0.1:")


ACTS = (
    lambda database: database.server(),
    lambda database: database.has_connection_from("10.0.0.1"),
    lambda database: database.users(),
    lambda database: database.provision(AUTH, "pgbouncer"),
    lambda database: database.grant(Grant(relation_id=1, username="u", database="shop")),
    lambda database: database.revoke("u"),
)
QUERIES = ANSWERS | st.lists(BYTES, max_size=8).map(lambda values: row(*values))


@given(st.sampled_from((b"16.4", b"18.0")), QUERIES, st.sampled_from(ACTS), times=0.5)
@example(b"16.4", row(b"\xff"), ACTS[2])
@example(b"16.4", row(b"a" * 5000), ACTS[0])
@example(b"16.4", row(), ACTS[3])
@example(b"16.4", row(b"\xff", b"t"), ACTS[4])
def test_an_invalid_answer_to_a_query_is_a_short_error(version, answer, act):
    found, _ = tried(login(version), answer, act)
    assert not isinstance(found, str) or len(found) <= 200


@pytest.mark.parametrize("act", ACTS)
def test_a_server_that_falls_silent_is_given_up(act):
    begin = time.monotonic()
    _, refusal = tried(login(b"16.4"), SILENCE, act, statement_seconds=0.1)
    assert refusal == "the connection to PostgreSQL broke off: every hook connects again"
    assert time.monotonic() - begin < PATIENCE_SECONDS / 2


@pytest.mark.parametrize("version", [b"", b"abc", b"9.6", b"9" * 5000, b"\xff"])
def test_a_server_of_an_unknown_version_is_refused(version):
    _, refusal = tried(login(version), row(b"x"))
    assert refusal == "PostgreSQL is older than version 14: relate to version 14 or later"


# ---- pings -----------------------------------------------------------------------------------
@given(BYTES)
@example(b"S" * 1_000_000)
def test_only_an_answer_of_postgresql_counts_as_an_answer(answer):
    with tcp() as listener:
        done = threading.Event()

        def serve():
            with listener.accept()[0] as connection, contextlib.suppress(OSError):
                connection.recv(8)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                done.wait(5)

        threading.Thread(target=serve, daemon=True).start()
        assert ping.answers([listener.getsockname()]) is (answer[:1] in (b"S", b"N", b"E"))
        done.set()


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "x" * 300, "a\0b", "\ud800", "", "[::1", "%"])
@pytest.mark.parametrize("port", [0, 5432, 65536, 10**400, -1])
def test_an_invalid_address_does_not_answer(host, port):
    assert not ping.answers([(host, port), ("127.0.0.1", -port)])


# ---- consoles --------------------------------------------------------------------------------
COLUMNS = (
    "key", "value", "name", "database", "current_connections", "max_connections", "paused", "user",
    "cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_used", "sv_tested", "maxwait",
    "maxwait_us", "pool_mode",
)  # fmt: skip
VALUES = st.none() | st.integers() | st.floats() | st.sampled_from((10**400, True)) | ANY_TEXT
ROWS = st.lists(
    st.one_of(
        st.dictionaries(st.sampled_from(COLUMNS) | TEXT, VALUES),
        st.fixed_dictionaries(dict.fromkeys(COLUMNS, VALUES)),
    ),
    max_size=3,
)
PAUSED = {"database": "", "current_connections": 0, "max_connections": 0, "paused": 1}
(INSTANCE,) = pooler_config(
    plan(1, databases=("shop",)),
    "pgb/0",
    PgBouncerRuntime(version=Version(1, 24)),
    Layout(root="/x"),
    AUTH,
).instances


class Connection:
    """A console that answers every query with `rows`, and reads commands as PgBouncer does."""

    # admin.c: a word, or a text in double quotes in which they are doubled.
    _COMMAND = re.compile(r'(\w+)(?: "((?:[^"]|"")+)")?')

    def __init__(self, rows):
        self.rows, self._commands = rows, []

    @property
    def heard(self):
        """The commands and their arguments; each has to be a command that PgBouncer understands."""
        found = [(command, self._COMMAND.fullmatch(command)) for command in self._commands]
        assert all(match for _, match in found), found
        return [(match[1], (match[2] or "").replace('""', '"')) for _, match in found]

    def execute(self, command):
        if isinstance(command, bytes):
            self._commands.append(command.decode())
            # After a command no pool is above its limit.
            self.rows = []
        return SimpleNamespace(fetchall=lambda: self.rows)


@given(ROWS)
@example([{}])
@example([{"key": "pool_mode", "value": 5}])
@example([dict.fromkeys(COLUMNS)])
@example([dict.fromkeys(COLUMNS) | PAUSED | {"name": ""}])
@example([dict.fromkeys(COLUMNS) | PAUSED | {"name": "\ud800"}])
@example([dict.fromkeys(COLUMNS) | PAUSED | {"name": 'a"; SHUTDOWN; "'}])
def test_rows_of_a_console_are_read_or_raise_console_failed(rows):
    connection = Connection(rows)
    console = PsycopgConsole(connection, WaitingBudget())
    for ask in (
        lambda: first_line_not_applied(INSTANCE, console.settings(), console.aliases()),
        lambda: most_connections(console.databases()),
        console.pools,
        lambda: console.drain_surplus(0, reconnect=True),
        console.resume,
    ):
        outcome(ask, ConsoleFailed)
    # Outside of `outcome`, and of the code that may translate errors.
    assert {name for name, _ in connection.heard} <= {"RECONNECT", "RESUME"}


OVER = {"database": "shop", "current_connections": 9, "max_connections": 1, "paused": 0}
ALIASES = LINES | st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: "\ufffd" not in text and text != "pgbouncer"
)


@given(ALIASES, times=0.3)
@example('a"; SHUTDOWN; "')
@example("a'b\\")
def test_names_that_a_client_chooses_are_quoted_in_commands(alias):
    connection = Connection([{"name": alias, **OVER}])
    PsycopgConsole(connection, WaitingBudget()).drain_surplus(5, reconnect=True)
    assert connection.heard == [("RECONNECT", alias)]


def at_a_socket(first, then=b""):
    """Return the names that another program shows at the socket of a process."""
    with tempfile.TemporaryDirectory() as folder:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(pathlib.Path(folder, ".s.PGSQL.6432")))
        listener.listen()
        with (
            stranger(listener, first, then),
            PsycopgConsoles(lambda index: folder).open(0, 6432, AUTH) as console,
        ):
            return console.aliases()


@given(ANSWERS, times=0.5)
@example(error("\x1b[2J" * 1000 + "\r\n"))
def test_another_program_at_the_socket_of_a_process_is_no_console(answer):
    _, refusal = outcome(lambda: at_a_socket(answer), ConsoleFailed)
    assert refusal


def test_an_undecodable_name_does_not_hide_other_names():
    answer = row(b"\xff\xfe").replace(b"c\0", b"name\0")
    length = struct.pack("!i", 4 + 2 + len(b"name\0") + 18)
    answer = answer[:1] + length + answer[5:]
    assert at_a_socket(login(b"1.24.1"), answer) == {"\ufffd\ufffd"}


def test_an_undecodable_name_makes_a_command_address_all_pools():
    connection = Connection([{"name": "a\ufffd", **OVER}])
    PsycopgConsole(connection, WaitingBudget()).drain_surplus(5, reconnect=True)
    assert connection.heard == [("RECONNECT", "")]


# ---- texts -----------------------------------------------------------------------------------
@given(ANY_TEXT | st.lists(TEXT).map("\n".join))
@example("\n" * 10**6)
@example("\u202e" * 10**6)
def test_every_text_becomes_a_single_printable_line(text):
    assert a_sentence(one_line(text))
    assert a_sentence(last_line(text))


@pytest.mark.parametrize(
    "text", [*HUGE, "1." * 10**6, "1.1.1.1 " * 10**5], ids=range(len(HUGE) + 2)
)
def test_a_version_is_found_or_none(text):
    found = version_in(text)
    assert found is None or max(found) < 10**5
