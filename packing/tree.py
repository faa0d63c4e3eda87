"""Lay out the files of the charm in a directory."""

from __future__ import annotations

import pathlib
import shutil

from packing import bytecode, wheels
from packing.failed import Failed
from packing.recipe import ROOT, Platform
from packing.report import Report

REQUIREMENTS = ROOT / "requirements" / "charm.txt"

# The local platform, which runs without Juju, and the doubles of the tests.
LEFT_OUT = ("pooler", "adapters/local", "adapters/memory")

FILES = ("metadata.yaml", "config.yaml", "LICENSE")
OPTIONAL_FILES = ("actions.yaml", "icon.svg")


def lay_out(root: pathlib.Path, platform: Platform, report: Report) -> None:
    """Write all files of the charm but manifest.yaml into an empty directory. Raises Failed."""
    if any(root.iterdir()):
        raise Failed(f"{root} is not empty: name an empty directory")
    python = bytecode.interpreter(platform.python)
    for name in (*FILES, *OPTIONAL_FILES):
        if (ROOT / name).exists() or name in FILES:
            shutil.copyfile(ROOT / name, root / name)
    for source in _sources():
        _copy(source, root / source.relative_to(ROOT))
    shutil.copyfile(ROOT / "packing" / "dispatch", root / "dispatch")
    for name in ("dispatch", "src/charm.py"):
        (root / name).chmod(0o755)

    report.say(f"{platform.architecture}: gets the wheels of {REQUIREMENTS.name}")
    found = wheels.fetch(REQUIREMENTS, platform, python)
    for wheel in found:
        wheels.unpack(wheel, root / "venv")
    report.say(
        f"{platform.architecture}: compiles the modules of {len(found)} wheels and of src with {python}"
    )
    bytecode.compile_modules(root, ("src", "venv"), python)


def _sources() -> list[pathlib.Path]:
    left_out = [ROOT / "src" / folder for folder in LEFT_OUT]
    modules = [
        module
        for module in (ROOT / "src").rglob("*.py")
        if not any(module.is_relative_to(folder) for folder in left_out)
    ]
    return [*modules, *(file for file in (ROOT / "templates").rglob("*") if file.is_file())]


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
