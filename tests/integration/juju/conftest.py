"""Needs a controller: without one the whole suite says so, once, and is left out."""

import pathlib
import shutil
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent


def pytest_addoption(parser):
    parser.addoption("--charm", help="the packed charm, from `make pack`")


def _reason(charm: str | None) -> str:
    if not shutil.which("juju"):
        return "no juju client on this machine: these tests need a controller on Kubernetes"
    asked = subprocess.run(["juju", "whoami"], capture_output=True, text=True, check=False)
    if asked.returncode:
        return f"no Juju controller is reachable: {asked.stderr.strip()}"
    if not charm or not pathlib.Path(charm).is_file():
        return "no packed charm: run `make pack` and give --charm FILE"
    return ""


def pytest_collection_modifyitems(config, items):
    if reason := _reason(config.getoption("--charm", None)):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def charm(request):
    return pathlib.Path(request.config.getoption("--charm")).resolve()
