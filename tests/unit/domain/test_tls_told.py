"""What clients are told of TLS, and what a unit does before they know."""

import pydantic
import pytest
from in_memory import related
from samples import but

from domain import tls_told
from domain.capabilities import PgBouncerRuntime, Version
from domain.facts import Peer
from domain.plan import Plan, Serving
from domain.settings import Settings
from domain.tls import ServedPair


def pem(letters):
    return f"-----BEGIN CERTIFICATE-----\n{letters}\n-----END CERTIFICATE-----"


OLD, NEW, NEXT, OTHER = pem("b2xk"), pem("bmV3"), pem("bmV4dA=="), pem("b3RoZXI=")


def pair(*authorities):
    return ServedPair(
        key=pydantic.SecretStr("key"), chain=(pem("bGVhZg=="),), authorities=authorities
    )


@pytest.fixture(scope="module")
def calm():
    return related(units=1).leader.read()


def having(facts, kept=None, issued=None, *, related_=True):
    """Return the facts of a unit with these pairs."""
    known = but(facts.certificates, related=related_, kept=kept, issued=issued)
    return but(facts, certificates=known)


def peer(number, serving, *, leaving=False):
    return Peer(name=f"pgbouncer/{number}", serving=serving, leaving=leaving)


def plan(mode="prefer", **changes):
    return Plan(settings=Settings(client_tls_sslmode=mode), members=(), **changes)


PLAIN = Serving(port=6432)
BY_OLD, BY_NEW = PLAIN.encrypted((OLD,)), PLAIN.encrypted((NEW, OLD))


@pytest.mark.parametrize(
    ("mode", "related_", "told", "mine", "others", "expected"),
    [
        ("prefer", True, False, BY_OLD, (peer(1, BY_NEW),), True),
        ("prefer", False, False, BY_OLD, (peer(1, BY_NEW),), False),
        ("prefer", False, True, BY_OLD, (peer(1, BY_NEW),), False),
        ("require", False, False, BY_OLD, (peer(1, BY_NEW),), True),
        ("disable", True, True, BY_OLD, (peer(1, BY_NEW),), False),
        # A unit that has not reported keeps clients from being told, and ends nothing.
        ("prefer", True, False, BY_OLD, (peer(1, None),), False),
        ("prefer", True, True, BY_OLD, (peer(1, None),), True),
        ("prefer", True, False, None, (peer(1, BY_NEW),), False),
        ("prefer", True, True, None, (peer(1, BY_NEW),), True),
        # A unit that serves no TLS ends it, unless the unit leaves.
        ("prefer", True, False, BY_OLD, (peer(1, PLAIN),), False),
        ("prefer", True, True, BY_OLD, (peer(1, PLAIN),), False),
        ("prefer", True, True, PLAIN, (peer(1, BY_NEW),), False),
        ("prefer", True, False, BY_OLD, (peer(1, PLAIN, leaving=True),), True),
        ("prefer", True, True, BY_OLD, (peer(1, PLAIN, leaving=True), peer(2, BY_NEW)), True),
    ],
)
def test_clients_are_told_of_tls_that_every_unit_serves(
    calm, mode, related_, told, mine, others, expected
):
    facts = having(but(calm, serving=mine, peers=others), related_=related_)
    settings = Settings(client_tls_sslmode=mode)
    assert tls_told.tells_tls(facts, settings, plan(tls=told)) is expected


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [
        (BY_NEW, (), (OLD, NEW)),
        (BY_NEW, (peer(1, PLAIN.encrypted((NEXT, NEW))),), (OLD, NEW, NEXT)),
        (PLAIN.encrypted((NEW,)), (), (NEW,)),
        # An authority that only a unit without a report may have stays.
        (None, (peer(1, PLAIN.encrypted((NEW,))),), (OTHER, OLD, NEW)),
        (PLAIN.encrypted((NEW,)), (peer(1, None),), (OTHER, OLD, NEW)),
        # A unit that leaves adds nothing and keeps nothing.
        (PLAIN.encrypted((NEW,)), (peer(1, None, leaving=True),), (NEW,)),
        (PLAIN.encrypted((NEW,)), (peer(1, BY_OLD, leaving=True),), (NEW,)),
    ],
)
def test_clients_know_the_authorities_of_all_units(calm, mine, others, expected):
    facts = but(calm, serving=mine, peers=others)
    assert tls_told.client_authorities(facts, plan(client_authorities=(OTHER, OLD))) == expected


