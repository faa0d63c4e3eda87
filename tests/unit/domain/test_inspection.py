"""The texts that an operator is shown of a unit, compared whole."""

import pytest
from in_memory import deployed
from operated import rows, session
from plans import plan
from samples import but

from domain.applied import applied_state
from domain.capabilities import PgBouncerRuntime, Version
from domain.console import DatabaseStats, PoolState, ServerState
from domain.inspection import ProcessView, bundle, drift, sections, table
from domain.instances import Instance, PoolerConfig
from domain.ledger import Ledger
from domain.operations import ALL, Holder, KillOrder, Operations, Pause
from domain.plan import Member, Serving
from domain.problems import Level, Problem
from domain.process import Process
from domain.users import Grant


@pytest.fixture(scope="module")
def facts():
    """Return the facts of a unit without PostgreSQL, at second 1000."""
    return but(deployed(units=1).leader.read(), now=1_000.9)


def view(index=0, **shown):
    return ProcessView(process=Process(index=index, port=6432), **shown)


def pool(alias, user, mode="session", *, waiting=0, active=2, servers=2, wait=0.0):
    return PoolState(
        alias=alias, user=user, mode=mode, clients_active=active, clients_waiting=waiting,
        servers_active=servers, servers_idle=3, longest_wait=wait,
    )  # fmt: skip


def process(index, **lines):
    return Instance(index=index, port=6432, limit=17, settings=tuple(lines.items()), pools=())


def configured(*instances):
    return PoolerConfig(instances=instances, users=(), rules=(), serving=Serving(port=6432))


def test_a_table_has_aligned_columns():
    assert table(("unit", "held"), [("pgbouncer/0", 7), ("pgbouncer/11", 123456)]) == (
        "unit          held\npgbouncer/0   7\npgbouncer/11  123456"
    )


def test_a_table_counts_the_rows_that_it_does_not_show():
    numbers = [(number,) for number in range(5)]
    assert table(("n",), numbers[:3], 3) == "n\n0\n1\n2"
    assert table(("n",), numbers, 3) == "n\n0\n1\n2\n… and 2 more"


def test_a_cell_has_no_control_characters_and_at_most_63_letters():
    assert table(("name",), [("a\nb\x1b[2Jc",)]) == "name\na?b?[2Jc"
    _, cell = table(("name",), [("x" * 1_000,)]).splitlines()
    assert cell.endswith("x…")
    assert len(cell) <= 63


def test_operations_without_an_order(facts):
    assert sections(but(facts, plan=plan()), (), None)["operations"] == (
        "paused: nothing\ndisabled: nothing\nrestart 0, reconnect 0, kill-clients 0"
    )


def test_operations_with_orders(facts):
    ordered = plan(
        paused=(Pause(database="shop"), Pause(database="blog")), disabled=("shop",),
        restarts=3, reconnects=4, kills=KillOrder(number=5),
    )  # fmt: skip
    assert sections(but(facts, plan=ordered), (), None)["operations"] == (
        "paused: databases blog, shop\n"
        "disabled: database shop\n"
        "restart 3, reconnect 4, kill-clients 5"
    )


def test_a_unit_that_reported_orders_is_a_row(facts):
    holder = Holder(database="shop", user="relation_id_1", address="10.9.9.9:4711")
    report = Operations(
        paused=(ALL, "shop"), holder=holder, restarts=1, reconnects=2, kills=3, killed=4
    )
    assert rows(sections(but(facts, operations=report), (), None)["units"]) == [
        "unit  paused  waits for  restart  reconnect  kill-clients  killed",
        "pgbouncer/0  all databases, shop  10.9.9.9:4711  1  2  3  4",
    ]


def test_a_unit_that_did_nothing_is_a_row(facts):
    assert rows(sections(but(facts, operations=Operations()), (), None)["units"]) == [
        "unit  paused  waits for  restart  reconnect  kill-clients  killed",
        "pgbouncer/0  -  -  0  0  0  0",
    ]


