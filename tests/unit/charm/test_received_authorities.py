"""The relation `receive-ca-certs`: authorities that the operator gives, in both versions of the interface."""

import dataclasses
import json

import pytest
from signing import Signer, facts_of, receives

ONE, TWO, THREE = (Signer(f"root {number}").root for number in range(3))


def test_the_leader_says_that_it_reads_version_1(related):
    receives(related)
    assert related.relation(7).local_app_data == {"version": "1"}


def test_a_follower_reads_authorities_and_writes_nothing(related):
    related.change(leader=False)
    receives(related, {"certificates": json.dumps([ONE, TWO]), "version": "1"})
    assert facts_of(related).received_authorities == (ONE, TWO)
    assert related.relation(7).local_app_data == {}


@pytest.mark.parametrize(
    ("unit", "found"),
    [
        ({"certificate": ONE, "ca": TWO, "chain": json.dumps([TWO, THREE])}, (TWO, THREE)),
        ({"certificate": ONE, "ca": ONE}, (ONE,)),
        ({"certificate": ONE}, (ONE,)),
        ({key: json.dumps(TWO) for key in ("certificate", "ca")}, (TWO,)),
        ({"version": "0"}, ()),
    ],
)
def test_authorities_of_version_0_are_those_of_each_unit(related, unit, found):
    receives(related, {}, unit)
    assert facts_of(related).received_authorities == found
    assert related.status == "active"


def test_authorities_of_several_applications_are_read_once_each(related):
    receives(related, {"certificates": json.dumps([ONE, TWO])})
    receives(related, {"certificates": json.dumps([TWO, THREE])}, number=8)
    assert facts_of(related).received_authorities == (ONE, TWO, THREE)
    related.ends(7)
    assert facts_of(related).received_authorities == (TWO, THREE)


def test_a_new_authority_ends_the_quiet(related):
    receives(related, {"certificates": json.dumps([ONE])})
    related.emit(related.context.on.update_status())
    receives(related, {"certificates": json.dumps([ONE, TWO])})
    assert facts_of(related).received_authorities == (ONE, TWO)


@pytest.mark.parametrize(
    ("app", "unit"),
    [
        ({"certificates": "no JSON"}, {}),
        ({"certificates": "[" * 100_000}, {}),
        ({"certificates": "7"}, {}),
        ({"certificates": '["text"]'}, {}),
        ({"certificates": "[[]]"}, {}),
        ({"certificates": json.dumps([ONE] * 2 + ["\x00"])}, {}),
        ({"certificates": " " * 1_000_001}, {}),
        ({}, {"ca": "text"}),
        ({}, {"ca": '"unended'}),
        ({}, {"chain": "{}"}),
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_a_hostile_text_is_a_sentence(related, app, unit):
    receives(related, {"certificates": json.dumps([TWO])}, number=8)
    receives(related, app, unit)
    assert facts_of(related).received_authorities == (TWO,)
    assert related.status.startswith("blocked receive-ca-certs: what roots wrote is not used: ")
    assert len(related.status) < 1500
    related.with_relation(dataclasses.replace(related.relation(7), remote_app_data={}))
    related.ends(7)
    assert related.status == "active"


def test_more_authorities_than_any_operator_has_are_a_sentence(related):
    for number in (7, 8):
        roots = [Signer(f"{number}").root for _ in range(26)]
        receives(related, {"certificates": json.dumps(roots)}, number=number)
    assert len(facts_of(related).received_authorities) == 50
    assert "50 authorities are the most" in related.status
