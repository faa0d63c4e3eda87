"""What intents write to Kubernetes, exporters and authorities, in whole."""

import pydantic
import pytest
from plans import plan
from samples import AUTH, but
from told_ports import LOGIN, Port

from app.errors import (
    CertificatesFailed,
    ExportersFailed,
    RolloutFailed,
    RolloutForbidden,
)
from app.intents.continue_refresh import ContinueRefresh
from app.intents.obtain_certificate import ObtainCertificate
from app.intents.run_exporters import FreePort, RunExporters
from app.outcome import AskAgain, Done
from domain.applied import AppliedProcess, AppliedState, Step
from domain.backend import BackendRelation
from domain.capabilities import PgBouncerRuntime, Version
from domain.certificates import wanted_names
from domain.container import Container
from domain.exporters import AppliedExporters, Exporter, ExporterChange, ExporterProgram
from domain.facts import Facts, Peer
from domain.instances import Layout
from domain.ledger import Ledger
from domain.plan import Serving
from domain.problems import REFRESH, Level, Problem
from domain.refresh import RollingUpdate
from domain.settings import Settings
from domain.telemetry import TelemetryFacts
from domain.tls import ServedPair, UnitCertificates

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
OTHER = "-----BEGIN CERTIFICATE-----\nBBBB\n-----END CERTIFICATE-----"
RECORD = AppliedState(
    program=PgBouncerRuntime(version=Version(1, 25)),
    instances=(
        AppliedProcess(index=0, port=6432, restart="a", reload="b"),
        AppliedProcess(index=2, port=6433, restart="c", reload="d"),
    ),
    users="e",
    serving=Serving(port=6432, databases=("shop",)),
)
PLAN = but(plan(), databases=("shop",))
FACTS = Facts(
    unit="pgb/1", address="10.0.0.1", leader=True, settings=Settings(), auth=AUTH, plan=PLAN,
    layout=Layout(root="/root"), now=1_000.0, serving=RECORD.serving,
    container=Container(reachable=True, running=frozenset({0, 2}), applied=RECORD),
    backend=BackendRelation(related=True, present=True, credentials=LOGIN),
    ledger=Ledger(provisioned_for="operator", capacity=7), peers=(Peer(name="pgb/0"),),
)  # fmt: skip


PROGRAM = ExporterProgram(path="/bin/exporter", version=Version(0, 12))
EXPORTERS = (
    Exporter(index=0, port=9127, process_port=6432),
    Exporter(index=2, port=9129, process_port=6433),
)
ALL_RUN = AppliedExporters(program=PROGRAM, exporters=EXPORTERS)
STARTS = (Step(action="start", index=0), Step(action="start", index=2))
STOPS = (Step(action="stop", index=0), Step(action="stop", index=2))


def exporting(before, running=(), metrics=True, **how):
    container = but(FACTS.container, exporters=before, exporting=frozenset(running), **how)
    return but(FACTS, container=container, telemetry=TelemetryFacts(metrics=metrics))


@pytest.mark.parametrize(
    ("facts", "asked", "after", "steps"),
    [
        (exporting(None), True, ALL_RUN, STARTS),
        (exporting(AppliedExporters(program=PROGRAM)), False, ALL_RUN, STARTS),
        (exporting(ALL_RUN, (0, 2)), False, ALL_RUN, ()),
        (exporting(ALL_RUN, (0,)), False, ALL_RUN, STARTS[1:]),
        (exporting(ALL_RUN, (0, 2), metrics=False), False, but(ALL_RUN, exporters=()), STOPS),
        (exporting(None, (2,), metrics=False), False, AppliedExporters(), STOPS[1:]),
        (exporting(ALL_RUN, (), metrics=False), None, None, None),
        (exporting(None, (), applied=None), None, None, None),
        (exporting(None, (0,), reachable=False), None, None, None),
    ],
)
def test_exporters_follow_the_processes_and_prometheus(facts, asked, after, steps):
    exporters = Port(program=PROGRAM)
    outcome = RunExporters(exporters)(facts)
    if after is None:
        assert (outcome, exporters.told) == (Done(facts), [])
        return
    change = ExporterChange(facts.container.exporters, after, steps)
    left = {exporter.index for exporter in after.exporters}
    container = but(facts.container, exporters=after, exporting=frozenset(left))
    assert outcome == Done(facts.with_container(container))
    told = [("program",)] if asked else []
    assert exporters.told == told + ([("apply", change)] if steps else [])


@pytest.mark.parametrize("fails", ["program", "apply"])
def test_exporters_that_do_not_change_are_a_problem(fails):
    text = "exporters of metrics did not change: the disk is full"
    found = (Problem(topic="exporters", level=Level.ACTIVE, text=text),)
    facts = exporting(None)
    error = ExportersFailed("the disk is full")
    assert RunExporters(Port(**{"program": PROGRAM, fails: error}))(facts) == Done(facts, found)
    facts = but(exporting(ALL_RUN, (0, 2)), plan=plan_at(9129))
    if fails == "apply":
        assert FreePort(Port(apply=error))(facts) == Done(facts, found)


def plan_at(port):
    return but(PLAN, settings=Settings(listen_port=port))


