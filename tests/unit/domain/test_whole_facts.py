"""What each change of the facts changes, and what follows from the facts alone."""

import pydantic
import pytest
from configurations import LAYOUT, NOW
from plans import plan
from samples import AUTH, but

from domain.applied import AppliedState
from domain.backend import BackendLogin, BackendRelation
from domain.budget import UnitBudget
from domain.capabilities import PgBouncerRuntime, Version
from domain.certificate_logins import TrustedLogin
from domain.container import Container
from domain.endpoints import endpoints_in
from domain.facts import Client, Facts, LegacyClient, Peer
from domain.ledger import Ledger
from domain.operations import Operations, Pause
from domain.plan import Plan, Serving
from domain.problems import Level, Problem
from domain.reference import Reference
from domain.rotation import Rotation
from domain.settings import Settings
from domain.telemetry import LogTarget, TelemetryFacts
from domain.tls import UnitCertificates
from domain.users import AccessRequest, Grant, Offer, Refusal

LOGIN = BackendLogin(
    user="boss", password=pydantic.SecretStr("pw"), database="own",
    endpoints=endpoints_in("10.1.0.1"),
)  # fmt: skip
PLAN, LATER = plan(databases=("shop",)), plan(databases=("shop", "blog"))
SERVING = Serving(port=7000, databases=("shop",))
CERTIFICATES = UnitCertificates(related=True, authority="vault")
OFFER = Offer(database="shop", endpoints="10.0.0.1:6432")


def asked(number, **changes):
    return AccessRequest(relation_id=number, application="shop-app", database="shop", **changes)


def facts(**changes):
    known = {
        "unit": "pool/3", "address": "10.0.0.3", "leader": True, "settings": Settings(),
        "layout": LAYOUT, "plan": PLAN, "auth": AUTH, "leader_address": "10.0.0.9",
        "backend": BackendRelation(related=True, present=True, requested=True),
    }  # fmt: skip
    return Facts(**known | changes)


SINGLE, RENAMED = Client(request=asked(1)), Client(request=asked(2), published=OFFER)


def second_name(first_username):
    """Return the rotation that gives the client of relation 2 its second name."""
    return Rotation(username=first_username, second=first_username == "relation_id_2")


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (lambda known: known.with_survivors(("pool/3", "pool/4")), {}),
        (lambda known: known.with_survivors(("pool/4",)), {"leaving": True}),
        (lambda known: known.with_survivors(()), {"leaving": True, "last_unit": True}),
        (
            lambda known: known.with_container(Container(reachable=True)),
            {"container": Container(reachable=True)},
        ),
        (lambda known: known.with_auth(AUTH), {}),
        (lambda known: known.with_auth(None), {"auth": None, "auth_unshared": True}),
        (
            lambda known: known.with_backend(LOGIN),
            {
                "backend": BackendRelation(
                    related=True, present=True, requested=True, credentials=LOGIN
                )
            },
        ),
        (lambda known: known.with_reference(Reference()), {"reference": Reference()}),
        (lambda known: known.with_clients((SINGLE,)), {"clients": (SINGLE,)}),
        (
            lambda known: known.with_certificates(CERTIFICATES),
            {"certificates": CERTIFICATES},
        ),
        (
            lambda known: known.recording(Ledger(server="a")),
            {"ledger": Ledger(server="a")},
        ),
        (lambda known: known.naming_leader(), {"leader_address": "10.0.0.3"}),
        (lambda known: known.starting_with(LATER), {"plan": LATER}),
        (lambda known: known.sharing(LATER), {"plan": LATER, "peers_plan": PLAN}),
        (
            lambda known: known.announcing(SERVING, UnitBudget(share=4, held=5)),
            {"serving": SERVING, "budget": UnitBudget(share=4, held=5)},
        ),
        (
            lambda known: known.reporting(Operations(kills=8)),
            {"operations": Operations(kills=8)},
        ),
        (lambda known: known.at(12.5), {"now": 12.5}),
    ],
)
def test_facts_change_in_what_was_done_alone(change, fields):
    assert change(facts()) == but(facts(), **fields)


