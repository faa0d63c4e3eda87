"""How the hooks of the packed charm run where Juju's agent unpacks it."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from pack.deployed import ROOT, loaded_from, make_read_only, unpack

ROUNDS = 5
# In multiples of the CPU of a warm checkout's hook.
MOST = 1.15
# What a hook costs at least that has to compile: proof that the measure sees a difference.
COLD = 1.4


@pytest.fixture
def charm(packed, folder):
    """The charm as it is unpacked, which no hook can write into."""
    place = unpack(packed.amd64, folder / "charm")
    make_read_only(place)
    yield place
    shutil.rmtree(place)


def files(charm):
    return {path: path.stat().st_mtime_ns for path in charm.rglob("*.py*")}


def test_the_first_hook_compiles_nothing_and_writes_no_bytecode(charm, agent):
    before = files(charm)
    hook = agent.hook(charm, "start", PYTHONVERBOSE="1")
    compiled, loaded = loaded_from(hook.output, charm)
    assert compiled == []
    assert len(loaded) > 200
    assert files(charm) == before


def test_the_first_hook_of_a_charm_without_bytecode_compiles(charm, agent):
    for cached in charm.rglob("*.pyc"):
        cached.unlink()
    compiled, loaded = loaded_from(agent.hook(charm, "start", PYTHONVERBOSE="1").output, charm)
    assert len(compiled) > 200
    assert loaded == []


def test_the_first_hooks_of_a_unit_end_with_its_status(charm, agent):
    for kind in ("install", "leader-elected", "config-changed", "start", "upgrade-charm", "stop"):
        hook = agent.hook(charm, kind)
        if kind == "start":
            assert "backend-database" in hook.statuses


def test_the_first_hook_costs_what_a_warm_checkout_costs(packed, folder, agent):
    """The least CPU of some rounds, in which the three run in turn."""
    places = {name: unpack(packed.amd64, folder / name) for name in ("packed", "warm", "cold")}
    for name in ("warm", "cold"):
        for cached in places[name].rglob("*.pyc"):
            cached.unlink()
    compiling = [agent.python, "-m", "compileall", "-q", "src", "venv"]
    subprocess.run(compiling, cwd=places["warm"], check=True)
    for place in places.values():
        make_read_only(place)
    seconds = {name: [] for name in places}
    for _ in range(ROUNDS):
        for name, place in places.items():
            (place / ".unit-state.db").unlink(missing_ok=True)
            seconds[name].append(agent.hook(place).seconds)
    least = {name: min(times) for name, times in seconds.items()}
    print(f"CPU seconds of the first hook: {least}")
    assert least["packed"] / least["warm"] < MOST, least
    assert least["cold"] / least["warm"] > COLD, least


@pytest.mark.parametrize("path", ["hooks/install", "hooks/upgrade-charm", "actions/report"])
def test_dispatch_becomes_python_and_starts_no_other_program(tmp_path, agent, path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "charm.py").write_text(
        "import json, os, sys\n"
        "print(json.dumps([os.getpid(), os.getcwd(), sys.path[:3], dict(os.environ)]))\n"
    )
    shutil.copy(ROOT / "packing" / "dispatch", tmp_path)
    only_python = tmp_path / "bin"
    only_python.mkdir()
    (only_python / "python3").symlink_to(agent.python)
    given = {"PATH": str(only_python), "JUJU_DISPATCH_PATH": path, "JUJU_CHARM_DIR": str(tmp_path)}
    process = subprocess.Popen(
        [tmp_path / "dispatch"], cwd=tmp_path, env=given, stdout=subprocess.PIPE, text=True
    )
    output, _ = process.communicate(timeout=60)
    pid, directory, paths, environment = json.loads(output)
    assert pid == process.pid
    assert pathlib.Path(directory) == tmp_path
    assert [os.path.normpath(place) for place in paths[:2]] == [
        str(tmp_path / "src"),
        str(tmp_path / "venv"),
    ]
    assert given.items() <= environment.items()
    assert "LD_LIBRARY_PATH" not in environment
