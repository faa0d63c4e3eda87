"""Whose are files and processes, where we are root and servers must not be?"""

from __future__ import annotations

import os
import pathlib
from typing import TypedDict

Owner = tuple[int, int]  #: a user's number, and a group's


class Identity(TypedDict, total=False):
    """What `subprocess` needs to be told to run a program as somebody else."""

    user: int
    group: int
    extra_groups: list[int]


def identity(owner: Owner | None) -> Identity:
    """To run as this owner; as we are, if it is None."""
    return {"user": owner[0], "group": owner[1], "extra_groups": []} if owner else {}


def own(path: pathlib.Path, owner: Owner | None) -> None:
    """The file or directory is this owner's; as it is, if that is None."""
    if owner:
        os.chown(path, *owner)
