"""Name the command `pooler` in messages as the user called it, so that the user can copy the words."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping

# The script `pooler` sets this variable to its own path, as the user or the shell wrote it.
VARIABLE = "POOLER_COMMAND"

# Messages name a command as `pooler up`. Without a verb, `pooler` is the name of the program.
_NAMED = re.compile(r"`pooler(?= )")


def command() -> str:
    """Return what the user types to call the command, such as `./pooler`."""
    script = os.environ.get(VARIABLE)
    return typed(script, os.environ) if script else "pooler"


def as_called(text: str) -> str:
    """Return a message with each `pooler …` replaced by the command as the user called it."""
    return _NAMED.sub(lambda _: f"`{command()}", text)


def typed(script: str, environment: Mapping[str, str]) -> str:
    """Return what a user types to call a script again; `script` is its path as the shell wrote it.

    The name is enough for a script that $PATH finds: the shell then writes the directory before it.
    """
    folder, name = os.path.split(script)
    if not folder:
        # `sh pooler` runs a file in the current directory.
        return f"./{shlex.quote(name)}"
    if script == _found(name, environment.get("PATH", "")):
        return shlex.quote(name)
    home = environment.get("HOME", "").rstrip("/")
    if home and script.startswith(f"{home}/"):
        return f"~/{shlex.quote(script[len(home) + 1 :])}"
    return shlex.quote(script)


def _found(name: str, path: str) -> str | None:
    """Return the first file of this name in the directories of $PATH that can run."""
    files = (os.path.join(folder or ".", name) for folder in path.split(os.pathsep))
    return next((file for file in files if os.access(file, os.X_OK)), None)
