"""Generated tests say what is true, not how fast: machines that test are busy."""

import hypothesis
import pytest
from pebble_workload import Workload

hypothesis.settings.register_profile("patient", deadline=None, print_blob=True)
hypothesis.settings.load_profile("patient")


@pytest.fixture
def container():
    """Return a container in memory."""
    return Workload()


@pytest.fixture
def record(tmp_path):
    """Return the path of the record of what was applied."""
    return tmp_path / "applied.json"
