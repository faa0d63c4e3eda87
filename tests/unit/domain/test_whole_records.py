"""Whole records of the Service, of roles, of chosen passwords and of a refresh."""

import re

import pydantic
import pytest
from in_memory import related
from samples import but

from domain.facts import Peer
from domain.made import Made, OwnDatabase, OwnRole, digest_of, signature, signing_key
from domain.plan import Serving
from domain.problems import REFRESH, Level, Problem
from domain.refresh import (
    RollingUpdate,
    highest_that_stays,
    may_let_next_go,
    obstacles,
    obstacles_in_kubernetes,
    serves,
    waits,
)
from domain.service import Exposed, Service, ServiceState, annotations_in
from domain.system_users import SystemUsers, system_users_in

# ---- the Service -----------------------------------------------------------------------------
STATE = ServiceState(host="pool-service", node_ports=((6432, 30001),), ingress=("192.0.2.1",))
OWN = Exposed(
    kind="nodeport", applied="before", ingress=("192.0.2.9",), nodes=("node-1",), located="units",
    told="nodeport", trusted=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("before", "kind", "state", "host", "changes"),
    [
        (OWN, "loadbalancer", STATE, "", {"ingress": ("192.0.2.1",), "trusted": False}),
        (OWN, "nodeport", STATE, "", {"ingress": (), "trusted": False}),
        # A load balancer without an address keeps the address that clients have.
        (OWN, "loadbalancer", but(STATE, ingress=()), "", {"ingress": ("192.0.2.9",)}),
        (
            OWN,
            "loadbalancer",
            but(STATE, ingress=()),
            "pool",
            {"ingress": (), "host": "pool", "trusted": False, "borrows": True},
        ),
        # With a Service of its own the application may try again.
        (
            but(OWN, host="pool", borrows=True),
            "false",
            STATE,
            "",
            {"ingress": (), "trusted": None, "borrows": True},
        ),
        (
            but(OWN, host="pool", trusted=True),
            "loadbalancer",
            but(STATE, ingress=()),
            "pool",
            {"ingress": ("192.0.2.9",), "host": "pool", "trusted": False, "borrows": True},
        ),
    ],
)
def test_a_service_that_was_applied_is_recorded(before, kind, state, host, changes):
    service = Service(kind=kind, ports=(6432,))
    after = before.applying(service, "now", state, host)
    known = {"kind": kind, "applied": "now", "host": "", "node_ports": ((6432, 30001),)}
    assert after == but(before, **known | changes)


def test_what_is_known_of_a_service_changes_in_a_single_field():
    assert OWN.at_nodes(("node-2",), "now") == but(OWN, nodes=("node-2",), located="now")
    assert OWN.trusting(trusted=True) == but(OWN, trusted=True)
    assert OWN.telling("false") == but(OWN, told="false")
    borrowing = but(OWN, borrows=True)
    assert borrowing.releasing() == OWN
    asked = Service(kind="nodeport", ports=(6432,), node_ports=((6432, 30001),), borrowed=True)
    assert asked.without_node_ports() == but(asked, node_ports=())


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", 'the text is not a JSON object such as {"name": "text"}'),
        ("{", "the text is not JSON"),
        (" " * 65_536 + "{", "the text is longer than 65536 bytes"),
        ('{"a b": ""}', "Kubernetes accepts no annotation with the name 'a b'"),
        ('{"a/b/c": ""}', "Kubernetes accepts no annotation with the name 'a/b/c'"),
        ('{"good": 1}', "the value of good is not a text"),
        ('{"good": "\\ud800"}', "the value of good has a letter that is not valid"),
    ],
)
def test_annotations_are_refused_in_a_whole_sentence(text, reason):
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        annotations_in(text)


# ---- roles -----------------------------------------------------------------------------------
ROLES = (
    OwnRole(kind="client", name="relation_id_1", oid=11),
    OwnRole(kind="auth", name="pgbouncer_auth", oid=12),
    OwnRole(kind="client", name="relation_id_2", oid=13),
)
DATABASES = (
    OwnDatabase(name="shop", oid=21, application="shop-app"),
    OwnDatabase(name="blog", oid=22, application="blog-app"),
)


def test_what_was_made_in_a_cluster_is_found_there():
    made = Made(cluster="c1", roles=ROLES, databases=DATABASES)
    assert made.here("c1") == made
    assert made.here("c2") == Made(cluster="c2")
    assert made.names("client") == {"relation_id_1", "relation_id_2"}
    assert made.names("group") == set()
    assert made.with_roles(ROLES[:1]) == but(made, roles=ROLES[:1])
    assert made.with_databases(()) == but(made, databases=())
    assert [made.owner_of(oid) for oid in (21, 22, 23)] == ["shop-app", "blog-app", ""]


def test_a_signature_is_that_of_a_single_role():
    texts = {
        signature(key, kind, oid, name)
        for key in (b"key", b"other")
        for kind in ("client", "auth")
        for oid in (11, 12)
        for name in ("a", "b")
    }
    assert len(texts) == 16
    assert {len(text) for text in texts} == {32}


