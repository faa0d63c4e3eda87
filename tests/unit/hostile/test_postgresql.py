"""Whatever listens where PostgreSQL or a console should be, what it says is understood, or is one sentence."""

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
from hostile.inputs import ANY_TEXT, AUTH, HUGE, LINES, TEXT, a_sentence, outcome
from hostile.scram_server import Refused, message, prove
from hypothesis import example
from hypothesis import strategies as st
from plans import plan
from profiles import given

from adapters.connections import ping
from adapters.connections.messages import last_line, one_line
from adapters.connections.waiting import WaitingBudget
from adapters.pgbouncer.console import PsycopgConsole, PsycopgConsoles
from adapters.postgres.databases import PsycopgDatabases
from app.errors import ConsoleFailed, DatabaseRefused, DatabaseUnreachable
from domain.capabilities import PgBouncerRuntime, Version, version_in
from domain.console import first_line_not_applied, held
from domain.facts import BackendLogin
from domain.instances import Layout, pooler_config
from domain.pools import Endpoint
from domain.users import Grant

PASSWORD = AUTH.admin_password.get_secret_value()
SILENCE = b"nothing at all"
PATIENCE = 5.0  # seconds
ENCRYPTION = {struct.pack("!ii", 8, code): b"N" for code in (80877103, 80877104)}


# ---- somebody who speaks as PostgreSQL does --------------------------------------------------
def error(text):
    fields = {"S": "ERROR", "V": "ERROR", "C": "28000", "M": text.replace("\0", "")}
    body = "".join(f"{kind}{said}\0" for kind, said in fields.items())
    return message(b"E", body.encode(errors="surrogatepass") + b"\0")


