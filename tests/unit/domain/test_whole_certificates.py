"""Whole names and sentences about the certificate of a unit, and when it is requested or removed."""

import datetime

import pydantic
import pytest
from configurations import LAYOUT
from plans import plan
from samples import AUTH, but

from domain import certificates
from domain.backend import BackendRelation
from domain.certificates import AuthorityAnswer, IssuedCertificate
from domain.facts import Facts
from domain.ledger import Ledger
from domain.problems import Level, Sentence
from domain.reference import Reference
from domain.settings import Settings
from domain.tls import CertificateNames, ServedPair, UnitCertificates

NOW = datetime.datetime(2026, 11, 27, 8, 0, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


def pem(letters):
    return f"-----BEGIN CERTIFICATE-----\n{letters}\n-----END CERTIFICATE-----"


def pair(root="cm9vdA=="):
    return ServedPair(
        key=pydantic.SecretStr("key"), chain=(pem("bGVhZg=="),), authorities=(pem(root),)
    )


def facts(*, sans=(), tls=False, unit="pgb/3", outside=(), reference=None, peers=None, **known):
    settings = Settings.model_validate({"tls_extra_sans": " ".join(sans)})
    decided = but(plan(), settings=settings, tls=tls)
    return Facts(
        unit=unit,
        address="10.0.0.3",
        leader=False,
        settings=settings,
        layout=LAYOUT,
        plan=decided,
        peers_plan=None if peers is None else but(decided, tls=peers),
        ledger=Ledger(outside=outside),
        reference=reference,
        backend=BackendRelation(related=True),
        certificates=UnitCertificates(**{"related": True, "authority": "vault"} | known),
    )


@pytest.mark.parametrize(
    ("hosts", "unit", "common"),
    [
        (("c", "d"), "pgb/3", "c"),
        (("", "d"), "pgb/3", "d"),
        (("x" * 64, "d"), "pgb/3", "x" * 64),
        (("x" * 65, "d"), "pgb/3", "d"),
        (("x" * 65,), "pgb/3", "pgb-3"),
        (("x" * 65,), "p" * 70 + "/3", "p" * 62 + "-3"),
        ((), "pgb/3", "10.0.0.3"),
    ],
)
def test_the_common_name_is_the_first_that_fits(hosts, unit, common):
    assert certificates.wanted_names(facts(hosts=hosts, unit=unit)).common == common


@pytest.mark.parametrize("refused", [True, False])
def test_a_certificate_holds_names_from_inside_and_from_outside(refused):
    known = facts(
        hosts=("pool.dev.", "pool"),
        outside=("192.0.2.9", "LB.BOX"),
        sans=("192.0.2.1", "*.shop.example", "2001:DB8::1"),
        addresses_refused=refused,
    )
    addresses = ("192.0.2.1", "192.0.2.9", "2001:db8::1")
    assert certificates.wanted_names(known) == CertificateNames(
        common="pool.dev.",
        hosts=("*.shop.example", "lb.box", "pool", "pool.dev"),
        addresses=() if refused else addresses,
    )
    assert certificates.unverifiable_addresses(known) == (addresses if refused else ())
    texts = [sentence.text for sentence in certificates.certificate_sentences(known)]
    listed = "units at 192.0.2.1, 192.0.2.9, 2001:db8::1: put a host name"
    assert [listed in text for text in texts] == [True] * refused


def test_a_unit_without_a_service_cannot_be_verified_at_its_address():
    known = facts(addresses_refused=True)
    assert certificates.unverifiable_addresses(known) == ("10.0.0.3",)
    assert tuple(certificates.certificate_sentences(known)) == (
        Sentence(
            level=Level.ACTIVE,
            text="certificates: vault signs no IP addresses, so clients cannot verify units at"
            " 10.0.0.3: put a host name that leads there into tls-extra-sans",
        ),
    )


def test_while_the_charm_before_decides_no_certificate_is_requested():
    assert certificates.must_request(facts())
    assert not certificates.must_request(facts(reference=Reference(units=("pgb/0",))))
    assert certificates.must_request(facts(reference=Reference(auth=None)))
    assert not certificates.must_request(facts(reference=Reference(auth=AUTH), due=True))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"kept": pair(), "related": False}, True),
        ({"kept": pair(), "related": False, "tls": True}, False),
        # The leader tells in this hook that TLS ends, and clients know it when the hook has ended.
        ({"kept": pair(), "related": False, "peers": True}, False),
        ({"kept": pair(), "related": False, "tls": True, "peers": False}, True),
    ],
)
def test_a_pair_stays_until_clients_know_that_tls_ended(known, expected):
    assert certificates.may_discard(facts(**known)) is expected


NAMES = CertificateNames(
    common="a", hosts=("b.dev", "a.dev"), addresses=("192.0.2.9", "192.0.2.1")
)