def test_facts_keep_what_an_earlier_step_of_the_hook_has_changed():
    leaving = facts(leaving=True, auth_unshared=True)
    assert leaving.with_survivors(("pool/3",)) == leaving
    assert leaving.with_auth(AUTH) == leaving
    shared = facts(peers_plan=Plan(settings=Settings(), members=()))
    assert shared.sharing(LATER) == but(shared, plan=LATER)
    settings = Settings(listen_port=7000)
    first = facts(plan=None).sharing(but(PLAN, settings=settings))
    assert first.peers_plan == Plan(settings=settings, members=())


def test_a_unit_notes_where_its_log_lines_go():
    target = LogTarget(name="loki/0", url="http://10.2.0.1:3100")
    seen = TelemetryFacts(metrics=True, labels=(("a", "b"),))
    after = facts(telemetry=seen).forwarding((target,))
    assert after == facts(telemetry=but(seen, forwarded=(target,)))


def test_a_request_for_a_database_of_postgresql_is_noted():
    before = facts(backend=BackendRelation(related=True, problem="p"))
    after = facts(backend=BackendRelation(related=True, problem="p", requested=True))
    assert before.requesting_backend() == after


def test_clients_of_both_kinds_get_the_names_of_their_rotations():
    legacy = (
        LegacyClient(request=asked(1, endpoint="db"), shared=True),
        LegacyClient(request=asked(2, endpoint="db"), shared=True),
    )
    found = facts(clients=(SINGLE, RENAMED), legacy=legacy).naming(second_name)
    assert found == facts(
        clients=(SINGLE, Client(request=asked(2, renamed="relation_id_2__2"), published=OFFER)),
        legacy=(
            legacy[0],
            LegacyClient(request=asked(2, endpoint="db", renamed="relation_id_2__2"), shared=True),
        ),
    )
    assert RENAMED.withdrawing().publishing(OFFER) == RENAMED
    assert RENAMED.withdrawing() == Client(request=asked(2))


@pytest.mark.parametrize(
    ("configure", "command"),
    [
        ("juju config config", "juju run config/leader resume database=shop"),
        ("juju config my config", "juju run my config/leader resume database=shop"),
        ("./pooler config", "./pooler resume shop"),
    ],
)
def test_a_command_has_the_name_of_the_application_whatever_it_is(configure, command):
    known = facts(configure_command=configure)
    assert known.command("resume", "shop") == command
    assert known.command("resume") == command.partition(" resume")[0] + " resume"


# ---- what follows from facts -----------------------------------------------------------------
PROGRAM = PgBouncerRuntime(version=NOW)


def applied(**changes):
    known = {"program": PROGRAM, "instances": (), "users": "u", "serving": SERVING}
    return Container(reachable=True, applied=AppliedState(**known | changes))


PAUSED = but(PLAN, paused=(Pause(),))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, False),
        ({"plan": None}, False),
        ({"plan": PAUSED}, True),
        ({"plan": None, "container": applied(paused=("shop",))}, True),
        ({"container": applied(paused=("shop",))}, True),
        ({"plan": PAUSED, "container": applied()}, True),
        ({"container": applied()}, False),
    ],
)
def test_a_pause_concerns_a_unit_by_its_plan_or_by_its_record(known, expected):
    assert facts(**known).operated is expected


def test_reports_are_those_of_units_that_stay():
    own, other = Operations(kills=1), Operations(kills=2)
    peers = (Peer(name="pool/1", operations=other), Peer(name="pool/2", leaving=True))
    found = facts(operations=own, peers=peers)
    assert found.reports == {"pool/3": own, "pool/1": other}
    assert found.application == "pool"


WITH_AUTH = Reference(auth=AUTH)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"reference": None}, False),
        ({"reference": Reference(shared=False, units=("pool/0",))}, False),
        ({"reference": Reference(units=("pool/0",))}, True),
        ({"reference": Reference()}, False),
        ({"reference": WITH_AUTH}, True),
        ({"reference": WITH_AUTH, "backend": BackendRelation()}, False),
        ({"reference": WITH_AUTH, "ledger": Ledger(provisioned_for="boss")}, False),
        (
            {
                "reference": but(WITH_AUTH, units=("pool/0",)),
                "ledger": Ledger(provisioned_for="boss"),
            },
            True,
        ),
    ],
)
def test_the_charm_before_decides_until_its_roles_are_taken_over(known, expected):
    assert facts(**known).reference_decides is expected


