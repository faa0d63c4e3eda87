"""Whatever stands in the state on disk or on the command line, `pooler` does it or says why not."""

import json
import os
import pathlib
import tempfile
from unittest import mock

import pydantic
import pytest
from hostile.inputs import ANY_TEXT, HUGE, NAMES, TEXT, a_sentence, damaged, outcome
from hostile.test_databags import LEDGER, LISTS, PLAN, SERVING
from hypothesis import example
from hypothesis import strategies as st
from profiles import given
from samples import AUTH

from adapters.local.model import ClientRecord, Model, UnitRecord
from domain.backend import BackendLogin, BackendRelation
from domain.endpoints import Endpoint
from domain.settings import ACCEPTS
from domain.status import assess
from domain.users import Offer
from pooler.address import given_credentials
from pooler.arguments import UsageError
from pooler.cli import main
from pooler.commandline.parser import parser
from pooler.platform import LocalPlatform
from pooler.store import ServerRecord, State, Store, Unreadable

PASSWORD = pydantic.SecretStr("the-password")
LIVED = State(
    pgbouncer="/usr/bin/pgbouncer",
    server=ServerRecord(programs="/usr/bin", port=5432, password=PASSWORD),
    model=Model(
        options={"listen_port": 7000},
        units={
            "pgbouncer/0": UnitRecord(address="127.0.0.2", serving=SERVING),
            "pgbouncer/1": UnitRecord(address="127.0.0.3"),
        },
        leader="pgbouncer/0",
        plan=PLAN,
        ledger=LEDGER,
        auth=AUTH,
        clients={
            1: ClientRecord(
                application="demo",
                database="demo",
                told=Offer(database="demo", endpoints="127.0.0.2:7000"),
                password=PASSWORD,
            )
        },
        relations=1,
        backend=BackendRelation(
            related=True,
            credentials=BackendLogin(
                user="u",
                password=PASSWORD,
                database="d",
                endpoints=(Endpoint(host="127.0.0.1", port=5432),),
            ),
        ),
    ),
)


def kept(state):
    """A state as it lies on the disk."""
    with tempfile.TemporaryDirectory() as home:
        Store(pathlib.Path(home)).save(state)
        return json.loads(pathlib.Path(home, "state.json").read_text())


@given(damaged(kept(LIVED)).map(lambda text: text.encode(errors="surrogatepass")) | st.binary())
@example(json.dumps(kept(LIVED)).replace("pgbouncer/1", "pgbouncer").encode())
@example(json.dumps(kept(LIVED)).replace("pgbouncer/1", "pgbouncer/\u00b2").encode())
@example(json.dumps(kept(LIVED)).replace('"leader": "pgbouncer/0"', '"leader": "x/9"').encode())
@example(json.dumps(kept(LIVED)).replace("127.0.0.3", "a\\nb").encode())
def test_a_state_is_of_use_or_the_way_out_is_told(text):
    with tempfile.TemporaryDirectory() as home:
        pathlib.Path(home, "state.json").write_bytes(text)
        store = Store(pathlib.Path(home))
        state, refusal = outcome(store.load, Unreadable)
        if refusal:
            assert refusal.endswith(f"move {home} away to start with no units")
            return
        platform = LocalPlatform(store, state, None)
        for unit in platform.leader_first():
            assert all(a_sentence(one.text or "active") for one in assess(platform.read(unit)))
        store.save(state)
        assert kept(store.load()) == kept(state)


# ---- the command line ------------------------------------------------------------------------
WORDS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"])
) | st.sampled_from(
    (
        "\udcff",
        "a\nb",
        "\x1b[2J",
        "",
        "--",
        "-x",
        "=",
        "x=\udcff",
        "\udcff=1",
        "9" * 5000,
        "٣",
        "1e999",
    )
)
SETTINGS = st.lists(
    st.tuples(st.sampled_from(list(ACCEPTS)) | WORDS, st.integers().map(str) | WORDS).map("=".join)
    | WORDS,
    max_size=3,
)
VERBS = st.one_of(
    st.tuples(st.just("config")).flatmap(lambda verb: SETTINGS.map(lambda rest: [*verb, *rest])),
    st.lists(WORDS, min_size=1, max_size=3).map(lambda rest: ["relate", *rest]),
    st.tuples(st.just("relate"), NAMES, st.just("--database"), WORDS).map(list),
    st.tuples(st.just("relate"), NAMES, st.just("--roles"), WORDS).map(list),
    st.tuples(st.sampled_from(("credentials", "unrelate", "restart", "logs")), WORDS).map(list),
    st.tuples(st.just("top"), st.just("--once"), st.just("--every"), WORDS).map(list),
    # These would look for programs, or run them.
    st.lists(WORDS, max_size=3).filter(lambda words: not {"up", "scale"}.intersection(words[:1])),
)