def test_the_digest_of_what_clients_are_told_changes_with_the_authorities():
    assert tls_told.told_tls(None) == ""
    assert tls_told.told_tls(plan(client_authorities=(OLD,))) == ""
    told = tls_told.told_tls(plan(tls=True, client_authorities=(OLD,)))
    assert told == tls_told.told_tls(plan("require", tls=True, client_authorities=(OLD,)))
    assert len({told, "", tls_told.told_tls(plan(tls=True, client_authorities=(NEW,)))}) == 3


WITH, WITHOUT = plan(tls=True, client_authorities=(OLD, NEW)), plan()


@pytest.mark.parametrize(
    ("now", "peers_know", "expected", "ends"),
    [
        (None, None, False, False),
        (WITHOUT, None, False, False),
        (WITHOUT, WITHOUT, False, False),
        (WITH, None, True, False),
        (WITH, WITHOUT, True, False),
        (WITHOUT, WITH, True, True),
        (None, WITH, True, False),
    ],
)
def test_clients_expect_tls_until_they_know_that_it_ends(calm, now, peers_know, expected, ends):
    facts = having(but(calm, plan=now, peers_plan=peers_know))
    assert tls_told.tls_expected(facts) is expected
    assert tls_told.tls_ends(facts) is ends
    assert tls_told.lacks_pair(facts) is expected
    assert tls_told.lacks_pair(having(facts, pair(OLD))) is False


@pytest.mark.parametrize(
    ("now", "peers_know", "kept", "unknown"),
    [
        (WITH, None, pair(OLD, NEW), False),
        (WITH, None, pair(OLD, OTHER), True),
        (WITH, None, None, False),
        (WITHOUT, None, pair(OTHER), False),
        (None, None, pair(OTHER), False),
        (WITHOUT, WITH, pair(OTHER), True),
        (WITH, plan(tls=True, client_authorities=(OLD,)), pair(NEW), True),
        (plan(tls=True, client_authorities=(OLD,)), WITH, pair(NEW), True),
        (WITH, plan(tls=True, client_authorities=(NEW,)), pair(NEW), False),
    ],
)
def test_a_certificate_is_verified_by_every_plan_that_clients_know(
    calm, now, peers_know, kept, unknown
):
    facts = having(but(calm, plan=now, peers_plan=peers_know), kept)
    assert tls_told.cannot_verify(facts) is unknown
    applied = None if unknown or tls_told.lacks_pair(facts) else now
    assert tls_told.plan_to_apply(facts) == applied


@pytest.mark.parametrize(
    ("now", "peers_know", "serves"),
    [
        (None, None, False),
        (plan("disable"), None, False),
        (plan("disable"), WITH, True),
        (None, WITH, True),
        (WITHOUT, None, True),
        (plan("require"), None, True),
    ],
)
def test_a_pair_is_served_unless_tls_is_off_and_clients_know(calm, now, peers_know, serves):
    facts = having(but(calm, plan=now, peers_plan=peers_know), pair(OLD))
    assert tls_told.served_pair(facts) == (pair(OLD) if serves else None)


def test_a_unit_that_serves_announces_the_authorities_of_both_pairs(calm):
    facts = having(calm, pair(OLD), pair(NEW))
    served = facts.container.serving
    assert served is not None
    assert tls_told.announcement(facts) == served.announcing((OLD, NEW))
    assert tls_told.announcement(having(calm)) == served


STOPPED = {"applied": None, "running": frozenset(), "unresponsive": frozenset()}
TOLD = Plan(settings=Settings(listen_port=7000), members=(), tls=True)


@pytest.mark.parametrize(
    ("running", "reachable", "before", "expected"),
    [
        ((), True, BY_OLD, (NEW, NEXT)),
        ((0,), True, BY_OLD, (OLD, NEW, NEXT)),
        ((), False, BY_OLD, (OLD, NEW, NEXT)),
        ((0,), False, None, (NEW, NEXT)),
    ],
)
def test_a_unit_that_waits_for_clients_announces_its_next_authorities(
    calm, running, reachable, before, expected
):
    program = PgBouncerRuntime(version=Version(1, 25), cpus=5)
    facts = having(but(calm, plan=TOLD, serving=before), pair(NEW), pair(NEXT))
    container = but(
        facts.container,
        **STOPPED | {"running": frozenset(running), "reachable": reachable, "program": program},
    )
    facts = but(facts, container=container)
    assert tls_told.announcement(facts) == Serving(
        port=7000, processors=5, tls=True, authorities=expected
    )
    for nothing in (
        {"plan": None},
        {"plan": but(TOLD, tls=False)},
        {"certificates": having(facts).certificates},
    ):
        assert tls_told.announcement(but(facts, **nothing)) is None
