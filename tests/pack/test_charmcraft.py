"""What charmcraft and charmlint say of the packed charm, and what charmcraft packs itself."""

import os
import pathlib
import shutil
import subprocess
import zipfile

import pytest

from pack.deployed import checkout

# The interpreter that Debian's python3-apt is for: charmcraft needs it, and the package index does not have it.
DEBIAN_PYTHON = pathlib.Path("/usr/bin/python3")
DEBIAN_MODULES = pathlib.Path("/usr/lib/python3/dist-packages")

UBUNTU = 'NAME="Ubuntu"\nID=ubuntu\nVERSION_ID="24.04"\nVERSION="24.04 LTS"\n'


@pytest.fixture(scope="session")
def charmcraft(environment):
    """The path of charmcraft, in an environment that has python-apt, too."""
    commands = environment("charmcraft", DEBIAN_PYTHON)
    found = [*DEBIAN_MODULES.glob("apt"), *DEBIAN_MODULES.glob("apt_*.so")]
    assert len(found) >= 2, "charmcraft needs python-apt: apt-get install python3-apt"
    (modules,) = commands.parent.glob("lib/python*/site-packages")
    for file in found:
        if not (modules / file.name).exists():
            (modules / file.name).symlink_to(file)
    return commands / "charmcraft"


def run(charmcraft, folder, *words, **more):
    """Run charmcraft, which keeps its logs in `folder` and finds an Ubuntu 24.04 there."""
    (folder / "os-release").write_text(UBUNTU)
    places = {"UNIXCONFDIR", "UNIXUSRLIBDIR", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"}
    environment = os.environ | dict.fromkeys(places, str(folder))
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        [charmcraft, *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        **more,
    )


# charmcraft asks apt for the packages of the build.
@pytest.mark.root
def test_charmcraft_packs_the_same_files(charmcraft, packed, tmp_path):
    root = checkout(tmp_path / "checkout")
    words = ("pack", "--destructive-mode", "--platform", "ubuntu@24.04:amd64")
    done = run(charmcraft, tmp_path, *words, cwd=root)
    assert done.returncode == 0, done.stdout
    (made,) = root.glob("*.charm")
    theirs, ours = zipfile.ZipFile(made), zipfile.ZipFile(packed.amd64)
    assert sorted(theirs.namelist()) == sorted(ours.namelist())
    different = [name for name in ours.namelist() if ours.read(name) != theirs.read(name)]
    # It has the time at which charmcraft was started.
    assert different == ["manifest.yaml"]


def test_charmcraft_analyse_has_no_error_and_no_warning(charmcraft, packed, tmp_path):
    # The options are named as those of the charm that this charm replaces.
    for file in (packed.amd64, packed.arm64):
        done = run(charmcraft, tmp_path, "analyse", "--ignore", "naming-conventions", str(file))
        assert done.returncode == 0, done.stdout
        assert "language: [PYTHON]" in done.stdout
        assert "framework: [OPERATOR]" in done.stdout
        assert "ops-main-call: [OK]" in done.stdout


def test_charmlint_has_no_error(environment, python, unpacked, tmp_path):
    place = tmp_path / "charm"
    shutil.copytree(unpacked, place)
    commands = environment("charmlint", python)
    done = subprocess.run(
        [commands / "charmlint", "--no-color", "--min-severity", "error", place],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