@pytest.mark.parametrize(
    ("container", "awaits", "notes"),
    [
        (Container(), False, False),
        (applied(), False, False),
        (applied(trusted=(TrustedLogin(username="a", name="b"),)), True, True),
        (applied(trusted=(TrustedLogin(username="a", name="b", since=100.0),)), True, False),
        (applied(trusted=(TrustedLogin(username="a", name="b", since=80.0),)), False, False),
    ],
)
def test_a_login_by_certificate_is_noted_and_awaited(container, awaits, notes):
    found = facts(container=container, now=200.0)
    assert (found.awaits_certificate_logins, found.notes_certificates) == (awaits, notes)


@pytest.mark.parametrize(
    ("known", "configured", "follows", "applies"),
    [
        ({"plan": None}, False, False, False),
        ({"plan": None, "container": applied()}, True, True, False),
        ({"container": Container()}, True, True, False),
        ({"container": Container(reachable=True)}, True, True, True),
        ({"container": Container(reachable=True), "leaving": True}, True, False, False),
        ({"container": applied(), "leaving": True}, True, False, True),
        ({"container": applied(), "unreadable": ("secret",)}, True, True, False),
        ({"container": applied(), "unreadable": ("ledger",)}, True, True, True),
    ],
)
def test_a_unit_follows_a_plan_that_it_can_configure(known, configured, follows, applies):
    found = facts(**known)
    assert (found.configured, found.follows) == (configured, follows)
    assert found.applicable_plan == (PLAN if applies else None)


def problem(topic, level):
    return Ledger(problems=(Problem(topic=topic, level=level, text="x"),))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, False),
        ({"ledger": problem("a", Level.ACTIVE)}, False),
        ({"ledger": problem("a", Level.WAITING)}, True),
        ({"unreadable": ("plan",)}, True),
        ({"container": Container(unresponsive=frozenset({1}))}, True),
    ],
)
def test_a_problem_may_end_without_an_event(known, expected):
    assert facts(**known).has_problems is expected


def grant(number, *roles, request_id="", username=""):
    return Grant(
        relation_id=number,
        request_id=request_id,
        username=username or f"relation_id_{number}",
        database="shop",
        roles=roles,
    )


def test_a_client_with_a_role_that_makes_databases_roams():
    assert facts(ledger=Ledger(grants=(grant(1), grant(2, "charmed_dml", "createdb")))).roaming
    assert not facts(ledger=Ledger(grants=(grant(1, "charmed_dml", "createrole"),))).roaming


REFUSED = (Refusal(relation_id=4, application="a", reason="r"),)


def test_a_client_that_is_gone_loses_its_grant():
    grants = tuple(grant(number) for number in (1, 2, 3, 4, 5))
    found = facts(
        clients=(SINGLE,),
        refusals=REFUSED,
        relations_without_request=frozenset({3}),
        ledger=Ledger(grants=grants),
    )
    assert found.grants_to_keep == (grants[0], grants[2], grants[3])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("relation_id_3", True),
        ("relation_id_3_a1", True),
        ("relation_id_4", True),
        ("relation_id_34", False),
        ("relation_id_5", False),
    ],
)
def test_a_relation_with_a_refused_or_missing_request_is_unclear(name, expected):
    found = facts(refusals=REFUSED, relations_without_request=frozenset({3}))
    assert found.is_unclear(name) is expected


def test_only_offers_to_clients_with_a_user_in_postgresql_count():
    other = but(OFFER, endpoints="10.0.0.2:6432")
    clients = (SINGLE, RENAMED, Client(request=asked(3), published=other))
    found = facts(clients=clients, ledger=Ledger(grants=(grant(1), grant(3))))
    assert found.published_offers == (other,)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, True),
        ({"plan": None}, False),
        ({"plan": PLAN.without_upstream()}, False),
        ({"auth": None}, False),
        ({"backend": BackendRelation(related=True)}, False),
        ({"backend": BackendRelation(present=True)}, False),
        ({"ledger": problem("database", Level.WAITING)}, False),
        ({"ledger": problem("service", Level.WAITING)}, True),
    ],
)
def test_postgresql_is_ready_when_each_condition_holds(known, expected):
    assert facts(**known).backend_ready is expected


@pytest.mark.parametrize(
    ("version", "expected"), [(Version(1, 20, 9), False), (Version(1, 21), True), (None, True)]
)
def test_a_pgbouncer_of_an_unknown_version_counts_as_supported(version, expected):
    program = PgBouncerRuntime(version=version) if version else None
    assert facts(container=Container(program=program)).supported is expected