@pytest.mark.parametrize(
    ("facts", "port", "stops"),
    [
        (exporting(ALL_RUN, (0, 2)), 9129, 2),
        (exporting(ALL_RUN, (0, 2)), 9128, None),
        (exporting(ALL_RUN, (0,)), 9129, None),
        (exporting(ALL_RUN, ()), 9127, None),
        (exporting(ALL_RUN, (0, 2)), None, None),
    ],
)
def test_an_exporter_frees_the_port_of_the_plan(facts, port, stops):
    facts = but(facts, plan=plan_at(port) if port else None)
    exporters = Port()
    outcome = FreePort(exporters)(facts)
    if stops is None:
        assert (outcome, exporters.told) == (Done(facts), [])
        return
    after = but(ALL_RUN, exporters=EXPORTERS[:1])
    change = ExporterChange(ALL_RUN, after, (Step(action="stop", index=2),), waits=True)
    container = but(facts.container, exporters=after, exporting=frozenset({0}))
    assert outcome == Done(facts.with_container(container))
    assert exporters.told == [("apply", change)]


HOLDS = RollingUpdate(number=1, replicas=2, partition=1, owned=True, under_way=True, newest=(1,))
LEFT = but(HOLDS, partition=9, floor=4, under_way=False)


def rollout(update=None, error=None):
    """Return a rollout in this state, and the list of the partitions that are set."""
    partitions = []

    def adjust(decide):
        if error:
            raise error
        partitions.append(decide(update))
        return update

    return Port(adjust=adjust), partitions


def letting(facts):
    return facts.with_container(facts.container.remembering(but(RECORD, lets_next_go=True)))


LET = letting(FACTS)


@pytest.mark.parametrize(
    ("facts", "looks", "update", "partitions", "after"),
    [
        (FACTS, False, HOLDS, [0], LET),
        (FACTS, True, HOLDS, [0], LET),
        (FACTS, False, but(HOLDS, owned=False), [None], LET),
        (LET, False, HOLDS, [], LET),
        (LET, True, HOLDS, [None], LET),
        (LET, True, LEFT, [1], LET),
        (but(LET, leader=False), True, LEFT, [], but(LET, leader=False)),
        (but(FACTS, leaving=True), True, HOLDS, [], but(FACTS, leaving=True)),
    ],
)
def test_a_unit_that_serves_lets_the_next_unit_go_once(facts, looks, update, partitions, after):
    (port, found), pooler = rollout(update), Port()
    assert ContinueRefresh(port, pooler, looks)(facts) == Done(after)
    assert found == partitions
    told = [("remember", after.container.applied)] if after != facts else []
    assert pooler.told == told


@pytest.mark.parametrize("facts", [FACTS, LET])
def test_a_refresh_that_kubernetes_does_not_answer_is_a_problem(facts):
    text = (
        "a refresh may wait for this unit: 500. If it stays, run"
        " `juju run pgbouncer-k8s/leader resume-upgrade`"
    )
    found = Problem(topic=REFRESH, level=Level.WAITING, text=text)
    pooler, reason = Port(), "waiting for Kubernetes to continue a refresh"
    port, _ = rollout(error=RolloutFailed("500"))
    assert ContinueRefresh(port, pooler, looks=True)(facts) == AskAgain(facts, reason, (found,))
    port, _ = rollout(error=RolloutForbidden("403"))
    assert pooler.told == []
    assert ContinueRefresh(port, pooler, looks=True)(facts) == Done(LET)


def pair(key, authority=CERTIFICATE):
    return ServedPair(key=pydantic.SecretStr(key), chain=(CERTIFICATE,), authorities=(authority,))


KEPT, ISSUED, FOREIGN = pair("kept"), pair("issued"), pair("foreign", OTHER)
TOLD = but(PLAN, tls=True, client_authorities=(CERTIFICATE,))
NAMES = wanted_names(FACTS)
SERVED = UnitCertificates(related=True, kept=KEPT, requested=NAMES)


@pytest.mark.parametrize(
    ("known", "changes", "told", "after", "waits"),
    [
        (SERVED, {}, [("receive",)], SERVED, False),
        (SERVED, {"leader": False}, [], SERVED, False),
        (SERVED, {"leaving": True}, [], SERVED, False),
        (but(SERVED, issued=ISSUED), {}, [("receive",), ("keep", ISSUED)],
         but(SERVED, kept=ISSUED).keeping(ISSUED), False),
        (but(SERVED, issued=FOREIGN), {"plan": TOLD}, [("receive",)],
         but(SERVED, issued=FOREIGN), True),
        (but(SERVED, issued=FOREIGN), {"plan": TOLD, "leader": False}, [],
         but(SERVED, issued=FOREIGN), False),
        (but(SERVED, related=False), {"leader": False}, [("discard",)],
         but(SERVED, related=False).keeping(None), False),
        (but(SERVED, related=False), {"plan": TOLD, "leader": False}, [],
         but(SERVED, related=False), False),
        (UnitCertificates(related=True), {}, [("receive",), ("request", NAMES)],
         UnitCertificates(related=True).requesting(NAMES), False),
        (UnitCertificates(), {"leader": False}, [], UnitCertificates(), False),
    ],
)  # fmt: skip
def test_a_pair_is_kept_requested_or_removed(known, changes, told, after, waits):
    facts, port = but(FACTS, certificates=known, **changes), Port()
    facts_after = facts.with_certificates(after)
    reason = "waiting until clients know the new authority"
    end = AskAgain(facts_after, reason) if waits else Done(facts_after)
    assert ObtainCertificate(port)(facts) == end
    assert port.told == told


@pytest.mark.parametrize("fails", ["receive", "keep", "request"])
def test_an_authority_that_fails_is_a_problem(fails):
    known = UnitCertificates(related=True, issued=ISSUED)
    facts = but(FACTS, certificates=known)
    found = Problem(topic="certificates", level=Level.WAITING, text="no answer")
    port = Port(**{fails: CertificatesFailed("no answer")})
    after = facts.with_certificates(known.keeping(ISSUED)) if fails == "request" else facts
    assert ObtainCertificate(port)(facts) == Done(after, (found,))