def test_the_pools_with_most_waiting_clients_come_first(facts):
    views = (
        view(
            1,
            pools=(
                pool("archive", "a"),
                pool("shop", "c", waiting=5, active=1, servers=1, wait=12.34),
            ),
        ),
        view(
            0,
            pools=(
                pool("shop", "a"),
                pool("blog", "c", "session"),
                pool("blog", "b", "transaction"),
                pool("shop", "e", waiting=2, active=3),
                pool("shop", "f", waiting=2, active=9, servers=9),
            ),
        ),
    )
    assert rows(sections(facts, views, None)["pools"]) == [
        "process  database  user  mode  clients active  clients waiting"
        "  servers active  servers idle  longest wait",
        "1  shop  c  session  1  5  1  3  12.3",
        "0  shop  f  session  9  2  9  3  0.0",
        "0  shop  e  session  3  2  2  3  0.0",
        "0  blog  b  transaction  2  0  2  3  0.0",
        "0  blog  c  session  2  0  2  3  0.0",
        "0  shop  a  session  2  0  2  3  0.0",
        "1  archive  a  session  2  0  2  3  0.0",
    ]


def test_clients_are_counted_and_those_idle_longest_are_rows(facts):
    clients = (
        session(7, state="waiting", user="u2", since=1_000, connected=1_000, linked=True),
        session(8, state="active", alias="blog", since=1_200, connected=1_300),
        session(9, state="idle", since=400, connected=100, application="psql"),
        session(6, state="idle", since=400, connected=200),
    )
    views = (view(1, sessions=clients[:3]), view(0, sessions=clients[3:]))
    assert rows(sections(facts, views, None)["clients"]) == [
        "4 clients",
        "database  user  state  clients",
        "shop  relation_id_1  idle  2",
        "blog  relation_id_1  active  1",
        "shop  u2  waiting  1",
        "last request longest ago:",
        "process  id  database  user  address  state  has a server"
        "  seconds since request  seconds since login  application",
        "0  6  shop  relation_id_1  10.9.9.9:1  idle  no  600  800",
        "1  9  shop  relation_id_1  10.9.9.9:1  idle  no  600  900  psql",
        "1  7  shop  u2  10.9.9.9:1  waiting  yes  0  0",
        "1  8  blog  relation_id_1  10.9.9.9:1  active  no  0  0",
    ]


def test_server_connections_of_a_kind_are_counted(facts):
    idle = ServerState(alias="shop", user="u1", state="idle", address="10.1.0.1:5432")
    active = but(idle, state="active")
    views = (view(1, servers=(idle, active, idle)), view(0, servers=(idle,)))
    assert rows(sections(facts, views, None)["servers"]) == [
        "process  database  user  state  address  server connections",
        "0  shop  u1  idle  10.1.0.1:5432  1",
        "1  shop  u1  active  10.1.0.1:5432  1",
        "1  shop  u1  idle  10.1.0.1:5432  2",
    ]


def test_statistics_of_a_database_are_a_row(facts):
    shop = DatabaseStats(
        alias="shop", transactions=1, queries=2, transactions_per_second=3,
        queries_per_second=4, transaction_microseconds=5, wait_microseconds=6,
    )  # fmt: skip
    assert rows(sections(facts, (view(1, stats=(shop,)),), None)["stats"]) == [
        "process  database  transactions  queries  transactions/s  queries/s"
        "  average transaction (us)  average wait (us)",
        "1  shop  1  2  3  4  5  6",
    ]


@pytest.mark.parametrize("name", ["pools", "clients", "servers", "stats"])
def test_each_console_that_does_not_answer_is_named(facts, name):
    views = (view(0, failure="no\nsocket"), view(1), view(2, failure="login failed"))
    assert rows(sections(facts, views, None)[name])[-2:] == [
        "process 0 does not answer: no?socket",
        "process 2 does not answer: login failed",
    ]


def test_without_a_plan_or_a_configuration_there_is_no_difference(facts):
    assert list(drift(but(facts, plan=plan()), (view(0),), None)) == []
    assert list(drift(but(facts, plan=None), (view(0),), configured())) == []


def test_a_read_only_pool_is_paused_with_its_database(facts):
    paused = plan(
        readers="10.1.0.2:5432", databases=("shop",), paused=(Pause(database="shop", since=1),)
    )
    shown = view(0, paused=frozenset({"shop"}))
    config = configured(process(0))
    assert list(drift(but(facts, plan=paused), (shown,), config)) == [
        "process 0: database shop_readonly is to be paused, and is not"
    ]