def test_signatures_stay_those_of_the_releases_before():
    key = signing_key("secret", "pool")
    assert signature(key, "client", 11, "relation_id_1") == "8b5b02da5c47f98a44ec7cf666cc2e7d"
    assert digest_of("secret") == "86706d459d2086990b016490ff817642"


# ---- chosen passwords ------------------------------------------------------------------------
def test_passwords_that_an_operator_chose_are_read():
    content = {"stats": "!" * 8, "admin": "~" * 100}
    assert system_users_in(content) == SystemUsers(
        admin=pydantic.SecretStr("~" * 100), stats=pydantic.SecretStr("!" * 8)
    )
    assert system_users_in(content).chosen == ("admin", "stats")
    assert system_users_in({"stats": "!" * 8}).chosen == ("stats",)


PASSWORD = "has no valid password under {}: it takes 8 to 100 ASCII letters, digits and signs, without spaces"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "is empty: give it the key admin or stats, or both"),
        (
            {"admin": "12345678", "zoë" + "x" * 50: "", "zz": ""},
            f"has the key 'zo\\xeb{'x' * 37}': it may have the keys admin and stats",
        ),
        ({"admin": "1234567"}, PASSWORD.format("admin")),
        ({"admin": "12345678", "stats": "x" * 101}, PASSWORD.format("stats")),
        ({"stats": "1234 5678"}, PASSWORD.format("stats")),
        ({"stats": "12345678\n"}, PASSWORD.format("stats")),
    ],
)
def test_a_secret_that_is_not_used_is_refused_in_a_whole_sentence(content, reason):
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        system_users_in(content)


# ---- a refresh -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def calm():
    platform = related(units=1)
    platform.relate("shop-app", "shop")
    platform.settle()
    return platform.leader.read()


def test_a_unit_lets_the_next_unit_go_once(calm):
    record = but(calm.container.applied, lets_next_go=False)
    serving = but(calm, container=but(calm.container, applied=record))
    assert may_let_next_go(serving) is True
    for obstacle in (
        {"container": but(calm.container, applied=None)},
        {"container": but(calm.container, applied=record.letting_next_go())},
        {"container": but(serving.container, running=frozenset())},
        {"leaving": True},
        {"unreadable": ("ledger",)},
        {"plan": but(calm.plan, databases=("blog", "shop"))},
        {"plan": None},
    ):
        assert may_let_next_go(but(serving, **obstacle)) is False


@pytest.mark.parametrize(
    ("databases", "port", "unit", "expected"),
    [
        (("shop", "shop_readonly"), 6432, "pgbouncer/0", True),
        (("shop",), 7000, "pgbouncer/0", False),
        ((), 6432, "pgbouncer/0", False),
        # A unit without connections serves no database.
        ((), 6432, "pgbouncer/5", True),
    ],
)
def test_a_report_shows_whether_a_plan_is_served(calm, databases, port, unit, expected):
    report = Serving(port=port, databases=databases)
    assert serves(unit, report, calm.plan) is expected
    assert serves(unit, None, calm.plan) is False


def test_a_unit_that_cannot_ask_kubernetes_has_a_problem(calm):
    facts = but(calm, configure_command="juju config pool")
    assert waits(facts, "no answer") == Problem(
        topic=REFRESH,
        level=Level.WAITING,
        text="a refresh may wait for this unit: no answer. If it stays, run"
        " `juju run pool/leader resume-upgrade`",
    )


def test_units_that_leave_are_not_the_highest(calm):
    peers = (
        Peer(name="pgbouncer/3"), Peer(name="pgbouncer/12"), Peer(name="pgbouncer/20", leaving=True)
    )  # fmt: skip
    assert highest_that_stays(but(calm, peers=peers)) == 12
    assert highest_that_stays(calm) == 0
    leaving = but(calm, peers=peers[2:])
    assert list(obstacles(leaving)) == ["pgbouncer/20 is being removed"]


def test_every_obstacle_in_kubernetes_is_told():
    update = RollingUpdate(number=1, replicas=3, partition=2, under_way=True, newest=(0, 5))
    assert list(obstacles_in_kubernetes(update)) == [
        "a refresh is under way: 1 of 3 units have the new release",
        "the partition 2 of the StatefulSet, which this charm has not set, holds back units with"
        " lower numbers: set it to 0 by kubectl",
    ]
    assert list(obstacles_in_kubernetes(RollingUpdate(number=0, replicas=3, ready=3))) == []


def test_without_a_pod_of_the_former_release_no_number_is_the_next():
    update = RollingUpdate(number=1, replicas=3, partition=2, newest=(0, 1, 2))
    assert (update.highest_former(), update.next_held(), update.refreshed) == (-1, -1, 3)


def test_a_unit_without_connections_serves_a_plan_by_its_port(calm):
    members = (but(calm.plan.members[0], share=0),)
    idle = but(calm, plan=but(calm.plan, members=members))
    record = but(calm.container.applied, lets_next_go=False)
    assert may_let_next_go(but(idle, container=but(calm.container, applied=record))) is True
