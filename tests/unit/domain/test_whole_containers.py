"""Containers, exporters, the relation with PostgreSQL and ledgers: what each change changes, whole."""

import pydantic
import pytest
from configurations import LAYOUT, NOW
from samples import but

from domain.applied import AppliedProcess, AppliedState, Step
from domain.backend import BackendLogin, BackendRelation
from domain.capabilities import PgBouncerRuntime
from domain.container import Container
from domain.endpoints import endpoints_in
from domain.exporters import (
    AppliedExporters,
    Exporter,
    ExporterChange,
    ExporterProgram,
    exporter_change,
    exporters_of,
    freeing,
)
from domain.ledger import Ledger
from domain.made import Made
from domain.plan import Serving
from domain.problems import Level, Problem
from domain.rotation import Rotation
from domain.service import Exposed
from domain.users import Grant

PROGRAM = PgBouncerRuntime(version=NOW, files=9, cpus=3)
SERVING = Serving(port=7000, databases=("shop",))


def process(index, **what):
    known = {"port": 6432, "restart": "r", "reload": "l", "limit": 4}
    return AppliedProcess(index=index, **(known | what))


def record(*processes, **what):
    known = {"program": PROGRAM, "users": "u", "serving": SERVING}
    return AppliedState(instances=processes, **(known | what))


def container(**what):
    known = {
        "reachable": True, "running": frozenset({0, 1, 2}), "unresponsive": frozenset({2}),
        "ending": frozenset({8}), "restarting": frozenset({1}),
        "applied": record(process(0), process(1)), "exporting": frozenset({0, 3}),
    }  # fmt: skip
    return Container(**known | what)


# ---- containers ------------------------------------------------------------------------------
def test_a_container_changes_in_what_was_done_alone():
    later = record(process(1), process(4), ending=(process(0), process(7)))
    known = container()
    assert known.with_program(PROGRAM) == container(program=PROGRAM)
    assert known.remembering(later) == container(applied=later)
    processes = {"running": frozenset({5}), "ending": frozenset({6})}
    assert known.with_processes(**processes) == container(**processes, restarting=frozenset())
    restarting = frozenset({5})
    assert known.with_processes(**processes, restarting=restarting) == container(
        **processes, restarting=restarting
    )
    after = {"applied": later, "running": frozenset({1, 4}), "ending": frozenset({0, 7})}
    assert known.applying(later) == container(**after)
    assert known.applying(later, frozenset({4})) == container(
        **after, restarting=frozenset({1, 4})
    )


def test_a_container_knows_which_exporters_run_after_a_change():
    after = AppliedExporters(program=ExporterProgram(path="/x"))
    steps = (
        Step(action="start", index=5),
        Step(action="stop", index=3),
        Step(action="restart", index=6),
    )
    found = container().after_exporters(ExporterChange(None, after, steps))
    assert found == container(exporters=after, exporting=frozenset({0, 5, 6}))
    assert found.exporter_ports == {9127, 9132, 9133}


@pytest.mark.parametrize(
    ("what", "runs"),
    [
        ({}, True),
        ({"running": frozenset({0, 1})}, True),
        ({"running": frozenset({0, 2})}, False),
        ({"applied": None}, False),
        ({"applied": record()}, True),
    ],
)
def test_a_container_serves_when_every_process_of_its_record_runs(what, runs):
    found = container(**what)
    assert (found.runs, found.serving) == (runs, SERVING if runs else None)


def test_a_container_without_a_program_has_no_version():
    assert (container().version, container().cpus) == (None, 0)
    known = container(program=PROGRAM)
    assert (known.version, known.cpus) == (NOW, 3)


# ---- exporters -------------------------------------------------------------------------------
IMAGE = ExporterProgram(path="/usr/bin/pgbouncer_exporter")
FIRST = Exporter(index=0, port=9127, process_port=6432)
SECOND = Exporter(index=1, port=9128, process_port=6433)
THIRD = Exporter(index=2, port=9129, process_port=6434)
BEFORE = AppliedExporters(program=IMAGE, exporters=(FIRST, SECOND))


def step(action, index):
    return Step(action=action, index=index)


