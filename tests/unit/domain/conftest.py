"""What several tests of the domain share."""

import time

import pytest


@pytest.fixture
def machine_in_tokyo(monkeypatch):
    """Give the machine a time zone that is nine hours ahead of UTC."""
    with monkeypatch.context() as zone:
        zone.setenv("TZ", "JST-9")
        time.tzset()
        yield
    time.tzset()
