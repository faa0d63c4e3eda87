"""The next change of a unit: its whole configuration, what waits, and which process restarts."""

import pydantic
import pytest
from configurations import LAYOUT, NOW
from plans import plan
from samples import AUTH, but

from domain.applied import AppliedProcess, AppliedState, Step
from domain.backend import BackendRelation
from domain.capabilities import PgBouncerRuntime
from domain.certificate_logins import CertificateLogin, TrustedLogin
from domain.change import change_to, next_change, plan_of_unit
from domain.client_tls import ClientTls
from domain.container import Container
from domain.facts import Facts
from domain.instances import pooler_config
from domain.operations import Pause
from domain.plan import Serving
from domain.process import Process
from domain.settings import Settings
from domain.telemetry import TelemetryFacts
from domain.tls import ServedPair, UnitCertificates

PROGRAM = PgBouncerRuntime(version=NOW, files=3000, cpus=2)


def pem(letters):
    return f"-----BEGIN CERTIFICATE-----\n{letters}\n-----END CERTIFICATE-----"


LEAF, ROOT, MORE, OF_ANN = map(pem, ("bGVhZg==", "cm9vdA==", "bW9yZQ==", "YW5u"))
PAIR = ServedPair(key=pydantic.SecretStr("key"), chain=(LEAF,), authorities=(ROOT,))


def shared(limit=10, **changes):
    """Return the plan of a single unit, which may carry out the second restart."""
    made = plan(units=1, limit=limit, databases=("shop",), restarts=3)
    (member,) = made.members
    return but(made, **({"members": (but(member, restarts=2),)} | changes))


def process(index, **what):
    known = {"port": 6432, "restart": "r", "reload": "l", "limit": 5, "restarts": 2}
    return AppliedProcess(index=index, **(known | what))


def record(*processes, **what):
    known = {"program": PROGRAM, "users": "u", "serving": Serving(port=6432), "server": "a"}
    return AppliedState(instances=processes, **(known | what))


def facts(decided, before=None, container=(), **changes):
    running = frozenset(each.index for each in before.instances) if before else frozenset()
    known = {
        "unit": "pgb/0",
        "address": "10.0.0.0",
        "leader": True,
        "settings": Settings(),
        "layout": LAYOUT,
        "plan": decided,
        "auth": AUTH,
        "backend": BackendRelation(related=True, present=True),
        "container": Container(**{"applied": before, "running": running} | dict(container)),
    }
    return Facts(**known | changes)


def restarts(change):
    return {instance.index: instance.restarts for instance in change.config.instances}


BOTH = tuple(Process(index=index, port=6432, limit=5) for index in (0, 1))


def test_the_first_change_is_the_whole_plan():
    decided = shared()
    found = next_change(facts(decided), decided, PROGRAM)
    assert found.config == pooler_config(
        decided, "pgb/0", PROGRAM, LAYOUT, AUTH, BOTH, restarts={}
    )
    assert found.steps == (Step(action="start", index=0), Step(action="start", index=1))
    assert (found.before, found.complete, found.needed) == (None, True, True)


def test_a_change_has_what_the_unit_has_for_tls_and_for_exporters():
    ann = CertificateLogin(username="relation_id_1", name="of-ann", certificate=OF_ANN)
    decided = shared(certificate_logins=(ann,))
    trusted = (TrustedLogin(username="relation_id_1", name="of-ann"),)
    before = record(process(0), process(1), trusted=trusted)
    found = next_change(
        facts(
            decided, before, now=77.0, received_authorities=(MORE,),
            certificates=UnitCertificates(related=True, kept=PAIR),
            telemetry=TelemetryFacts(metrics=True),
        ),
        decided,
        PROGRAM,
    )  # fmt: skip
    assert found.config == pooler_config(
        decided, "pgb/0", PROGRAM, LAYOUT, AUTH, BOTH, ClientTls(PAIR, (MORE,), trusted, 77.0),
        exported=True, restarts={0: 2, 1: 2},
    )  # fmt: skip
    assert [login.since for login in found.config.trusted] == [77.0]
    assert [(step.action, step.index) for step in found.steps] == [("restart", 0), ("restart", 1)]
    assert dict(found.config.instances[0].settings)["log_connections"] == "0"
    plain = next_change(facts(shared(), received_authorities=(MORE,)), shared(), PROGRAM)
    assert plain.config.client_files == ()


def test_authorities_of_the_operator_are_trusted_beside_those_of_the_pair():
    certificates = UnitCertificates(related=True, kept=PAIR)
    known = facts(shared(), received_authorities=(MORE,), certificates=certificates)
    *_, authorities = next_change(known, shared(), PROGRAM).config.client_files
    assert authorities.text.get_secret_value() == f"{ROOT}\n{MORE}\n"