def ran(home, *arguments):
    """The exit code of a command in this place."""
    with mock.patch.dict(os.environ, {"POOLER_HOME": str(home)}):
        try:
            return main(arguments)
        except SystemExit as end:
            return end.code


@pytest.fixture
def home(tmp_path):
    """A place where something is up that has no units."""
    Store(tmp_path).save(State())
    return tmp_path


@given(VERBS)
@example(["relate", "shop", "--database", "\udcff"])
@example(["relate", "shop", "--roles", "\udcff"])
@example(["config", "\udcff=1"])
@example(["config", "listen_port=" + "9" * 5000])
@example(["config", "overrides=" + HUGE[4]])
@example(["up", "--units", "9" * 5000])
@example(["up", "--read-only-endpoints", HUGE[5]])
@example(["restart", "\udcff"])
def test_no_word_of_an_operator_is_a_traceback(home, arguments):
    before = Store(home).load()
    code = ran(home, *arguments)
    assert code in (0, 1, 2)
    if code == 2:
        # What was not understood has changed nothing.
        assert Store(home).load() == before
    Store(home).save(before)


@pytest.mark.parametrize("seconds", ["inf", "nan", "1e300", "-1"])
def test_top_waits_between_a_tenth_of_a_second_and_an_hour(seconds):
    assert 0.1 <= parser().parse_args(["top", "--every", seconds]).every <= 3600


def test_options_of_another_release_are_named(home, capsys):
    Store(home).save(State(model=Model(options={"colour": "red"})))
    assert ran(home, "config") == 1
    assert "unknown option colour" in capsys.readouterr().err


# ---- the address of a server -----------------------------------------------------------------
PARTS = st.tuples(NAMES | TEXT, LISTS | ANY_TEXT, TEXT)


@given(
    PARTS.map(lambda parts: "postgresql://{}@{}/{}".format(*parts)) | ANY_TEXT,
    TEXT.map(lambda text: {"PGPASSWORD": text}),
)
@example("postgresql://u@h:abc/", {"PGPASSWORD": "p"})
@example("postgresql://u@h:99999999/", {"PGPASSWORD": "p"})
@example("postgresql://u@h:1,2/", {"PGPASSWORD": "p"})
@example("postgresql://u@h1,,h2/", {"PGPASSWORD": "p"})
@example("postgresql://u@%2Ftmp/", {"PGPASSWORD": "p"})
@example("postgresql://\udcff@h", {"PGPASSWORD": "p"})
@example("postgresql://u:%ff@h", {})
@example("postgresql://u%0A@h", {"PGPASSWORD": "the-password"})
@example("postgresql://u@h?sslmode=\n", {"PGPASSWORD": "p"})
@example("postgresql://u@h", {"PGPASSWORD": "p", "PGSSLMODE": "\udcff"})
@example("postgresql://u@h?sslmode=verify-full&sslrootcert=/dev/zero", {"PGPASSWORD": "p"})
@example("postgresql://u@h?sslmode=verify-full&sslrootcert=/", {"PGPASSWORD": "p"})
@example("postgresql://u@h?sslmode=verify-ca", {"PGPASSWORD": "p", "PGSSLROOTCERT": "\udcff\n"})
@example("postgresql://u@h?sslmode=verify-ca", {"PGPASSWORD": "p", "PGSSLROOTCERT": "x" * 5000})
def test_the_address_of_a_server_is_understood_or_refused(uri, libpq):
    found, refusal = outcome(lambda: given_credentials(uri, libpq), UsageError)
    if refusal:
        assert a_sentence(refusal)
    else:
        assert BackendLogin.model_validate(found.model_dump()) == found


def test_a_password_of_the_environment_that_is_no_text_is_refused():
    libpq = {"PGPASSWORD": os.fsdecode(b"the-password\xff")}
    _, refusal = outcome(lambda: given_credentials("postgresql://u@h", libpq), UsageError)
    assert refusal.startswith("the user and the password have to be")
