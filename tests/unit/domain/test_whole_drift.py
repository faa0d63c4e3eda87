"""Each difference between what is decided and what consoles show, and what a report of a unit limits."""

import pytest
from in_memory import deployed
from operated import rows, session
from plans import plan
from samples import but

from domain.console import PooledDatabase
from domain.facts import Peer
from domain.inspection import MOST_ROWS, ProcessView, bundle, drift, sections, table
from domain.instances import Instance, PoolerConfig
from domain.ledger import Ledger
from domain.operations import Operations, Pause
from domain.plan import Serving
from domain.pools import Pool
from domain.process import Process
from domain.rotation import Rotation


@pytest.fixture(scope="module")
def facts():
    """Return the facts of a unit without PostgreSQL, at second 1000."""
    return but(deployed(units=1).leader.read(), now=1_000.9)


def pooled(*aliases):
    return tuple(
        PooledDatabase(alias=alias, database=alias, connections=1, most=2) for alias in aliases
    )


def decided(index, *aliases, port=6432):
    pools = tuple(Pool(alias=alias, hosts=("h",), port=5432, database=alias) for alias in aliases)
    settings = (("pool_mode", "session"), ("query_timeout", "7"))
    return Instance(index=index, port=port, settings=settings, pools=pools)


def view(index, **shown):
    return ProcessView(process=Process(index=index, port=6432), **shown)


def test_every_difference_of_a_process_is_named(facts):
    config = PoolerConfig(
        instances=(
            decided(1, "shop", "blog", port=7000), decided(4), decided(3), decided(2, "shop"),
        ),
        users=(), rules=(), serving=Serving(port=6432),
    )  # fmt: skip
    paused = plan(
        databases=("shop", "blog", "news"),
        paused=(Pause(database="shop"), Pause(database="blog"), Pause(database="news")),
    )
    views = (
        view(6),
        view(5),
        view(2, failure="no socket", paused=frozenset({"x"})),
        view(
            1,
            databases=pooled("shop", "old", "bar"),
            settings=(("pool_mode", "statement"), ("query_timeout", "7.0")),
            paused=frozenset({"shop", "old", "bar"}),
        ),
    )
    assert list(drift(but(facts, plan=paused), views, config)) == [
        "process 3 is decided, and does not run",
        "process 4 is decided, and does not run",
        "process 5 runs, and is not decided",
        "process 6 runs, and is not decided",
        "process 1: blog = … in [databases]",
        "process 1: pool_mode = session",
        "process 1: database bar is pooled, and is not decided",
        "process 1: database old is pooled, and is not decided",
        "process 1: port 7000 is decided, 6432 is open",
        "process 1: database blog is to be paused, and is not",
        "process 1: database news is to be paused, and is not",
        "process 1: database bar is paused, and is not to be",
        "process 1: database old is paused, and is not to be",
        "process 2: its console does not answer: no socket",
    ]


def test_without_a_difference_there_is_none_to_name(facts):
    config = PoolerConfig(instances=(decided(0),), users=(), rules=(), serving=Serving(port=6432))
    shown = view(0, settings=(("pool_mode", "session"), ("query_timeout", "7")))
    found = sections(but(facts, plan=plan()), (shown,), config)
    assert found["drift"] == "none"


def test_open_rotations_and_all_units_are_shown(facts):
    rotations = (
        Rotation(username="relation_id_1", stage="asked"),
        Rotation(username="relation_id_2", second=True),
    )
    known = but(
        facts,
        plan=plan(),
        ledger=Ledger(rotations=rotations),
        operations=Operations(restarts=1),
        peers=(Peer(name="pgbouncer/1", operations=Operations(killed=4)),),
    )
    found = sections(known, (), None)
    lines = found["operations"].splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "paused",
        "disabled",
        "rotation of relation_id_1",
        "restart 0, reconnect 0, kill-clients 0",
    ]
    assert rows(found["units"])[1:] == [
        "pgbouncer/0  -  -  1  0  0  0",
        "pgbouncer/1  -  -  0  0  0  4",
    ]
    before = but(facts, plan=None)
    assert sections(before, (), None)["operations"] == "there is no configuration yet"


def test_a_section_has_at_most_forty_rows_and_twenty_clients(facts):
    numbers = [(number,) for number in range(MOST_ROWS + 1)]
    assert table(("n",), numbers[:MOST_ROWS]).count("\n") == 40
    assert table(("n",), numbers).splitlines()[-2:] == ["39", "… and 1 more"]
    clients = tuple(session(number, since=number) for number in range(21))
    found = rows(sections(facts, (view(0, sessions=clients),), None)["clients"])
    assert found[0] == "21 clients"
    assert [row.split()[1] for row in found[5:]] == [str(number) for number in range(20)]


def test_a_cell_has_63_letters_at_most():
    assert table(("n",), [("x" * 63,)]) == f"n\n{'x' * 63}"
    assert table(("n",), [("x" * 64,)]) == f"n\n{'x' * 62}…"


def test_a_section_of_a_report_has_twelve_thousand_letters_at_most(facts):
    config = PoolerConfig(
        instances=(but(decided(0), settings=(("a", "x" * 13_000),)),),
        users=(), rules=(), serving=Serving(port=6432),
    )  # fmt: skip
    found = bundle(facts, (), config)["configuration"]
    assert found == ("process 0:\n  a = " + "x" * 13_000)[:12_000]