def test_exporters_of_a_record_have_ports_that_no_process_has():
    known = record(process(0), process(1, port=9129), process(2))
    assert exporters_of(known) == (FIRST, but(SECOND, process_port=9129))


def test_a_change_of_exporters_has_its_steps_in_their_order():
    wanted = (THIRD, but(SECOND, process_port=7000), FIRST)
    assert exporter_change(BEFORE, IMAGE, wanted, frozenset({1, 0, 7, 5})) == ExporterChange(
        BEFORE,
        AppliedExporters(program=IMAGE, exporters=wanted),
        (step("start", 2), step("restart", 1), step("stop", 5), step("stop", 7)),
    )


@pytest.mark.parametrize("program", [None, ExporterProgram()])
def test_without_a_program_every_exporter_stops(program):
    found = exporter_change(BEFORE, program, (FIRST,), frozenset({0, 1}))
    after = AppliedExporters(program=program)
    assert found == ExporterChange(BEFORE, after, (step("stop", 0), step("stop", 1)))
    still = exporter_change(after, program, (FIRST,), frozenset())
    assert (still, still.needed) == (ExporterChange(after, after, ()), False)


def test_another_program_restarts_every_exporter():
    newer = ExporterProgram(path="/usr/local/bin/pgbouncer_exporter")
    found = exporter_change(BEFORE, newer, (FIRST, SECOND), frozenset({0, 1}))
    assert found.steps == (step("restart", 0), step("restart", 1))
    assert found.needed
    assert BEFORE.in_transition == AppliedExporters(program=IMAGE)


def test_an_exporter_frees_its_port_and_the_others_stay():
    found = freeing(9128, BEFORE, frozenset({0, 1}))
    after = AppliedExporters(program=IMAGE, exporters=(FIRST,))
    assert found == ExporterChange(BEFORE, after, (step("stop", 1),), waits=True)
    empty = AppliedExporters()
    assert freeing(9127, None, frozenset({0})) == ExporterChange(
        empty, empty, (step("stop", 0),), waits=True
    )
    assert freeing(9129, BEFORE, frozenset({0, 1})) is None


def test_an_exporter_logs_in_at_the_socket_and_the_port_of_its_process():
    layout = but(LAYOUT, sockets="/run/pool's", with_pid_files=True)
    assert SECOND.arguments(layout, "10.0.0.7") == (
        "--pgBouncer.connectionString=host='/run/pool\\'s/1' port=6433 user=pgbouncer"
        " dbname=pgbouncer sslmode=disable",
        "--pgBouncer.pid-file=/run/pool's/1/pgbouncer.pid",
        "--web.listen-address=10.0.0.7:9128",
        "--log.level=warn",
    )


# ---- PostgreSQL ------------------------------------------------------------------------------
def pem(letters):
    return f"-----BEGIN CERTIFICATE-----\n{letters}\n-----END CERTIFICATE-----"


ROOT, OTHER_ROOT = pem("cm9vdA=="), pem("b3RoZXI=")
LOGIN = BackendLogin(
    user="boss", password=pydantic.SecretStr("pw"), database="own",
    endpoints=endpoints_in("10.1.0.1"), read_only=endpoints_in("10.1.0.2"), version="15.1",
    tls=True, authorities=(ROOT,), mode="require", authority_file="/a",
)  # fmt: skip
REPLICAS = endpoints_in("10.1.0.3:5433")


@pytest.mark.parametrize(
    ("after", "fields"),
    [
        (LOGIN.with_authority_file("/b"), {"authority_file": "/b"}),
        (
            LOGIN.with_authorities((OTHER_ROOT,), rooted=True),
            {"authorities": (OTHER_ROOT,), "rooted": True},
        ),
        (
            LOGIN.verifying("verify-ca", (OTHER_ROOT,)),
            {"mode": "verify-ca", "authorities": (OTHER_ROOT,)},
        ),
        (LOGIN.with_version("16.2"), {"version": "16.2"}),
        (LOGIN.with_read_only(REPLICAS), {"read_only": REPLICAS}),
    ],
)
def test_a_login_of_postgresql_changes_in_what_was_found_alone(after, fields):
    assert after == but(LOGIN, **fields)


