import pydantic
import pytest

from domain.certificate_logins import (
    CertificateLogin,
    ClientCertificate,
    TrustedLogin,
    distinct,
    name_refused,
    still_trusted,
    trusted,
)

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"


def certificate(name, *others):
    return ClientCertificate(text=PEM, name=name, names=(name.lower(), *others))


def login(username, name):
    return CertificateLogin(username=username, name=name, certificate=PEM)


def test_of_two_certificates_with_a_common_name_that_in_use_stays():
    offered = [("a", certificate("shop")), ("b", certificate("SHOP"))]
    assert distinct(offered, ())[0] == (login("a", "shop"),)
    logins, problems = distinct(offered, [login("b", "SHOP")])
    assert logins == (login("b", "SHOP"),)
    assert list(problems) == ["a"]


def test_an_alternative_name_is_a_name_in_common():
    offered = [("a", certificate("shop")), ("b", certificate("blog", "shop"))]
    logins, problems = distinct(offered, ())
    assert [known.username for known in logins] == ["a"]
    assert list(problems) == ["b"]


def test_a_certificate_that_cannot_be_read_at_the_moment_stays_in_use():
    unreadable = ClientCertificate(problem="because it is secret", unreadable=True)
    assert distinct([("a", unreadable)], [login("a", "shop")]) == ((login("a", "shop"),), {})
    assert distinct([("a", unreadable)], ()) == ((), {"a": "because it is secret"})


def test_a_name_that_pgbouncer_cannot_compare_is_refused():
    assert name_refused("shop", ("shop", "pool")) == ""
    assert name_refused("x" * 63, ()) == ""
    for name in ("", "*.shop", 'x" y', "a\nb", "-a", "x" * 64):
        assert name_refused(name, ())
    assert name_refused("shop", ("shop", "*.example.com"))


def test_a_certificate_without_a_text_needs_a_reason():
    for fields in ({}, {"name": "shop"}, {"text": PEM}, {"text": "shop", "name": "shop"}):
        with pytest.raises(pydantic.ValidationError, match="certificate"):
            ClientCertificate.model_validate(fields)
    assert ClientCertificate(problem="because it expired").text == ""


def test_the_wait_begins_when_processes_are_seen_to_trust_a_certificate():
    logins = (login("a", "shop"),)
    first = trusted(logins, (), 10.0)
    assert [known.since for known in first] == [0.0]
    second = trusted(logins, first, 20.0)
    assert second == trusted(logins, second, 99.0)
    assert [known.admitted(139.0) for known in (*first, *second)] == [False, False]
    assert second[0].admitted(140.0)
    (other,) = trusted((login("b", "shop"),), second, 500.0)
    assert not other.admitted(500.0)


def test_a_change_that_may_be_interrupted_keeps_only_what_stays():
    before = (TrustedLogin(username="a", name="shop", since=1.0),)
    assert still_trusted(before, before) == before
    assert still_trusted(before, ()) == ()
