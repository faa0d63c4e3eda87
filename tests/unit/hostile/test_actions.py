"""Parameters of actions, and reports of units, with any content."""

import contextlib

import pytest
from hypothesis import strategies as st
from profiles import given

from adapters.juju import databags, parameters
from app.errors import ActionFailed
from domain.inspection import table
from domain.operations import KillOrder, Operations
from domain.plan import Plan
from domain.settings import Settings

ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())


@given(st.dictionaries(st.text(), ANY))
def test_a_parameter_is_a_value_or_a_sentence(passed):
    for name in [*passed, "database"]:
        with contextlib.suppress(ActionFailed):
            text = parameters.text(passed, name)
            assert text.isprintable()
            assert len(text) <= 63
        with contextlib.suppress(ActionFailed):
            assert 1 <= parameters.number(passed, name, 1, 240, 60) <= 240


@given(st.text())
def test_a_name_that_is_read_can_be_in_an_order(text):
    try:
        name = parameters.text({"user": text}, "user")
    except ActionFailed:
        return
    order = KillOrder(user=name)
    plan = Plan(settings=Settings(), members=(), kills=order)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@given(st.text())
def test_a_report_of_a_unit_is_a_value_or_nothing(text):
    found = databags.read_peer_value({"operations": text}, "operations", Operations)
    assert found is None or isinstance(found, Operations)


def test_a_report_of_a_later_release_is_read():
    text = '{"paused": ["shop"], "later": {"x": 1}, "holder": null}'
    read = databags.read_peer_value({"operations": text}, "operations", Operations)
    assert read == Operations(paused=("shop",))


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2)))
def test_a_row_of_a_table_is_a_line_of_limited_length(rows):
    lines = table(("one", "two"), rows).split("\n")
    assert len(lines) <= 42
    assert all(line.isprintable() and len(line) <= 130 for line in lines)


@pytest.mark.parametrize("name", ["a\u202eb", "\x00", " a"])
def test_a_name_with_hidden_letters_is_refused(name):
    with pytest.raises(ActionFailed):
        parameters.text({"database": name}, "database")
