"""The stages of a rotation, and what they mean for the clients that a unit sees."""

import pytest
from in_memory import deployed
from samples import but

from domain import rotating
from domain.facts import Client, LegacyClient, Peer
from domain.operations import Operations
from domain.problems import Level, Problem
from domain.rotation import EndedLogin, Rotation, twin
from domain.users import AccessRequest, Grant, Offer, Refusal

FIRST, SECOND = "relation_id_7", "relation_id_7__2"


def rotation(stage="told", **changes):
    return Rotation(**{"username": FIRST, "second": True, "stage": stage} | changes)


@pytest.fixture(scope="module")
def calm():
    return deployed(units=1).leader.read()


def recorded(facts, *rotations, grants=(), **changes):
    ledger = but(facts.ledger, rotations=rotations, grants=grants)
    return but(facts, ledger=ledger, **changes)


def request(number, **changes):
    return AccessRequest(relation_id=number, application="shop-app", database="shop", **changes)


def grant(number, **changes):
    known = {"relation_id": number, "username": f"relation_id_{number}", "database": "shop"}
    return Grant(**known | changes)


# ---- a rotation ------------------------------------------------------------------------------
def test_a_client_has_its_two_names_in_turn():
    now, back = rotation(), rotation(second=False)
    assert (now.current, now.former) == (SECOND, FIRST)
    assert (back.current, back.former) == (FIRST, SECOND)
    assert (twin(FIRST), twin(SECOND)) == (SECOND, FIRST)


def test_the_next_rotation_gives_the_other_name_and_forgets_the_end_before():
    before = rotation("ended", seconds=60, until=30.0, cut=20.0)
    again = Rotation(username=FIRST, second=False, stage="asked", seconds=9)
    assert before.again(9) == again
    assert again.again(0) == Rotation(username=FIRST, second=True, stage="asked", seconds=0)
    assert again.reaching("renamed") == but(again, stage="renamed")
    assert again.telling(70.0) == but(again, stage="told", until=70.0)
    assert again.cutting(80.0) == but(again, cut=80.0)


@pytest.mark.parametrize(
    ("changes", "expired", "overdue"),
    [
        ({"until": 100.0, "seconds": 50}, (99.9, 100.0), (149.9, 150.0)),
        ({"until": 100.0, "seconds": 0}, (None, 0.0), (None, 0.0)),
        ({"until": 100.0, "seconds": 50, "stage": "renamed"}, (1e9, None), (1e9, None)),
        ({"until": 100.0, "seconds": 0, "stage": "ended"}, (1e9, None), (1e9, None)),
    ],
)
def test_a_former_name_expires_and_its_sessions_end_after_that(changes, expired, overdue):
    known = rotation(**changes)
    for asked, (last, first) in ((known.expired, expired), (known.overdue, overdue)):
        assert last is None or asked(last) is False
        assert first is None or asked(first) is True


@pytest.mark.parametrize(
    ("changes", "to_cut", "ended"),
    [
        ({"seconds": 0}, True, ()),
        ({"seconds": 5}, False, ()),
        ({"seconds": 0, "stage": "renamed"}, False, ()),
        ({"seconds": 0, "cut": 9.0}, False, (FIRST, SECOND)),
        ({"seconds": 0, "cut": 9.0, "stage": "ended"}, False, ()),
    ],
)
def test_sessions_of_both_names_end_at_once_after_a_leak(changes, to_cut, ended):
    known = rotation(**changes)
    assert known.to_cut is to_cut
    assert known.ended_logins == tuple(EndedLogin(user=user, at=9.0) for user in ended)


@pytest.mark.parametrize(
    ("stage", "second", "open_", "kept"),
    [
        ("asked", False, True, True),
        ("ended", False, False, False),
        ("ended", True, False, True),
        ("told", True, True, True),
    ],
)
def test_a_record_is_kept_while_a_client_has_its_second_name(stage, second, open_, kept):
    known = rotation(stage, second=second)
    assert (known.open, known.kept) == (open_, kept)


# ---- the clients of a unit -------------------------------------------------------------------
def test_clients_and_their_grants_get_the_names_of_their_rotations(calm):
    grants = (grant(7, roles=("charmed_dml",)), grant(8))
    old = request(9, endpoint="db")
    facts = but(
        calm,
        clients=(Client(request=request(7)), Client(request=request(8))),
        legacy=(LegacyClient(request=old, shared=True),),
    )
    rotations = (rotation("renamed"), Rotation(username="relation_id_9", second=True))
    named = rotating.with_names(recorded(facts, *rotations, grants=grants))
    assert named.clients == (
        Client(request=request(7, renamed=SECOND)),
        Client(request=request(8)),
    )
    assert named.legacy == (
        LegacyClient(request=request(9, endpoint="db", renamed="relation_id_9__2"), shared=True),
    )
    assert named.ledger.grants == (but(grants[0], username=SECOND), grants[1])
    calm_ones = recorded(facts, grants=grants)
    assert rotating.with_names(calm_ones) == calm_ones


OFFER = Offer(database="shop", endpoints="pool:6432")