@pytest.mark.parametrize(("related", "present"), [(True, True), (True, False), (False, True)])
def test_a_relation_with_postgresql_changes_in_what_was_done_alone(related, present):
    known = BackendRelation(related=related, present=present, problem="p")
    assert known.attached is (related and present)
    assert known.requesting() == but(known, requested=True)
    assert known.with_credentials(LOGIN) == but(known, credentials=LOGIN)
    assert known.without_servers() == but(known, present=False)


# ---- the ledger ------------------------------------------------------------------------------
GRANT = Grant(relation_id=1, username="relation_id_1", database="shop", roles=("createdb",))


def problem(topic, level=Level.WAITING, text="x"):
    return Problem(topic=topic, level=level, text=text)


SEEN = (problem("service"), problem("verification"), problem("note", Level.ACTIVE))
LEDGER = Ledger(
    provisioned_for="boss", server="a", auth_schema="s", capacity=97, grants=(GRANT,),
    exposed_ports=(6432,), problems=SEEN, made=Made(cluster="1"), roamed=("blog",),
    allowed=("createdb",), left=("a role stays",), exposed=Exposed(told="false"),
    outside=("lb",), verified="v", told_tls="t", told_observers="o",
    rotations=(Rotation(username="relation_id_5", second=True),), rotation_period="monthly",
)  # fmt: skip
RECONCILED = {
    "provisioned_for": "chief", "server": "b", "auth_schema": "z", "capacity": 98,
    "grants": (), "problems": (problem("database"),), "made": Made(cluster="2"),
    "roamed": ("news",), "allowed": (),
}  # fmt: skip


@pytest.mark.parametrize(
    ("after", "fields"),
    [
        (LEDGER.telling("digest"), {"told_tls": "digest"}),
        (LEDGER.telling_observers("digest"), {"told_observers": "digest"}),
        (LEDGER.without("verification"), {"problems": (SEEN[0], SEEN[2])}),
        (
            LEDGER.with_problem(problem("service", text="y")),
            {"problems": (*SEEN[1:], problem("service", text="y"))},
        ),
        (LEDGER.proving("w"), {"verified": "w", "problems": (SEEN[0], SEEN[2])}),
        (LEDGER.making(Made(cluster="2")), {"made": Made(cluster="2")}),
        (LEDGER.asking_to_rotate("yearly"), {"rotation_period": "yearly"}),
        (
            LEDGER.exposing((7000,), Exposed(kind="nodeport")),
            {"exposed_ports": (7000,), "exposed": Exposed(kind="nodeport")},
        ),
        (LEDGER.reached_from(("n1",)), {"outside": ("n1",)}),
        (LEDGER.reconciling(**RECONCILED), {**RECONCILED, "left": (), "rotations": ()}),
        (
            LEDGER.withdrawing(Made(cluster="2"), ("b",)),
            {
                "provisioned_for": "", "auth_schema": "", "made": Made(cluster="2"),
                "left": ("b",), "roamed": (),
            },
        ),
        (LEDGER.granting(()), {"grants": ()}),
    ],
)  # fmt: skip
def test_a_ledger_changes_in_what_the_leader_has_done_alone(after, fields):
    assert after == but(LEDGER, **fields)


def test_a_ledger_without_postgresql_keeps_what_others_have():
    assert LEDGER.without_backend() == Ledger(
        exposed_ports=(6432,), exposed=Exposed(told="false"), outside=("lb",),
        problems=(SEEN[0],), made=Made(cluster="1"), left=("a role stays",), told_observers="o",
    )  # fmt: skip
    assert LEDGER.troubles == SEEN[:2]
    assert (LEDGER.has("note"), LEDGER.has("other")) == (True, False)


def test_a_ledger_keeps_rotations_that_are_needed_in_their_order():
    (known,) = LEDGER.rotations
    asked = Rotation(username="relation_id_3", stage="asked")
    both = LEDGER.rotating(asked)
    assert both == but(LEDGER, rotations=(asked, known))
    ended = asked.reaching("ended")
    assert both.rotating(ended) == LEDGER
    told = asked.telling(9.0)
    assert both.rotating(told).rotations == (told, known)
    assert both.rotation_of("relation_id_5") == known
    assert LEDGER.rotation_of("relation_id_3") == Rotation(username="relation_id_3")
