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


def login(username, name, *others):
    names = (name.lower(), *others)
    return CertificateLogin(username=username, name=name, certificate=PEM, names=names)


UNREADABLE = ClientCertificate(problem="because it is secret", unreadable=True)


def test_of_two_certificates_with_a_common_name_that_in_use_stays():
    offered = [("a", certificate("shop")), ("b", certificate("SHOP"))]
    assert distinct(offered, ())[0] == (login("a", "shop"),)
    logins, problems = distinct(offered, [login("b", "SHOP")])
    assert logins == (login("b", "SHOP"),)
    assert list(problems) == ["a"]


@pytest.mark.parametrize("victim", [certificate("shop"), UNREADABLE], ids=["readable", "not"])
@pytest.mark.parametrize("known", [(), [login("a", "evil")]], ids=["new", "renewed"])
def test_no_certificate_gets_a_name_that_another_user_has(victim, known):
    current = [*known, login("b", "shop")]
    offered = [("a", certificate("evil", "shop")), ("b", victim)]
    logins, problems = distinct(offered, current)
    assert logins == (login("b", "shop"),)
    assert list(problems) == ["a"]


def test_an_unreadable_certificate_keeps_its_alternative_names():
    current = [login("a", "evil", "shop")]
    logins, problems = distinct([("b", certificate("shop")), ("a", UNREADABLE)], current)
    assert logins == tuple(current)
    assert list(problems) == ["b"]


def test_of_two_certificates_in_use_with_a_name_in_common_the_first_stays():
    current = [login("a", "evil", "shop"), login("b", "shop")]
    logins, problems = distinct([("a", UNREADABLE), ("b", UNREADABLE)], current)
    assert logins == (current[0],)
    assert list(problems) == ["b"]


def test_a_name_that_its_user_does_not_offer_any_more_is_free():
    offered = [("a", certificate("evil", "shop")), ("b", certificate("blog"))]
    assert distinct(offered, [login("b", "shop")]) == (
        (login("a", "evil", "shop"), login("b", "blog")),
        {},
    )


def test_a_refused_certificate_reserves_no_name():
    offered = [("a", certificate("news", "shop")), ("c", certificate("news")), ("b", UNREADABLE)]
    logins, problems = distinct(offered, [login("b", "shop")])
    assert logins == (login("b", "shop"), login("c", "news"))
    assert list(problems) == ["a"]


def test_a_login_of_an_earlier_release_has_its_common_name():
    before = CertificateLogin(username="b", name="Shop", certificate=PEM)
    offered = [("a", certificate("evil", "shop")), ("b", UNREADABLE)]
    assert distinct(offered, [before])[0] == (before,)


def test_an_alternative_name_is_a_name_in_common():
    offered = [("a", certificate("shop")), ("b", certificate("blog", "shop"))]
    logins, problems = distinct(offered, ())
    assert [known.username for known in logins] == ["a"]
    assert list(problems) == ["b"]


def test_a_certificate_that_cannot_be_read_at_the_moment_stays_in_use():
    assert distinct([("a", UNREADABLE)], [login("a", "shop")]) == ((login("a", "shop"),), {})
    assert distinct([("a", UNREADABLE)], ()) == ((), {"a": "because it is secret"})


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
    (again,) = trusted(logins, second, 5.0)
    assert again.admitted(125.0), "the clock was set back"
    (other,) = trusted((login("b", "shop"),), second, 500.0)
    assert not other.admitted(500.0)


def test_a_change_that_may_be_interrupted_keeps_only_what_stays():
    before = (TrustedLogin(username="a", name="shop", since=1.0),)
    assert still_trusted(before, before) == before
    assert still_trusted(before, ()) == ()
