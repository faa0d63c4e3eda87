"""Compile the modules of the charm, so that no hook has to.

Juju's agent does not keep modification times when it unpacks a charm, so Python would reject bytecode that
is checked by them. Bytecode with an unchecked hash is loaded as it is.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

from packing.failed import Failed

# The environment variable that names the interpreter.
OPTION = "PACK_PYTHON"


def interpreter(version: tuple[int, int]) -> pathlib.Path:
    """Return a CPython of this version. Raises Failed if this machine has none."""
    wanted = f"cpython-{version[0]}{version[1]}"
    name = f"{version[0]}.{version[1]}"
    if given := os.environ.get(OPTION):
        if _cache_tag(given) == wanted:
            return pathlib.Path(given)
        raise Failed(
            f"{OPTION} is {given}, which is no CPython {name}: set it to the path of a python{name}"
        )
    for candidate in _candidates(name):
        if _cache_tag(candidate) == wanted:
            return pathlib.Path(candidate)
    raise Failed(
        f"CPython {name}, which runs the charm in its base, has to compile the charm, and this machine has none:"
        f" run `uv python install {name}` or `pyenv install {name}`, on Ubuntu 24.04"
        f" `apt-get install python3`, or set {OPTION}=/path/to/python{name}"
    )


def compile_modules(root: pathlib.Path, folders: tuple[str, ...], python: pathlib.Path) -> int:
    """Compile each module in these folders of `root`, and return how many there are."""
    command = [
        # Neither the site-packages nor the environment of the user have an influence on the result.
        *(str(python), "-S", "-s", "-m", "compileall", "-q"),
        *("--invalidation-mode", "unchecked-hash", "-s", str(root)),
        *(str(root / folder) for folder in folders),
    ]
    done = subprocess.run(
        command,
        env={"PYTHONHASHSEED": "0"},
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(f"{python} cannot compile the charm:\n{done.stdout.strip()}")
    return sum(1 for folder in folders for _ in (root / folder).rglob("*.pyc"))


def _candidates(name: str) -> Iterator[str]:
    for command in (f"python{name}", "python3"):
        if found := shutil.which(command):
            yield found
    # pyenv and uv do not put every version that they have on the PATH.
    pyenv = os.environ.get("PYENV_ROOT") or pathlib.Path.home() / ".pyenv"
    data = os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local" / "share"
    uv = os.environ.get("UV_PYTHON_INSTALL_DIR") or pathlib.Path(data, "uv", "python")
    for place, pattern in ((pyenv, f"versions/{name}.*"), (uv, f"cpython-{name}.*")):
        for version in sorted(pathlib.Path(place).glob(pattern), reverse=True):
            yield str(version / "bin" / f"python{name}")


def _cache_tag(python: str) -> str:
    """Return what kind of bytecode the interpreter writes, as `cpython-312`; "" if it does not run."""
    try:
        return subprocess.run(
            [python, "-I", "-c", "import sys; print(sys.implementation.cache_tag)"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=30,
            check=False,
        ).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
