"""What `pooler` shows on a terminal, and elsewhere."""

import sys

import pytest

from pooler import tables


@pytest.mark.parametrize(
    ("terminal", "no_color", "shown"),
    [
        (True, "", "\033[33mold\033[0m"),
        (True, "1", "old"),
        (False, "", "old"),
        (False, "1", "old"),
    ],
)
def test_a_warning_is_yellow_on_a_terminal_that_may_have_colours(
    monkeypatch, terminal, no_color, shown
):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setenv("NO_COLOR", no_color)
    assert tables.yellow("old") == shown
