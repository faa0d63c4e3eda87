import pytest

from domain.value import digest, number_of


@pytest.mark.parametrize(
    ("unit", "number"),
    [
        ("pgb/3", 3),
        ("pgb/0", 0),
        ("pgb", 0),
        ("pgb/\u00b2", 0),
        ("pgb/" + "9" * 5000, 0),
        ("a/b/1", 0),
    ],
)
def test_a_unit_has_the_number_in_its_name(unit, number):
    assert number_of(unit) == number


def test_a_digest_is_short_and_has_no_order_of_keys():
    assert len(digest({"a": 1, "b": 2})) == 32
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 2, "b": 1})