@pytest.mark.parametrize(
    ("changes", "stays"),
    [
        ({"clients": (Client(request=request(7)),), "grants": (grant(7),)}, True),
        ({"clients": (), "grants": (grant(7),)}, False),
        ({"clients": (Client(request=request(7)),), "grants": ()}, False),
        ({"clients": (Client(request=request(7), published=OFFER),), "grants": ()}, True),
        ({"refusals": (Refusal(relation_id=7, application="shop", reason="no"),)}, True),
        ({"relations_without_request": frozenset({7})}, True),
        ({"relations_without_request": frozenset({70})}, False),
    ],
)
def test_a_rotation_lasts_while_its_client_may_come_back(calm, changes, stays):
    known = rotation(until=100.0, seconds=50)
    facts = recorded(but(calm, clients=()), known, **changes)
    assert rotating.rotations(facts) == ((known,) if stays else ())
    assert rotating.former_users(but(facts, now=149.0)) == ({FIRST} if stays else set())
    assert rotating.former_users(but(facts, now=150.0)) == set()


def test_a_rotation_that_has_ended_leaves_no_former_user(calm):
    facts = recorded(calm, rotation("ended"), relations_without_request=frozenset({7}))
    assert rotating.former_users(facts) == set()


@pytest.mark.parametrize(
    ("known", "renamed", "found", "begun"),
    [
        (rotation("asked"), "", False, True),
        (rotation("asked"), SECOND, True, False),
        (rotation("renamed"), SECOND, True, False),
        (rotation("renamed"), "", False, False),
        (rotation("ended"), SECOND, False, False),
        (rotation("asked", second=False), "", True, False),
    ],
)
def test_a_rotation_counts_once_it_has_named_the_client(calm, known, renamed, found, begun):
    asking = request(7, renamed=renamed)
    facts = recorded(but(calm, clients=(Client(request=asking),)), known)
    assert rotating.rotation_for(facts, asking) == (known if found else None)
    assert rotating.begun_here(facts) == ([asking.username] if begun else [])


CUT = rotation(seconds=0, cut=9.0)


def reporting(*logins):
    return Operations(ended_logins=logins)


@pytest.mark.parametrize(
    ("known", "mine", "expected"),
    [
        (rotation("asked"), (), True),
        (rotation("renamed"), (), True),
        (rotation("ended"), (), False),
        (rotation(until=101.0), (), False),
        (rotation(until=100.0), (), True),
        # The sessions end in the next hook.
        (rotation(seconds=0), (), True),
        (CUT, (), False),
        (CUT, CUT.ended_logins[:1], False),
        (CUT, CUT.ended_logins, True),
        (CUT, (*CUT.ended_logins, EndedLogin(user="other", at=9.0)), True),
    ],
)
def test_a_rotation_goes_on_without_an_event(calm, known, mine, expected):
    facts = recorded(but(calm, now=100.0, operations=reporting(*mine)), known)
    assert rotating.goes_on(facts) is expected


def test_rotations_that_end_at_once_name_what_is_cut(calm):
    other = Rotation(username="relation_id_8", stage="told", seconds=0, cut=5.0)
    facts = recorded(calm, rotation(seconds=0), other)
    assert rotating.ending_at_once(facts) == [FIRST]
    assert rotating.ended_logins(facts) == (
        EndedLogin(user="relation_id_8__2", at=5.0),
        EndedLogin(user="relation_id_8", at=5.0),
    )


# ---- progress --------------------------------------------------------------------------------
WAITING = "{} did not report yet that its clients are disconnected"
NEXT = "the next hook gives it user relation_id_7__2 in place of relation_id_7"


@pytest.mark.parametrize(
    ("known", "now", "expected"),
    [
        (rotation("asked"), 0, NEXT),
        (
            rotation("renamed"),
            0,
            "it gets user relation_id_7__2 as soon as every unit and PostgreSQL let it in",
        ),
        (CUT, 0, WAITING.format("pgbouncer/0, pgbouncer/2")),
        (
            rotation(until=86_400.0),
            86_399,
            "user relation_id_7 can log in until 1970-01-02 00:00:00 UTC",
        ),
        (
            rotation(until=86_400.0),
            86_400,
            "user relation_id_7 is dropped when it has no sessions any more",
        ),
    ],
)
def test_a_rotation_tells_what_it_waits_for(calm, known, now, expected):
    done = reporting(*CUT.ended_logins)
    peers = (
        Peer(name="pgbouncer/2"),
        Peer(name="pgbouncer/1", operations=done),
        Peer(name="pgbouncer/3", leaving=True),
    )
    facts = recorded(but(calm, now=now, peers=peers), known)
    assert rotating.progress(facts, known) == expected


def test_a_rotation_without_sessions_left_is_about_to_drop_the_user(calm):
    facts = recorded(but(calm, operations=reporting(*CUT.ended_logins)), CUT)
    assert rotating.progress(facts, CUT) == (
        "user relation_id_7 is dropped when it has no sessions any more"
    )


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        (f"client:{FIRST}", "a role is locked"),
        (f"client:{SECOND}", "a role is locked"),
        ("client:relation_id_70", NEXT),
        ("database", NEXT),
    ],
)
def test_a_problem_of_the_client_is_what_its_rotation_waits_for(calm, topic, expected):
    known = rotation("asked")
    facts = recorded(calm, known)
    problem = Problem(topic=topic, level=Level.WAITING, text="a role is locked")
    facts = facts.recording(but(facts.ledger, problems=(problem,)))
    assert rotating.progress(facts, known) == expected
