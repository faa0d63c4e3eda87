"""Which names a certificate holds, when a pair is kept, and what is wrong with it."""

import datetime

import pydantic
import pytest
from in_memory import deployed
from samples import but

from domain import certificates
from domain.certificates import AuthorityAnswer, IssuedCertificate
from domain.plan import Plan
from domain.settings import Settings
from domain.tls import CertificateNames, ServedPair, UnitCertificates

NOW = datetime.datetime(2026, 11, 27, 8, 0, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
HOSTS = ("pool-service.dev.svc.cluster.local", "pool-service")


def pem(letters):
    return f"-----BEGIN CERTIFICATE-----\n{letters}\n-----END CERTIFICATE-----"


OLD, NEW = pem("b2xk"), pem("bmV3")


def pair(root=OLD):
    return ServedPair(key=pydantic.SecretStr("key"), chain=(pem("bGVhZg=="),), authorities=(root,))


def facts(*, tls=False, told=(), sans=(), peers_plan=False, **known):
    """Return the facts of a unit with this plan, and these certificates."""
    settings = Settings.model_validate({"tls_extra_sans": " ".join(sans)})
    plan = Plan(settings=settings, members=(), tls=tls, client_authorities=told)
    known = {"related": True, "hosts": HOSTS, "authority": "vault"} | known
    return but(
        deployed(units=1).leader.read(),
        plan=plan,
        peers_plan=but(plan, client_authorities=()) if peers_plan else None,
        certificates=UnitCertificates(**known),
    )


def texts(facts):
    return [sentence.text for sentence in certificates.certificate_sentences(facts)]


def test_before_there_is_a_plan_no_names_are_known():
    before = but(facts(), plan=None)
    assert certificates.wanted_names(before) is None
    assert not certificates.must_request(before)
    assert certificates.unverifiable_addresses(before) == ()


def test_names_are_those_of_the_cluster_and_of_the_operator():
    wanted = certificates.wanted_names(facts(sans=("*.Example.com", "192.0.2.7", "pool-service")))
    assert wanted == CertificateNames(
        common=HOSTS[0],
        hosts=("*.example.com", "pool-service", HOSTS[0]),
        addresses=("192.0.2.7",),
    )


def test_hosts_that_are_published_outside_are_among_the_names():
    known = facts(sans=("pool.example.com",))
    known = but(known, ledger=known.ledger.reached_from(("192.0.2.9", "lb.example.com")))
    wanted = certificates.wanted_names(known)
    assert wanted.hosts == ("lb.example.com", "pool-service", HOSTS[0], "pool.example.com")
    assert wanted.addresses == ("192.0.2.9",)


def test_a_unit_without_a_service_is_named_by_its_address():
    wanted = certificates.wanted_names(facts(hosts=()))
    assert wanted == CertificateNames(common="10.0.0.1", addresses=("10.0.0.1",))


def test_a_name_that_dns_cannot_hold_is_left_out():
    long = "a" * 64
    wanted = certificates.wanted_names(facts(hosts=(f"{long}-service.dev", "pool-0.dev.")))
    assert (wanted.common, wanted.hosts) == ("pool-0.dev.", ("pool-0.dev",))
    none = certificates.wanted_names(facts(hosts=(f"{long}.dev",)))
    assert (none.common, none.hosts) == ("pgbouncer-0", ())


def test_addresses_that_the_authority_does_not_sign_are_not_requested():
    refused = facts(addresses_refused=True, sans=("192.0.2.7", "pool.example.com"))
    assert certificates.wanted_names(refused).addresses == ()
    assert certificates.unverifiable_addresses(refused) == ("192.0.2.7",)
    assert texts(refused) == [
        "certificates: vault signs no IP addresses, so clients cannot verify units at 192.0.2.7:"
        " put a host name that leads there into tls-extra-sans"
    ]
    assert certificates.unverifiable_addresses(facts(sans=("192.0.2.7",))) == ()


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, True),
        ({"requested": "wanted"}, False),
        ({"requested": "wanted", "due": True}, True),
        ({"requested": "other"}, True),
        ({"related": False}, False),
    ],
)
def test_a_certificate_is_requested_at_first_with_other_names_and_when_due(known, expected):
    names = {
        "wanted": certificates.wanted_names(facts()),
        "other": CertificateNames(common="other"),
    }
    known = known | {key: names[value] for key, value in known.items() if key == "requested"}
    assert certificates.must_request(facts(**known)) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"issued": None}, False),
        ({"kept": None, "tls": True}, True),
        ({}, True),
        ({"tls": True}, False),
        ({"tls": True, "told": (OLD,)}, False),
        ({"tls": True, "told": (OLD, NEW)}, True),
        ({"tls": True, "told": (OLD, NEW), "peers_plan": True}, False),
        ({"tls": True, "expired": True}, True),
    ],
)
def test_a_pair_of_a_new_authority_waits_until_clients_know_it(given, expected):
    known = {"kept": pair(), "issued": pair(NEW)} | given
    assert certificates.may_keep(facts(**known)) == expected


