"""Download the wheels that requirements/charm.txt pins by hash, and unpack them."""

from __future__ import annotations

import hashlib
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

from packing.failed import Failed
from packing.recipe import Platform
from pooler.cache import default_cache

# Sources of C and types, which only compilers and type checkers read: twelve megabytes.
UNUSED = {".c", ".h", ".pyx", ".pxd", ".pyi"}

# What pip is asked for: wheels alone, so that no compiler is needed, and exactly those of the list.
EXACTLY = ("--only-binary=:all:", "--no-deps", "--require-hashes")


def fetch(
    requirements: pathlib.Path, platform: Platform, python: pathlib.Path
) -> list[pathlib.Path]:
    """Return the wheels, downloaded where the cache does not have them. Raises Failed."""
    text = requirements.read_bytes()
    version = ".".join(map(str, platform.python))
    digest = hashlib.sha256(text + repr((version, platform.wheel_tags)).encode()).hexdigest()[:16]
    place = default_cache() / "wheels" / f"{platform.architecture}-{digest}"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=place.parent) as name:
            downloaded = pathlib.Path(name, "wheels")
            _download(requirements, platform, version, python, downloaded)
            try:
                downloaded.rename(place)
            except OSError:
                # Another process has downloaded the same wheels.
                if not place.is_dir():
                    raise
    wheels = sorted(place.glob("*.whl"))
    pinned = set(re.findall(r"sha256:([0-9a-f]{64})", text.decode()))
    for wheel in wheels:
        if hashlib.sha256(wheel.read_bytes()).hexdigest() not in pinned:
            raise Failed(
                f"{wheel} has a hash that {requirements.name} does not pin: remove {place}, and pack again"
            )
    return wheels


def unpack(wheel: pathlib.Path, folder: pathlib.Path) -> None:
    """Write the modules of a wheel into a directory of modules, without its commands. Raises Failed."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            parts = _in_site_packages(name)
            if name.endswith("/") or not parts or pathlib.PurePath(name).suffix in UNUSED:
                continue
            file = folder.joinpath(*parts)
            if not file.resolve().is_relative_to(folder.resolve()) or file.exists():
                raise Failed(
                    f"{wheel.name} has the file {name}, which is outside of the wheel or in another wheel, too"
                )
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(archive.read(name))


def _in_site_packages(name: str) -> list[str]:
    """Return the path below site-packages at which a file of a wheel is installed; [] for other files."""
    first, *rest = name.split("/")
    if not first.endswith(".data"):
        return [first, *rest]
    return rest[1:] if rest[0] in {"purelib", "platlib"} else []


def _download(
    requirements: pathlib.Path,
    platform: Platform,
    version: str,
    python: pathlib.Path,
    folder: pathlib.Path,
) -> None:
    # pip asks this Python, not the Python of the base, whether a requirement with a condition is needed.
    command = [
        *(sys.executable, "-m", "pip", "--python", str(python), "download", "-q"),
        *("--disable-pip-version-check", *EXACTLY, "--requirement", str(requirements)),
        *("--python-version", version, "--implementation", "cp"),
        *(word for tag in platform.wheel_tags for word in ("--platform", tag)),
        *("--dest", str(folder)),
    ]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failed(
            f"pip cannot download the wheels of {requirements.name} for {platform.architecture}: check that this"
            f" machine reaches the package index, and pack again\n{done.stderr.strip()}"
        )
