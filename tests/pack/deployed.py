"""Unpack the charm as Juju's agent does, and run its hooks, with hook tools that answer as for a new unit."""

from __future__ import annotations

import json
import os
import pathlib
import resource
import shutil
import subprocess
import zipfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What a build needs of a checkout.
SOURCES = (
    *("packing", "src", "templates", "requirements", "Makefile", "LICENSE"),
    *("charmcraft.yaml", "metadata.yaml", "config.yaml", "actions.yaml", "icon.svg"),
)

TOOLS = (
    "application-version-set", "config-get", "goal-state", "is-leader", "juju-log", "network-get",
    "relation-get", "relation-ids", "relation-list", "relation-model-get", "relation-set", "secret-get",
    "secret-ids", "secret-info-get", "state-get", "state-set", "status-get", "status-set",
)  # fmt: skip

TOOL = """#!/bin/sh
case ${0##*/} in
relation-ids | relation-list | secret-ids) echo '[]' ;;
is-leader) echo false ;;
*-get) echo '{}' ;;
status-set) echo "$@" >>"$STATUSES" ;;
esac
"""

HOOK_SECONDS = 60


class Hook(NamedTuple):
    """A hook that has run."""

    # The CPU of the hook and of its tools.
    seconds: float
    output: str
    statuses: str


class Agent:
    """Runs the hooks of charms; its directory has the hook tools and a `python3` of the base's version."""

    def __init__(self, folder: pathlib.Path, python: pathlib.Path) -> None:
        self._folder, self.python = folder, python
        self._tools = folder / "tools"
        self._tools.mkdir()
        (self._tools / "python3").symlink_to(python)
        for name in TOOLS:
            tool = self._tools / name
            tool.write_text(TOOL)
            tool.chmod(0o755)

    def hook(self, charm: pathlib.Path, kind: str = "start", **more: str) -> Hook:
        """Run a hook of a charm that is unpacked in `charm`; the test fails if the hook does."""
        statuses = self._folder / "statuses"
        statuses.write_text("")
        environment = {
            "PATH": f"{self._tools}:/usr/bin:/bin",
            "STATUSES": str(statuses),
            "JUJU_CHARM_DIR": str(charm),
            "JUJU_DISPATCH_PATH": f"hooks/{kind}",
            "JUJU_UNIT_NAME": "pgbouncer-k8s/0",
            "JUJU_MODEL_NAME": "dev",
            "JUJU_MODEL_UUID": "00000000-0000-4000-8000-000000000000",
            "JUJU_VERSION": "3.6.0",
        } | more
        before = _cpu_of_children()
        done = subprocess.run(
            [*as_a_user_of_files(), str(charm / "dispatch")],
            env=environment, cwd=charm, timeout=HOOK_SECONDS, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        seconds = _cpu_of_children() - before
        assert done.returncode == 0, done.stdout
        return Hook(seconds, done.stdout, statuses.read_text())


def as_a_user_of_files() -> list[str]:
    """Return the command below which the modes of files hold for root, too."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override"]


def unpack(file: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Unpack a charm as Juju's agent does: with the modes of the file, and without its dates."""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            target = folder / entry.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(entry))
            target.chmod((entry.external_attr >> 16) & 0o777)
    return folder


def make_read_only(charm: pathlib.Path) -> None:
    """Take the right to write from all that is in the charm; ops keeps its state beside it."""
    for path in charm.rglob("*"):
        path.chmod(path.stat().st_mode & ~0o222)


def checkout(folder: pathlib.Path) -> pathlib.Path:
    """Copy what a build needs into another directory, with other dates."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(
                source, folder / name, copy_function=shutil.copy,
                ignore=shutil.ignore_patterns("__pycache__"),
            )  # fmt: skip
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


def distribution(path: str) -> str:
    """Return the name of a distribution in the form in which it stands in requirements."""
    return path.lower().replace("_", "-").replace(".", "-")


def loaded_from(output: str, charm: pathlib.Path) -> tuple[list[str], list[str]]:
    """Return the modules of the charm that Python compiled, and those whose bytecode it loaded.

    `output` is that of a hook with PYTHONVERBOSE.
    """
    lines = [line.removeprefix("# code object from ").strip("'") for line in output.splitlines()
             if line.startswith("# code object from ") and str(charm) in line]  # fmt: skip
    return (
        [line for line in lines if line.endswith(".py")],
        [line for line in lines if line.endswith(".pyc")],
    )


def imported(agent: Agent, charm: pathlib.Path, modules: list[str]) -> dict[str, str]:
    """Import each of these modules in a process with the paths of the charm; return the errors by module."""
    script = (
        "import importlib, json, sys\nfailed = {}\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    try:\n        importlib.import_module(name)\n"
        "    except Exception as error:\n        failed[name] = repr(error)\n"
        "print(json.dumps(failed))"
    )
    done = subprocess.run(
        [agent.python, "-s", "-c", script, json.dumps(modules)],
        env={"PYTHONPATH": f"{charm / 'src'}:{charm / 'venv'}"},
        capture_output=True, text=True, check=True, cwd=charm,
    )  # fmt: skip
    return json.loads(done.stdout)


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
