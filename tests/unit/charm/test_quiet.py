"""A hook that has nothing to do: what it loads, what it remembers, and what ends that memory."""

import contextlib
import dataclasses
import pathlib
import pickle
import subprocess
import sys
from functools import partial

import pytest
from killing import effects
from on_juju import CONFIG, META, V0

SOURCE = pathlib.Path(__file__).parents[3] / "src"
HEAVY = {"psycopg", "lightkube", "jinja2", "httpx2", "cryptography"}
UNNEEDED = {"pydantic", "domain", "app", "wiring", "dependency_injector"}


@pytest.fixture
def quiet(related):
    """All is well, and known to be so."""
    related.shop = related.client("shop-app", {"database": "shop", **V0})
    related.emit(related.context.on.update_status())
    assert memory(related).exists()
    return related


def memory(juju):
    return pathlib.Path(juju.context.charm_root, ".quiet")


def looked(juju):
    """Whether an update-status hook took a closer look: then it forgot first."""
    before = memory(juju).stat()
    juju.emit(juju.context.on.update_status())
    return not memory(juju).exists() or memory(juju).stat().st_mtime_ns != before.st_mtime_ns


def test_nothing_new_is_nothing_to_look_at(quiet):
    assert not looked(quiet)
    assert quiet.status == "active"


def test_a_hook_that_dies_before_it_tells_its_status_is_not_the_last_to_look(quiet, tmp_path):
    def invalid(juju):
        juju.options(pool_mode="chaos")

    with contextlib.closing(quiet.copy(tmp_path / "undisturbed")) as undisturbed:
        told = effects(undisturbed, partial(invalid, undisturbed)).index("status_set")
    effects(quiet, partial(invalid, quiet), told)
    assert quiet.status == "active"
    quiet.emit(quiet.context.on.update_status())
    assert quiet.status.startswith("blocked")


def test_a_silent_postgresql_ends_the_quiet(quiet, network):
    network.answers, quiet.server.down = False, "PostgreSQL does not answer"
    quiet.emit(quiet.context.on.update_status())
    assert quiet.status == "blocked PostgreSQL does not answer"
    network.answers, quiet.server.down = True, ""
    quiet.emit(quiet.context.on.update_status())
    assert quiet.status == "active"


def changed_option(juju):
    juju.change(config={"max_db_connections": 10})


def changed_request(juju):
    asks = {"database": "other", **V0}
    juju.with_relation(dataclasses.replace(juju.relation(juju.shop), remote_app_data=asks))


def spoiled_answer(juju):
    bag = juju.relation(juju.shop).local_app_data | {"endpoints": "old:1"}
    juju.with_relation(dataclasses.replace(juju.relation(juju.shop), local_app_data=bag))


def new_client(juju):
    juju.client("blog-app", {"database": "blog", **V0}, hook=False)


def gone_client(juju):
    juju.without(juju.shop)


def gone_backend(juju):
    juju.without(2)


def new_unit(juju):
    peers = juju.relation("pgb-peers")
    juju.with_relation(dataclasses.replace(peers, peers_data={1: {"address": "10.0.0.1"}}))


def lost_leadership(juju):
    juju.change(leader=False)


def dead_process(juju):
    juju.dies(0)


def lost_memory_of_the_container(juju):
    (juju.disk / "applied.json").unlink()


def no_container(juju):
    juju.with_container(can_connect=False)


@pytest.mark.parametrize(
    "change",
    [
        changed_option, changed_request, spoiled_answer, new_client, gone_client, gone_backend,
        new_unit, lost_leadership, dead_process, lost_memory_of_the_container, no_container,
    ],
    ids=lambda change: change.__name__,
)  # fmt: skip
def test_anything_that_matters_ends_the_quiet(quiet, change):
    change(quiet)
    assert looked(quiet)


def test_trouble_is_never_quiet(quiet):
    quiet.server.stuck = "PostgreSQL keeps the user"
    quiet.ends(quiet.shop)
    for _ in range(3):
        quiet.emit(quiet.context.on.update_status())
        assert quiet.status == (
            "waiting relation_id_11 cannot log in any more, and is still in PostgreSQL:"
            " PostgreSQL keeps the user"
        )
    quiet.server.stuck = ""
    quiet.emit(quiet.context.on.update_status())
    assert quiet.status == "active"


HOOK = """
import pickle, sys
import yaml
from ops import testing
from adapters.connections import ping
from charm import PgBouncerCharm

ping.answers = lambda servers, seconds=1.0: True
state, root, meta, config = pickle.load(sys.stdin.buffer)
context = testing.Context(PgBouncerCharm, meta=meta, config=config, charm_root=root)
out = context.run(context.on.update_status(), state)
assert out.unit_status.name == "active", out.unit_status
print(*{name.partition(".")[0] for name in sys.modules})
"""


def loaded_by_an_update_status_of(juju):
    """What a fresh process has loaded at the end of the hook."""
    given = pickle.dumps((juju.state, juju.context.charm_root, META, CONFIG))
    done = subprocess.run(
        [sys.executable, "-c", juju.workload.reached_by() + HOOK],
        input=given,
        capture_output=True,
        check=False,
        cwd=SOURCE,
    )
    assert done.returncode == 0, done.stderr.decode()
    return set(done.stdout.decode().split())


def test_a_quiet_hook_loads_neither_models_nor_drivers(quiet):
    quiet_load = loaded_by_an_update_status_of(quiet)
    assert "ops" in quiet_load
    assert not quiet_load & (HEAVY | UNNEEDED)


def test_a_hook_that_looks_and_finds_nothing_loads_no_driver(quiet):
    memory(quiet).unlink()
    load = loaded_by_an_update_status_of(quiet)
    assert load >= UNNEEDED
    assert not load & HEAVY
