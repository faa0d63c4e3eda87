"""When a hook has something to do in a rotation although nothing else has changed."""

import math

from domain.facts import Facts
from domain.instances import Layout
from domain.ledger import Ledger
from domain.rotating import next_end
from domain.rotation import Rotation


def ending(*rotations):
    """Return the next end of these rotations."""
    ledger = Ledger(rotations=rotations)
    layout = Layout(root="/var/lib/pgbouncer")
    facts = Facts(
        unit="p/0", address="10.0.0.1", leader=True, settings=None, layout=layout, ledger=ledger
    )
    return next_end(facts)


def test_the_next_end_is_that_of_the_first_name_that_expires():
    rotations = [
        Rotation(username="a", stage="told", until=30.0),
        Rotation(username="b", stage="told", until=20.0),
        Rotation(username="c", stage="ended", until=10.0, second=True),
    ]
    assert ending(*rotations) == 20.0


def test_no_hook_is_needed_while_no_name_expires():
    assert ending(Rotation(username="a", stage="renamed")) == math.inf