@pytest.mark.parametrize(
    ("decided", "peers_plan", "before", "limits", "complete"),
    [
        (shared(10), shared(4), None, [(0, 4)], False),
        (shared(10), shared(0), None, [(0, 5), (1, 5)], True),
        (shared(10), None, record(process(0, limit=8)), [(0, 5), (1, 2)], False),
        (shared(10), None, record(process(0, limit=10)), [(0, 5)], False),
        (
            shared(10),
            None,
            record(process(0), ending=(process(2, limit=4),)),
            [(0, 5), (1, 1)],
            False,
        ),
    ],
)
def test_a_change_gives_processes_the_connections_that_are_free(
    decided, peers_plan, before, limits, complete
):
    container = {"ending": frozenset({2})}
    found = next_change(facts(decided, before, container, peers_plan=peers_plan), decided, PROGRAM)
    assert [(each.index, each.limit) for each in found.config.instances] == limits
    assert found.complete == complete


def test_a_process_that_still_ends_is_not_started():
    before = record(process(0), ending=(process(1), process(9)))
    container = {"ending": frozenset({1})}
    found = next_change(facts(shared(), before, container), shared(), PROGRAM)
    assert [each.index for each in found.config.instances] == [0]
    assert not found.complete
    assert found.before == but(before, ending=(process(1),))


@pytest.mark.parametrize(("port", "started"), [(6432, []), (9127, [0, 1])])
def test_a_process_waits_for_the_port_that_an_exporter_has(port, started):
    decided = shared(settings=Settings(max_db_connections=10, listen_port=9127))
    before = record(process(0, port=port), process(1, port=port))
    known = facts(decided, before, {"exporting": frozenset({0, 1})})
    found = next_change(known, decided, PROGRAM)
    assert [each.index for each in found.config.instances] == started
    assert found.complete == bool(started)


def test_the_port_of_an_exporter_that_is_gone_is_free():
    decided = shared(settings=Settings(max_db_connections=10, listen_port=9127))
    known = facts(decided, None, {"exporting": frozenset({1})})
    assert next_change(known, decided, PROGRAM).complete
    taken = facts(decided, None, {"exporting": frozenset({0})})
    assert next_change(taken, decided, PROGRAM).config.instances == ()


@pytest.mark.parametrize(
    ("had", "container", "changes", "expected", "complete"),
    [
        ((1, 1), {}, {}, (2, 1), False),
        ((2, 1), {}, {}, (2, 2), True),
        ((2, 2), {}, {}, (2, 2), True),
        ((3, 3), {}, {}, (3, 3), True),
        ((3, 1), {}, {}, (3, 2), True),
        ((1, 1), {"restarting": frozenset({1})}, {}, (1, 1), False),
        ((2, 1), {"restarting": frozenset({0})}, {}, (2, 1), False),
        ((1, 1), {}, {"paused": (Pause(),)}, (1, 1), False),
        # A process that does not run is started with the number of the plan.
        ((1, 1), {"running": frozenset({1})}, {}, (2, 1), False),
        ((1, 2), {"running": frozenset({1})}, {}, (2, 2), True),
    ],
)
def test_processes_restart_in_turn_while_all_run(had, container, changes, expected, complete):
    decided = shared(**changes)
    before = record(*(process(index, restarts=number) for index, number in enumerate(had)))
    found = next_change(facts(decided, before, container), decided, PROGRAM)
    assert restarts(found) == dict(enumerate(expected))
    assert found.complete == complete


def test_a_process_that_a_unit_has_not_had_has_the_last_restart():
    before = record(process(0, restarts=1))
    found = next_change(facts(shared(), before), shared(), PROGRAM)
    assert restarts(found) == {0: 2, 1: 2}
    assert found.complete


@pytest.mark.parametrize(
    ("backend", "leaving", "kept"),
    [
        (BackendRelation(related=True, present=True), False, True),
        (BackendRelation(related=True), False, False),
        (BackendRelation(present=True), False, False),
        (BackendRelation(), True, True),
    ],
)
def test_without_postgresql_only_a_unit_that_leaves_keeps_databases(backend, leaving, kept):
    decided = shared()
    known = facts(decided, backend=backend, leaving=leaving)
    expected = decided if kept else but(decided, upstream=None, databases=())
    assert plan_of_unit(known, decided) == expected
    assert next_change(known, decided, PROGRAM).config.serving.databases == (
        ("shop",) if kept else ()
    )


def test_a_change_says_which_processes_restart_and_where_pools_lead():
    decided = shared()
    upstream = but(decided.upstream, server_id="a")
    config = pooler_config(but(decided, upstream=upstream), "pgb/0", PROGRAM, LAYOUT, AUTH)
    first = change_to(config, PROGRAM)
    assert (first.before, first.restarted, first.to_other_server) == (None, frozenset(), False)
    same = change_to(config, PROGRAM, first.after, frozenset({0, 1}))
    assert (same.steps, same.needed, same.in_transition.users) == ((), False, "")
    other = but(decided, upstream=but(upstream, server_id="b"))
    before = but(first.after, instances=(first.after.instances[0], process(1, held=9), process(2)))
    later = change_to(
        pooler_config(other, "pgb/0", PROGRAM, LAYOUT, AUTH), PROGRAM, before, frozenset({0, 1})
    )
    assert [(step.action, step.index) for step in later.steps] == [("restart", 1)]
    assert (later.restarted, later.to_other_server, later.needed) == (frozenset({1}), True, True)
    assert [each.index for each in later.in_transition.instances] == [0, 1, 2]
    assert later.in_transition.server == "a"
    assert [each.held for each in later.after.instances] == [0, 9]