def test_before_there_is_a_plan_any_pair_may_be_kept():
    assert certificates.may_keep(but(facts(kept=pair(), issued=pair(NEW)), plan=None))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"related": False, "kept": pair()}, True),
        ({"related": False, "kept": pair(), "tls": True}, False),
        ({"related": False}, False),
        ({"kept": pair()}, False),
    ],
)
def test_a_pair_goes_when_its_authority_went_and_clients_know_that(given, expected):
    assert certificates.may_discard(facts(**given)) == expected


NAMES = CertificateNames(
    common="a", hosts=("a.dev", "b.dev"), addresses=("192.0.2.1", "192.0.2.2")
)


def issued(**changes):
    good = {"pair": pair(), "names": NAMES, "begins": NOW - 9 * DAY, "ends": NOW + DAY}
    return IssuedCertificate(**good | changes)


def test_a_certificate_is_renewed_when_nine_tenths_of_its_life_are_over():
    assert issued().renewal() == NOW
    assert certificates.shown_time(NOW) == "2026-11-27 08:00 UTC"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"fits_key": False}, "it is for another key"),
        ({"is_authority": True}, "it is the certificate of an authority"),
        ({"for_servers": False}, "it is not for a server"),
        ({"signed": False}, "none of the authorities that were given has signed it"),
        ({"ends": NOW}, "it expired on 2026-11-27 08:00 UTC"),
    ],
)
def test_a_pair_that_clients_would_refuse_is_refused(changes, reason):
    assert certificates.reason_to_refuse(issued(**changes), NAMES, NOW) == reason


def test_a_certificate_without_all_names_replaces_only_one_that_expired():
    held = issued(names=CertificateNames(common="", hosts=("*.dev",), addresses=("192.0.2.1",)))
    valid, expired = issued(ends=NOW + DAY), issued(ends=NOW)
    assert certificates.reason_to_refuse(held, NAMES, NOW) == ""
    assert certificates.reason_to_refuse(held, NAMES, NOW, expired) == ""
    assert certificates.reason_to_refuse(held, NAMES, NOW, valid) == (
        "it lacks 192.0.2.2, and the certificate before is still valid"
    )
    bare = issued(names=CertificateNames(common="", hosts=("b.dev",), addresses=("192.0.2.1",)))
    assert certificates.reason_to_refuse(bare, NAMES, NOW, valid) == (
        "it lacks a.dev, 192.0.2.2, and the certificate before is still valid"
    )


def test_a_certificate_that_is_not_valid_yet_replaces_none_that_is():
    now = issued(begins=NOW, ends=NOW + 9 * DAY)
    assert certificates.reason_to_refuse(now, NAMES, NOW, issued()) == ""
    early = issued(begins=NOW + DAY, ends=NOW + 9 * DAY)
    assert certificates.reason_to_refuse(early, NAMES, NOW) == ""
    assert certificates.reason_to_refuse(early, NAMES, NOW, issued(ends=NOW)) == ""
    assert certificates.reason_to_refuse(early, NAMES, NOW, issued()) == (
        "it is not valid before 2026-11-28 08:00 UTC, and the certificate before is still valid"
    )


def test_a_certificate_without_a_root_replaces_none_that_clients_verify():
    held = issued(rooted=False)
    assert certificates.reason_to_refuse(held, NAMES, NOW) == ""
    for replaced in (issued(ends=NOW), issued(ends=NOW + DAY, rooted=False)):
        assert certificates.reason_to_refuse(held, NAMES, NOW, replaced) == ""
    reason = certificates.reason_to_refuse(held, NAMES, NOW, issued(ends=NOW + DAY))
    assert reason == (
        "it comes without a root, and the certificate before is still valid: relate receive-ca-certs"
        " to the application that has the root"
    )