def issued(**changes):
    good = {"pair": pair(), "names": NAMES, "begins": NOW - 9 * DAY, "ends": NOW + DAY}
    return IssuedCertificate(**good | changes)


def test_names_that_are_missing_are_hosts_and_then_addresses_in_order():
    nothing = CertificateNames(common="a")
    missing = ("b.dev", "a.dev", "192.0.2.1", "192.0.2.9")
    assert certificates.missing_names(NAMES, nothing) == missing
    held = issued(names=nothing, rooted=False)
    names = Sentence(
        level=Level.ACTIVE,
        text="certificates: the certificate lacks b.dev, a.dev, 192.0.2.1, 192.0.2.9, so clients"
        " cannot verify units by these names",
    )
    root = Sentence(
        level=Level.ACTIVE,
        text="certificates: vault gave no root, so clients cannot verify its certificates: relate"
        " receive-ca-certs to the application that has the root",
    )
    assert certificates.notes_on(held, NAMES, "vault") == (names, root)
    assert certificates.notes_on(but(held, rooted=True), NAMES, "vault") == (names,)
    assert certificates.notes_on(but(held, names=NAMES), NAMES, "vault") == (root,)


def test_the_first_reason_to_refuse_a_pair_is_given():
    bad = issued(
        fits_key=False, is_authority=True, for_servers=False, signed=False, ends=NOW - DAY,
        begins=NOW + DAY, rooted=False,
    )  # fmt: skip
    kept = issued(ends=NOW + DAY / 2)
    reasons = []
    for correct in (
        {"fits_key": True},
        {"is_authority": False},
        {"for_servers": True},
        {"signed": True},
        {"ends": NOW + 2 * DAY},
        {"begins": NOW, "names": CertificateNames(common="a")},
        {"names": NAMES},
        {"rooted": True},
        {},
    ):
        reasons.append(certificates.reason_to_refuse(bad, NAMES, NOW, kept))
        bad = but(bad, **correct)
    valid = "and the certificate before is still valid"
    assert reasons == [
        "it is for another key",
        "it is the certificate of an authority",
        "it is not for a server",
        "none of the authorities that were given has signed it",
        "it expired on 2026-11-26 08:00 UTC",
        f"it is not valid before 2026-11-28 08:00 UTC, {valid}",
        f"it lacks b.dev, a.dev, 192.0.2.1, 192.0.2.9, {valid}",
        f"it comes without a root, {valid}: relate receive-ca-certs to the application that has the"
        " root",
        "",
    ]


def blocked(text):
    return Sentence(level=Level.BLOCKED, text=f"certificates: {text}")


def test_an_answer_may_have_two_problems():
    answer = AuthorityAnswer(
        authority="vault", code=7, reason="no", unreadable="no JSON", revoked=True
    )
    refusal = blocked("vault refuses the request with error 7: no")
    for reason, said in (
        ("no JSON", answer),
        ("the certificate was revoked", but(answer, unreadable="")),
        ("it expired", but(answer, unreadable="", revoked=False)),
    ):
        expected = (blocked(f"what vault issued is not used: {reason}"), refusal)
        assert certificates.problems_of(said, "it expired", NAMES) == expected
    assert certificates.problems_of(but(answer, code=0, revoked=False), "", NAMES) == (
        blocked("what vault issued is not used: no JSON"),
    )


FIRST = Sentence(level=Level.ACTIVE, text="first")
WAITS = Sentence(
    level=Level.WAITING, text="certificates: waiting until clients know the new authority"
)
AWAITED = Sentence(
    level=Level.WAITING, text="certificates: waiting for vault to issue a certificate"
)
EXPIRED = blocked(
    "the certificate expired on 2026-11-27 08:00 UTC and vault has issued no other: clients that"
    " verify it cannot connect"
)
RENEWAL = Sentence(
    level=Level.ACTIVE,
    text="certificates: waiting for vault to issue another certificate: that of this unit expires on"
    " 2026-11-27 08:00 UTC",
)


@pytest.mark.parametrize(
    ("known", "sentences"),
    [
        ({"related": False, "unanswered": True}, ()),
        ({"ends": NOW, "kept": pair()}, ()),
        ({"ends": NOW, "kept": pair(), "expired": True, "unanswered": True}, (EXPIRED,)),
        ({"kept": pair(), "expired": True}, ()),
        (
            {"kept": pair(), "issued": pair("bmV3"), "tls": True, "unanswered": True, "ends": NOW},
            (WAITS,),
        ),
        ({"kept": pair(), "issued": pair("bmV3"), "unanswered": True, "ends": NOW}, (RENEWAL,)),
        ({"unanswered": True, "ends": NOW}, (AWAITED,)),
        ({}, ()),
    ],
)
def test_the_status_has_a_single_sentence_on_what_a_certificate_waits_for(known, sentences):
    found = facts(hosts=("pool",), problems=(FIRST,), **known)
    assert tuple(certificates.certificate_sentences(found)) == (FIRST, *sentences)
