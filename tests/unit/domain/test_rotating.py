"""When a hook has something to do in a rotation although nothing else has changed."""

import math

import pytest

from domain.facts import Facts
from domain.instances import Layout
from domain.ledger import Ledger
from domain.rotating import next_end, progress
from domain.rotation import Rotation


def facts(*rotations):
    """Return what a unit knows that sees these rotations."""
    ledger = Ledger(rotations=rotations)
    layout = Layout(root="/var/lib/pgbouncer")
    return Facts(
        unit="p/0", address="10.0.0.1", leader=True, settings=None, layout=layout, ledger=ledger
    )


def ending(*rotations):
    """Return the next end of these rotations."""
    return next_end(facts(*rotations))


def test_the_next_end_is_that_of_the_first_name_that_expires():
    rotations = [
        Rotation(username="a", stage="told", until=30.0),
        Rotation(username="b", stage="told", until=20.0),
        Rotation(username="c", stage="ended", until=10.0, second=True),
    ]
    assert ending(*rotations) == 20.0


def test_no_hook_is_needed_while_no_name_expires():
    assert ending(Rotation(username="a", stage="renamed")) == math.inf


@pytest.mark.usefixtures("machine_in_tokyo")
def test_the_end_of_a_name_is_told_in_universal_time():
    rotation = Rotation(username="a", second=True, stage="told", until=1_000_000.0)
    known = "user a can log in until 1970-01-12 13:46:40 UTC"
    assert progress(facts(rotation), rotation) == known