def test_what_clients_cannot_verify_is_noted():
    held = issued(names=CertificateNames(common="", hosts=("B.dev",)), rooted=False)
    notes = certificates.notes_on(held, NAMES, "vault")
    assert [note.text.partition(", so clients")[0] for note in notes] == [
        "certificates: the certificate lacks a.dev, 192.0.2.1, 192.0.2.2",
        "certificates: vault gave no root",
    ]
    assert certificates.notes_on(issued(), NAMES, "vault") == ()


@pytest.mark.parametrize(
    ("answer", "refused", "expected"),
    [
        ({}, "", []),
        ({}, "it expired", ["what vault issued is not used: it expired"]),
        ({"unreadable": "no JSON"}, "", ["what vault issued is not used: no JSON"]),
        ({"revoked": True}, "", ["what vault issued is not used: the certificate was revoked"]),
        ({"code": 102, "reason": "no"}, "", ["vault refuses the request with error 102: no"]),
        ({"code": 101, "reason": "no"}, "", []),
    ],
)
def test_what_is_wrong_with_an_answer_is_a_sentence(answer, refused, expected):
    said = AuthorityAnswer(authority="vault", **answer)
    problems = certificates.problems_of(said, refused, NAMES)
    assert [problem.text for problem in problems] == [f"certificates: {text}" for text in expected]


def test_a_refusal_of_addresses_that_were_not_requested_is_a_sentence():
    said = AuthorityAnswer(authority="vault", code=101, reason="no")
    assert certificates.problems_of(said, "", CertificateNames(common="a"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"related": False, "unanswered": True}, []),
        ({"unanswered": True}, ["waiting for vault to issue a certificate"]),
        ({"unanswered": True, "kept": pair()}, []),
        (
            {"unanswered": True, "kept": pair(), "ends": NOW},
            [
                "waiting for vault to issue another certificate: that of this unit expires on"
                " 2026-11-27 08:00 UTC"
            ],
        ),
        (
            {"kept": pair(), "ends": NOW, "expired": True},
            [
                "the certificate expired on 2026-11-27 08:00 UTC and vault has issued no other:"
                " clients that verify it cannot connect"
            ],
        ),
        (
            {"kept": pair(), "issued": pair(NEW), "tls": True},
            ["waiting until clients know the new authority"],
        ),
        ({"kept": pair(), "issued": pair(NEW)}, []),
    ],
)
def test_the_status_says_what_the_certificate_waits_for(given, expected):
    assert texts(facts(**given)) == [f"certificates: {text}" for text in expected]


def test_a_unit_that_keeps_a_pair_knows_its_end_and_its_notes():
    note = certificates.notes_on(issued(rooted=False), NAMES, "vault")
    known = UnitCertificates(
        related=True, kept=pair(), issued=pair(NEW), issued_ends=NOW, issued_notes=note
    )
    after = known.keeping(pair(NEW))
    assert (after.kept, after.issued, after.ends, after.problems) == (pair(NEW), None, NOW, note)


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        (("pool.shop.dev",), ()),
        (("*.shop.dev",), ()),
        (("*.SHOP.dev",), ()),
        # A wildcard stands for a single label.
        (("*.dev",), ("pool.shop.dev",)),
        (("shop.dev", "*.pool.shop.dev"), ("pool.shop.dev",)),
    ],
)
def test_a_wildcard_covers_the_hosts_directly_below_it(held, missing):
    requested = CertificateNames(common="", hosts=("pool.shop.dev",))
    held = CertificateNames(common="", hosts=held)
    assert certificates.missing_names(requested, held) == missing


@pytest.mark.usefixtures("machine_in_tokyo")
def test_a_time_is_shown_in_utc_in_every_time_zone_of_a_machine():
    assert certificates.shown_time(NOW) == "2026-11-27 08:00 UTC"
    tokyo = datetime.timezone(9 * datetime.timedelta(hours=1))
    assert certificates.shown_time(NOW.astimezone(tokyo)) == "2026-11-27 08:00 UTC"
