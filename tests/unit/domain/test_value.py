import pytest

from domain.value import number_of


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
