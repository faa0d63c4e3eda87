"""Remove what the machines share when all tests have run."""

import pytest

from pages import machine


@pytest.fixture(scope="session", autouse=True)
def _packages():
    yield
    machine.remove_packages()
