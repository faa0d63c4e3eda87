"""What is said when the charm cannot be packed."""

import os
import shutil
import subprocess
import sys

from pack.deployed import ROOT, checkout
from packing import recipe, wheels


def pack(folder, root=ROOT, **more):
    command = [sys.executable, "-m", "packing", "--to", folder, "--platform", "ubuntu@24.04:amd64"]
    environment = os.environ | more
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def test_without_the_python_of_the_base_the_error_says_how_to_get_it(tmp_path):
    only = tmp_path / "bin"
    only.mkdir()
    done = pack(tmp_path, PATH=str(only), HOME=str(tmp_path), PYENV_ROOT=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.startswith("CPython 3.12, which runs the charm in its base,")
    assert "uv python install 3.12" in done.stderr
    assert "PACK_PYTHON=/path/to/python3.12" in done.stderr
    assert list(tmp_path.glob("*.charm")) == []


def test_a_python_of_another_version_is_refused_by_name(tmp_path):
    done = pack(tmp_path, PACK_PYTHON="/bin/false")
    assert done.returncode == 1
    assert done.stderr.startswith("PACK_PYTHON is /bin/false, which is no CPython 3.12:")


def test_a_wheel_with_another_hash_is_not_packed(packed, tmp_path, python):
    platform = recipe.platform("ubuntu@24.04:amd64")
    requirements = ROOT / "requirements" / "charm.txt"
    (place,) = {wheel.parent for wheel in wheels.fetch(requirements, platform, python)}
    cache = tmp_path / "cache"
    shutil.copytree(place, cache / "wheels" / place.name)
    changed = next((cache / "wheels" / place.name).glob("ops-*.whl"))
    changed.write_bytes(changed.read_bytes() + b"\0")
    done = pack(tmp_path, POOLER_CACHE=str(cache))
    assert done.returncode == 1
    assert f"{changed} has a hash that charm.txt does not pin" in done.stderr
    assert list(tmp_path.glob("*.charm")) == []


def test_a_platform_that_is_unknown_is_named(tmp_path):
    root = checkout(tmp_path / "checkout")
    recipe_file = root / "charmcraft.yaml"
    recipe_file.write_text(recipe_file.read_text().replace("24.04:arm64", "24.04:riscv64"))
    done = subprocess.run(
        [sys.executable, "-m", "packing"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "the platform ubuntu@24.04:riscv64 of charmcraft.yaml is unknown"
    )


def test_a_module_that_does_not_compile_is_named(tmp_path):
    root = checkout(tmp_path / "checkout")
    (root / "src" / "domain" / "broken.py").write_text("def (:\n")
    done = pack(tmp_path, root)
    assert done.returncode == 1
    assert "domain/broken.py" in done.stderr


def test_a_date_that_is_no_number_is_refused(tmp_path):
    done = pack(tmp_path, SOURCE_DATE_EPOCH="yesterday")
    assert done.returncode == 1
    assert "SOURCE_DATE_EPOCH is yesterday: set it to seconds since 1970" in done.stderr