@pytest.fixture(scope="module")
def whole(facts):
    """Return what a report is made of: facts, and the configuration that they lead to."""
    program = PgBouncerRuntime(version=Version(1, 26, 1))
    config = configured(
        process(0, peer_id="1", pool_mode="session"),
        process(1, peer_id="2", pool_mode="session"),
        process(2, peer_id="1", pool_mode="statement"),
    )
    applied = applied_state(config, program)
    decided = plan(databases=("shop", "blog"))
    member = Member(
        name="pgb/0", address="10.0.0.1", processors=2, share=100, held=120, restarts=3
    )
    grants = (
        Grant(relation_id=1, username="u1", database="shop", roles=("reader", "writer")),
        Grant(relation_id=2, username="u2", database="blog"),
    )
    problems = (
        Problem(topic="a", level=Level.ACTIVE, text="first"),
        Problem(topic="b", level=Level.ACTIVE, text="second"),
    )
    container = but(facts.container, program=program, applied=applied, running=frozenset({1, 2}))
    upstream = but(decided.upstream, version="16.4")
    known = but(
        facts,
        plan=but(decided, members=(member,), upstream=upstream),
        ledger=Ledger(grants=grants, problems=problems),
        container=container,
        settings_problems=("option a", "option b"),
    )
    return known, config


def test_a_report_has_each_section(whole):
    facts, config = whole
    assert list(bundle(facts, (), config)) == [
        "operations", "units", "drift", "pools", "clients", "servers", "stats",
        "status", "versions", "unit", "options", "members", "databases", "grants",
        "problems", "processes", "configuration",
    ]  # fmt: skip


def test_a_report_says_what_the_leader_has_decided(whole):
    facts, config = whole
    found = bundle(facts, (), config)
    assert found["drift"].startswith("process 0 is decided, and does not run\n")
    assert found["status"].startswith("blocked: option a\nblocked: option b\n")
    assert found["versions"] == "PgBouncer 1.26.1, PostgreSQL 16.4"
    assert found["unit"] == "pgbouncer/0 at 10.0.0.1, leads"
    assert found["options"].startswith('{\n "listen_port": 6432,\n "pool_mode": "session",\n')
    assert rows(found["members"]) == [
        "unit  address  processors  share  held  restarts",
        "pgb/0  10.0.0.1  2  100  120  3",
    ]
    assert found["databases"] == "blog, shop"
    assert rows(found["grants"]) == [
        "user  database  roles",
        "u1  shop  reader,writer",
        "u2  blog",
    ]
    assert found["problems"] == "first\nsecond"
    assert rows(found["processes"]) == [
        "process  port  limit  held  runs",
        "0  6432  17  0  False",
        "1  6432  17  0  True",
        "2  6432  17  0  True",
    ]


def test_a_configuration_has_the_lines_in_which_processes_differ(whole):
    facts, config = whole
    assert bundle(facts, (), config)["configuration"] == (
        "process 0:\n"
        "  peer_id = 1\n"
        "  pool_mode = session\n"
        "process 1:\n"
        "  peer_id = 2\n"
        "process 2:\n"
        "  pool_mode = statement"
    )


def test_a_report_before_there_is_a_plan(whole):
    container = but(whole[0].container, program=None, applied=None)
    found = bundle(but(whole[0], plan=None, container=container, leader=False), (), None)
    assert found["versions"] == "PgBouncer unknown, PostgreSQL unknown"
    assert found["unit"] == "pgbouncer/0 at 10.0.0.1, follows"
    assert (found["options"], found["databases"], found["configuration"]) == ("", "", "")
    assert rows(found["members"]) == ["unit  address  processors  share  held  restarts"]
    assert rows(found["processes"]) == ["process  port  limit  held  runs"]


def test_a_report_names_a_hundred_databases_and_counts_the_rest(whole):
    facts, config = whole
    names = tuple(f"db{number:03}" for number in range(102))
    many = but(facts, plan=but(facts.plan, databases=names))
    found = bundle(many, (), config)["databases"]
    assert found == ", ".join(names[:100]) + " and 2 more"


@pytest.mark.parametrize(
    ("secrets", "shown"),
    [((), "azure zebra"), (("", "z", "az"), "…ure …ebra"), (("ze", "zebra"), "azure …")],
)
def test_a_secret_that_has_another_secret_is_hidden_whole(whole, secrets, shown):
    facts, config = whole
    told = Ledger(problems=(Problem(topic="a", level=Level.ACTIVE, text="azure zebra"),))
    assert bundle(but(facts, ledger=told), (), config, secrets)["problems"] == shown
