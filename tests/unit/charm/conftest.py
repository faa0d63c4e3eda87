import pytest
from on_juju import Juju

from adapters import ping


class Network:
    """Whether something answers at a server's port."""

    answers = True


@pytest.fixture(autouse=True)
def network(monkeypatch):
    network = Network()
    monkeypatch.setattr(ping, "answers", lambda servers, seconds=1.0: network.answers)
    return network


@pytest.fixture
def make(tmp_path):
    """Units, each with a disk of its own."""
    made = iter(range(1000))
    return lambda **how: Juju(tmp_path / str(next(made)), **how)


@pytest.fixture
def juju(make):
    """The only unit, of which no hook has run."""
    return make()


@pytest.fixture
def related(make):
    """The only unit, deployed, with PostgreSQL."""
    return make().deploy().backend()
