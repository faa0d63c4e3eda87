"""The charm under Scenario. `--pebble=real` runs the same tests with a real Pebble in the container.

That Pebble runs as the user of metadata.yaml, and with `--pebble=root` as root, as in Juju before 3.5.
"""

import contextlib
import functools
import itertools
import os
import zlib
from collections import Counter

import pytest
from juju_releases import RELEASES
from on_juju import V0, Juju
from quiet_hooks import memory

from adapters.connections import ping

SELDOM = pytest.StashKey[list]()


def real(config):
    return config.getoption("--pebble") != "scenario"


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--every-case"):
        left_out = [
            item
            for item in items
            if item.get_closest_marker("seldom")
            and (real(config) or item.get_closest_marker("costly"))
        ]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
        tests = Counter(item.originalname for item in left_out)
        config.stash[SELDOM] = [
            f"{test}: {count} cases left out, each situation and each event once kept: "
            + ", ".join(item.callspec.id for item in items if item.originalname == test)
            for test, count in tests.items()
        ]


def pytest_terminal_summary(terminalreporter, config):
    if lines := config.stash.get(SELDOM, []):
        terminalreporter.section("--every-case leaves nothing out")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def release(request, monkeypatch):
    """Return the release of Juju of this test: each test with its own, and `--pebble=real` with the other.

    So both suites together run each test with both releases, in the time of a single release.
    """
    number = zlib.crc32(request.node.nodeid.encode()) + real(request.config)
    asked = request.config.getoption("--juju")
    chosen = next((name for name in RELEASES if name.startswith(asked)), RELEASES[number % 2])
    monkeypatch.setattr(Juju, "release", chosen)
    return chosen


class Network:
    """Decides whether a server's port answers."""

    answers = True


@contextlib.contextmanager
def connected():
    """Replace the ping of servers."""
    network = Network()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ping, "answers", lambda servers, seconds=1.0: network.answers)
        yield network


@pytest.fixture(autouse=True)
def network():
    with connected() as network:
        yield network


@pytest.fixture(scope="session", autouse=True)
def pebble(request):
    """Use the Pebble that `--pebble` names; stop every container at the end, also after a failure."""
    with contextlib.ExitStack() as at_the_end:
        if real(request.config):
            if os.geteuid() != 0:
                pytest.exit(
                    "a container's file system can be mounted by root only: run as root", 1
                )
            import built
            from real_container import RealContainer
            from workload import NON_ROOT

            programs = built.programs(request.config)
            user = NON_ROOT if request.config.getoption("--pebble") == "real" else 0
            Juju.kind = staticmethod(functools.partial(RealContainer, programs, user, at_the_end))
        yield


@pytest.fixture
def make(tmp_path):
    """Return a function that makes units, each with its own disk."""
    numbers = itertools.count()
    with contextlib.ExitStack() as made:
        yield lambda **how: made.enter_context(
            contextlib.closing(Juju(tmp_path / str(next(numbers)), **how))
        )


@pytest.fixture
def juju(make):
    """Return the only unit, before its first hook."""
    return make()


@pytest.fixture(scope="session")
def begun(tmp_path_factory):
    """Return a deployed unit, and a unit with PostgreSQL, for tests to copy."""
    folder = tmp_path_factory.mktemp("begun")
    with contextlib.ExitStack() as made:
        with connected():
            deployed = made.enter_context(contextlib.closing(Juju(folder / "deployed").deploy()))
            related = made.enter_context(contextlib.closing(deployed.copy(folder / "related")))
            related.backend()
        yield deployed, related


@pytest.fixture
def deployed(begun, tmp_path):
    """Return the only unit, which waits for PostgreSQL."""
    with contextlib.closing(begun[0].copy(tmp_path / "deployed")) as juju:
        yield juju


@pytest.fixture
def related(begun, tmp_path):
    """Return the only unit, deployed, with PostgreSQL."""
    with contextlib.closing(begun[1].copy(tmp_path / "related")) as juju:
        yield juju


@pytest.fixture
def quiet(related):
    """Return a unit that has recorded that nothing is left to do."""
    related.shop = related.client("shop-app", {"database": "shop", **V0})
    related.emit(related.context.on.update_status())
    assert memory(related).exists()
    return related


@pytest.fixture(scope="module")
def begin(tmp_path_factory):
    """Return the leader of three units with two clients, and a client at `db`."""
    with contextlib.closing(
        Juju(tmp_path_factory.mktemp("begin") / "juju", others=(1, 2)).deploy().backend()
    ) as juju:
        juju.client("shop-app", {"database": "shop", **V0})
        juju.client("wiki-app", {"database": "wiki", **V0})
        juju.client("shop-app", {"database": "shop"}, endpoint="db")
        yield juju


@pytest.fixture
def in_state(begin, tmp_path):
    """Return a function that copies `begin` and brings the copy into a state with something left to do."""
    numbers = itertools.count()
    with contextlib.ExitStack() as made:

        def copied(state) -> Juju:
            copy = begin.copy(tmp_path / str(next(numbers)))
            juju = made.enter_context(contextlib.closing(copy))
            state(juju)
            return juju

        yield copied
