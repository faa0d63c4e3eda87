"""Read for which platforms the charm is packed."""

from __future__ import annotations

import pathlib
from typing import NamedTuple

from packing.failed import Failed

ROOT = pathlib.Path(__file__).resolve().parents[1]

# By base: the version of the `python3` that runs the charm there, and the minor version of its glibc.
PYTHONS = {"ubuntu@24.04": ((3, 12), 39)}

# By architecture as Juju names it: the name in the tags of wheels, and `e_machine` of ELF files.
MACHINES = {"amd64": ("x86_64", 62), "arm64": ("aarch64", 183)}


class Platform(NamedTuple):
    """What a packed file runs on."""

    base: str
    architecture: str

    @property
    def python(self) -> tuple[int, int]:
        """Return the version of the interpreter, as (3, 12)."""
        return PYTHONS[self.base][0]

    @property
    def wheel_tags(self) -> list[str]:
        """Return the platform tags of the wheels that run there, the best first."""
        machine = MACHINES[self.architecture][0]
        # manylinux2014 is the older name of manylinux_2_17, the oldest tag that has both architectures.
        minors = range(PYTHONS[self.base][1], 16, -1)
        return [
            *(f"manylinux_2_{minor}_{machine}" for minor in minors),
            f"manylinux2014_{machine}",
        ]

    @property
    def elf_machine(self) -> int:
        """Return the number of the architecture in the header of its shared libraries."""
        return MACHINES[self.architecture][1]


class Recipe(NamedTuple):
    """The name of the charm and its platforms."""

    name: str
    platforms: list[Platform]


def platform(label: str) -> Platform:
    """Return a platform by its label in charmcraft.yaml. Raises Failed for an unknown platform."""
    base, _, architecture = label.partition(":")
    if base not in PYTHONS or architecture not in MACHINES:
        raise Failed(
            f"the platform {label} of charmcraft.yaml is unknown: in packing/recipe.py, add the Python of the"
            " base to PYTHONS, or the architecture to MACHINES"
        )
    return Platform(base, architecture)


def read(root: pathlib.Path = ROOT) -> Recipe:
    """Return what metadata.yaml and charmcraft.yaml say. Raises Failed for an unknown platform."""
    import yaml

    name = yaml.safe_load((root / "metadata.yaml").read_text())["name"]
    labels = yaml.safe_load((root / "charmcraft.yaml").read_text())["platforms"]
    return Recipe(name, [platform(label) for label in labels])
