"""Certificates in PEM texts, and what a unit knows of its own."""

import datetime

import pydantic
import pytest

from domain.problems import Level, Sentence
from domain.tls import (
    LONGEST_CERTIFICATE,
    MOST_CERTIFICATES,
    CertificateNames,
    ServedPair,
    UnitCertificates,
    bundle,
    certificates_in,
)


def pem(data, *, width=64):
    lines = [data[at : at + width] for at in range(0, len(data), width)]
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----"))


LEAF, MIDDLE, ROOT = pem("bGVhZmxl" * 12), pem("bWlkZGxl"), pem("cm9vdA==")


def test_the_certificates_of_a_bundle_are_read_back_in_their_order():
    assert certificates_in(bundle((LEAF, MIDDLE, ROOT))) == (LEAF, MIDDLE, ROOT)


def test_two_texts_of_a_certificate_count_as_the_same_certificate():
    other = pem("bWlkZGxl" * 10, width=76).replace("\n", "\r\n")
    assert certificates_in(f"{other}\n{pem('bWlkZGxl' * 10)}") == (pem("bWlkZGxl" * 10),)


def test_no_certificates_are_in_an_empty_text():
    assert certificates_in(" \n") == ()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"# a comment\n{ROOT}", "no certificate in PEM"),
        ("-----BEGIN PRIVATE KEY-----\nbWlkZGxl\n-----END PRIVATE KEY-----", "no certificate"),
        (pem("bWlkZG"), "not in base64"),
        ("x" * (MOST_CERTIFICATES * LONGEST_CERTIFICATE + 1), "longer than"),
        ("\n".join(pem(f"{number:04}") for number in range(51)), "51 certificates: 50 are"),
    ],
)
def test_a_text_that_is_no_list_of_certificates_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        certificates_in(text)


def test_the_chain_of_a_pair_holds_certificates_only():
    key = pydantic.SecretStr("key")
    assert ServedPair(key=key, chain=(LEAF,)).digest != ServedPair(key=key, chain=(ROOT,)).digest
    with pytest.raises(pydantic.ValidationError, match="not a single certificate"):
        ServedPair(key=key, chain=(f"{LEAF}\n{ROOT}",))


def test_a_unit_that_keeps_what_the_authority_issued_has_no_other_pair():
    names = CertificateNames(common="pool")
    pair = ServedPair(key=pydantic.SecretStr("key"), chain=(LEAF,), authorities=(ROOT,))
    later = ServedPair(key=pydantic.SecretStr("key"), chain=(MIDDLE,), authorities=(ROOT,))
    unit = UnitCertificates(related=True, issued=pair).requesting(names)
    assert unit.requested == names
    assert unit.keeping(pair) == UnitCertificates(
        related=True, kept=pair, requested=names, unanswered=True
    )
    assert unit.keeping(later).issued == pair
    assert unit.keeping(None).kept is None


def test_a_unit_knows_what_the_authority_issued_and_what_is_wrong():
    pair = ServedPair(key=pydantic.SecretStr("key"), chain=(LEAF,), authorities=(ROOT,))
    ends = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
    first, second = (Sentence(level=Level.WAITING, text=text) for text in ("first", "second"))
    unit = UnitCertificates(related=True, problems=(first,))
    issued = unit.issuing(pair, ends)
    assert (issued.issued, issued.issued_ends) == (pair, ends)
    assert unit.with_problems((second,)).problems == (first, second)
    assert unit.renewing() == UnitCertificates(related=True, problems=(first,), due=True)


def test_a_pair_that_a_unit_keeps_starts_without_what_was_known_of_another():
    pair = ServedPair(key=pydantic.SecretStr("key"), chain=(LEAF,), authorities=(ROOT,))
    later = ServedPair(key=pydantic.SecretStr("key"), chain=(MIDDLE,), authorities=(ROOT,))
    first, second = (datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2027, 2028))
    note = Sentence(level=Level.WAITING, text="note")
    unit = UnitCertificates(related=True, kept=pair, ends=first, expired=True, due=True)
    assert unit.keeping(None) == UnitCertificates(related=True)
    assert unit.keeping(later) == UnitCertificates(related=True, kept=later)
    issued = unit.issuing(later, second).model_copy(update={"issued_notes": (note,)})
    assert issued.keeping(later) == UnitCertificates(
        related=True, kept=later, ends=second, problems=(note,)
    )
    assert issued.keeping(None) == UnitCertificates(
        related=True, issued=later, issued_ends=second, issued_notes=(note,)
    )