def row(*values):
    """An answer of one row of texts."""
    columns = b"".join(b"c\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0) for _ in values)
    fields = b"".join(struct.pack("!i", len(value)) + value for value in values)
    return (
        message(b"T", struct.pack("!h", len(values)) + columns)
        + message(b"D", struct.pack("!h", len(values)) + fields)
        + message(b"C", b"SELECT 1\0")
        + message(b"Z", b"I")
    )


class Login(bytes):
    """What follows once the server has proved that it knows the password."""


def login(version):
    told = {b"server_version": version, b"client_encoding": b"UTF8"}
    settings = b"".join(message(b"S", key + b"\0" + value + b"\0") for key, value in told.items())
    return Login(settings + message(b"Z", b"I"))


@contextlib.contextmanager
def stranger(listener, first, then=b""):
    """It answers a login with this, and whatever comes after that with something else, or nothing."""

    def talk(connection):
        answer = first
        with connection, contextlib.suppress(OSError, Refused):
            connection.settimeout(PATIENCE)
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
                    # Whoever waits for the rest of what is no answer shall not wait long.
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


def tried(first, then=b"", act=lambda database: database.server(), patience=PATIENCE):
    """What a conversation with such a server ends in: a value, or the sentence of a refusal."""

    def talk():
        with PsycopgDatabases("model/pgb", patience).open(backend(address)) as database:
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
def test_nobody_logs_in_where_a_login_is_not_answered_as_it_should_be(answer):
    _, refusal = tried(answer)
    assert refusal.startswith("PostgreSQL at 127.0.0.1:")


ACTS = (
    lambda database: database.server(),
    lambda database: database.knows("10.0.0.1"),
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
def test_an_answer_that_makes_no_sense_is_refused_in_one_sentence(version, answer, act):
    found, _ = tried(login(version), answer, act)
    assert not isinstance(found, str) or len(found) <= 200


@pytest.mark.parametrize("act", ACTS)
def test_a_server_that_says_nothing_more_is_left(act):
    begin = time.monotonic()
    _, refusal = tried(login(b"16.4"), SILENCE, act, patience=0.1)
    assert refusal == "the connection to PostgreSQL broke off"
    assert time.monotonic() - begin < PATIENCE / 2


@pytest.mark.parametrize("version", [b"", b"abc", b"9.6", b"9" * 5000, b"\xff"])
def test_a_server_of_no_known_version_is_refused(version):
    _, refusal = tried(login(version), row(b"x"))
    assert refusal == "PostgreSQL is older than version 14"


# ---- a knock at the door ---------------------------------------------------------------------
@given(BYTES)
@example(b"S" * 1_000_000)
def test_one_byte_tells_whoever_sends_it(answer):
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
def test_nobody_answers_at_an_address_that_cannot_be(host, port):
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
    """A console that answers everything with the same rows, and hears commands as PgBouncer does."""

    # admin.c: a word, or a text in double quotes in which they are doubled.
    _COMMAND = re.compile(r'(\w+)(?: "((?:[^"]|"")+)")?')

    def __init__(self, rows):
        self.rows, self.heard = rows, []

    def execute(self, command):
        if isinstance(command, bytes):
            found = self._COMMAND.fullmatch(command.decode())
            assert found, command
            self.heard.append((found[1], (found[2] or "").replace('""', '"')))
            self.rows = []  # What had too many connections has none.
        return SimpleNamespace(fetchall=lambda: self.rows)


@given(ROWS)
@example([{}])
@example([{"key": "pool_mode", "value": 5}])
@example([dict.fromkeys(COLUMNS)])
@example([dict.fromkeys(COLUMNS) | PAUSED | {"name": ""}])
@example([dict.fromkeys(COLUMNS) | PAUSED | {"name": "\ud800"}])
@example([dict.fromkeys(COLUMNS) | PAUSED | {"name": 'a"; SHUTDOWN; "'}])
def test_what_a_console_shows_is_understood_or_it_failed(rows):
    console = PsycopgConsole(Connection(rows), WaitingBudget())
    for ask in (
        lambda: first_line_not_applied(INSTANCE, console.settings(), console.aliases()),
        lambda: held(console.databases()),
        console.pools,
        lambda: console.shed(0, reconnect=True),
        console.resume,
    ):
        outcome(ask, ConsoleFailed)


OVER = {"database": "shop", "current_connections": 9, "max_connections": 1, "paused": 0}
ALIASES = LINES | st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
    lambda text: "\ufffd" not in text and text != "pgbouncer"
)


@given(ALIASES, times=0.3)
@example('a"; SHUTDOWN; "')
@example("a'b\\")
def test_every_name_that_a_client_can_choose_is_told_exactly(alias):
    connection = Connection([{"name": alias, **OVER}])
    PsycopgConsole(connection, WaitingBudget()).shed(5, reconnect=True)
    PsycopgConsole(connection, WaitingBudget()).kill(alias)
    assert connection.heard == [("RECONNECT", alias), ("KILL", alias)]


def at_a_socket(first, then=b""):
    """What a process says of its settings that has a stranger's socket."""
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
def test_a_stranger_at_the_socket_of_a_process_is_no_console(answer):
    _, refusal = outcome(lambda: at_a_socket(answer), ConsoleFailed)
    assert refusal


def test_a_name_that_is_no_text_does_not_hide_the_others():
    answer = row(b"\xff\xfe").replace(b"c\0", b"name\0")
    length = struct.pack("!i", 4 + 2 + len(b"name\0") + 18)
    answer = answer[:1] + length + answer[5:]
    assert at_a_socket(login(b"1.24.1"), answer) == {"\ufffd\ufffd"}


def test_of_a_name_that_cannot_be_told_all_are_told():
    connection = Connection([{"name": "a\ufffd", **OVER}])
    PsycopgConsole(connection, WaitingBudget()).shed(5, reconnect=True)
    assert connection.heard == [("RECONNECT", "")]


# ---- what was said ---------------------------------------------------------------------------
@given(ANY_TEXT | st.lists(TEXT).map("\n".join))
@example("\n" * 10**6)
@example("\u202e" * 10**6)
def test_whatever_was_said_is_one_line_that_shows(text):
    assert a_sentence(one_line(text))
    assert a_sentence(last_line(text))


@pytest.mark.parametrize(
    "text", [*HUGE, "1." * 10**6, "1.1.1.1 " * 10**5], ids=range(len(HUGE) + 2)
)
def test_a_version_is_found_or_not(text):
    found = version_in(text)
    assert found is None or max(found) < 10**5
