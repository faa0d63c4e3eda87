"""A machine of a reader who has just cloned the repository: a copy of the tree, an empty home, no other process.

The programs that `make up` would fetch are there already, because tests do not use the network: the packages of
Python in `.venv`, and PgBouncer in the cache.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pages.blocks import Page, missing, script
from pooler import binaries

ROOT = pathlib.Path(__file__).parents[2]
ORDINARY_USER = "nobody"
NAMESPACES = ("--net", "--pid", "--fork", "--kill-child", "--mount-proc")
# A page that does not end has failed. The limit is generous, because a busy machine is slow.
SECONDS = 900
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class Failure(NamedTuple):
    """What a page says that was not true, and the output of the block."""

    what: str
    output: str

    def __str__(self) -> str:
        return f"{self.what}\n{self.output}"


class Machine:
    """A clone and a home in a directory of their own. Close it to remove both, and every process of it."""

    def __init__(
        self,
        *,
        root: bool = False,
        name: str = "clone",
        path: str = PATH,
        cache: bool = True,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="page-", dir="/tmp"))
        self.folder.chmod(0o711)
        self.clone, self.home = self.folder / name, self.folder / f"{name}-home"
        _export(self.clone)
        self.home.mkdir()
        (self.folder / "cache").mkdir()
        if cache:
            _fill(self.folder / "cache")
        self._user = None if root or os.geteuid() else ORDINARY_USER
        self._environment = {
            "HOME": str(self.home),
            "PATH": path,
            "LANG": "C.UTF-8",
            "POOLER_CACHE": str(self.folder / "cache"),
            # An ordinary user has its files below $HOME. Those of root are the same for every test.
            **({"POOLER_HOME": str(self.folder / "state")} if root else {}),
            **(variables or {}),
        }
        for folder in (self.clone, self.home, self.folder / "cache"):
            self._own(folder)

    def _own(self, folder: pathlib.Path) -> None:
        if self._user:
            user = pwd.getpwnam(self._user)
            subprocess.run(["chown", "-hR", f"{user.pw_uid}:{user.pw_gid}", folder], check=True)

    def close(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def read(self, *pages: Page, before: str = "", after: str = "") -> Failure | None:
        """Run the blocks of the pages in this order, and return the first that is not as its page says.

        `before` and `after` are lines of bash, for what the reader has done before, and for what is true at
        the end.
        """
        texts = [
            ("before", before),
            *((page.name, script(page, str(self._output(page)))) for page in pages),
            ("after", after),
        ]
        for number, (_, text) in enumerate(texts):
            (self.folder / f"{number}.sh").write_text(text)
        steps = "".join(
            f"echo {name} >{self.folder}/step; bash -e {self.folder}/{number}.sh || exit\n"
            for number, (name, text) in enumerate(texts)
            if text
        )
        done = self._bash(steps)
        if done.returncode:
            failed = [file.read_text() for file in self.folder.glob("output-*/failed")]
            return Failure("".join(failed) or done.stdout, self._last_output())
        for page in pages:
            for run in page.runs:
                output = (self._output(page) / str(run.block.line)).read_text()
                if line := missing(run, output):
                    what = f"{page.name}:{run.block.line}: the output has no line {line!r}"
                    return Failure(what, output)
        return None

    def _output(self, page: Page) -> pathlib.Path:
        folder = self.folder / f"output-{page.name.replace('/', '-')}"
        if not folder.exists():
            folder.mkdir()
            self._own(folder)
        return folder

    def _last_output(self) -> str:
        files = list(self.folder.glob("output-*/[0-9]*"))
        if not files:
            return ""
        return max(files, key=lambda file: file.stat().st_mtime).read_text()[-4000:]

    def _bash(self, text: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "step").touch()
        self._own(self.folder / "step")
        command = [*_namespaces(), "sh", "-c", f'{_begin()}; exec "$@"', "sh"]
        if not _namespaces():
            command = []
            # The processes end with their namespace, or here by a command.
            text += "./pooler down --delete --yes >/dev/null 2>&1\n"
        if self._user:
            user = pwd.getpwnam(self._user)
            command += [
                *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
            ]
        try:
            return subprocess.run(
                [*command, "bash", "-c", text],
                cwd=self.clone,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired as late:
            said = f"no end after {SECONDS} s: {(self.folder / 'step').read_text()}"
            return subprocess.CompletedProcess(late.cmd, 1, said)


@contextlib.contextmanager
def without(*names: str) -> Iterator[str]:
    """Yield a directory for $PATH with every program of this machine but those whose names begin so."""
    with tempfile.TemporaryDirectory(prefix="page-path-", dir="/tmp") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)
        for place in PATH.split(":"):
            for program in pathlib.Path(place).iterdir():
                link = folder / program.name
                if not program.name.startswith(names) and not link.is_symlink():
                    link.symlink_to(program)
        yield name


@functools.cache
def _namespaces() -> Sequence[str]:
    """Return the command that runs a program with a network and processes of its own; empty if not allowed."""
    mapped = ("--map-current-user", "--keep-caps") if os.geteuid() else ()
    command = ("unshare", *mapped, *NAMESPACES)
    tried = subprocess.run([*command, "true"], capture_output=True, check=False)
    return () if tried.returncode else command


def _export(clone: pathlib.Path) -> None:
    """Copy the files that git knows, also those that are not committed yet, and give the clone its `.venv`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, clone / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    (clone / ".venv").symlink_to(_packages())


@functools.cache
def _packages() -> pathlib.Path:
    """Return a copy of this Python's environment that every user can read."""
    place = pathlib.Path(tempfile.gettempdir(), f"pages-venv-{os.getpid()}")
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(sys.prefix, place, symlinks=True, copy_function=_link)
    place.chmod(0o755)
    (place / "base").mkdir()
    (place / "ready").touch()
    return place


def _begin() -> str:
    """Return the command that completes a new network, and shows this Python to ordinary users.

    Python may be below a directory that only root can enter, such as its home. That directory is replaced
    by an empty directory in which there is only Python.
    """
    base = pathlib.Path(sys.base_prefix).resolve()
    closed = [folder for folder in reversed(base.parents) if not folder.stat().st_mode & 0o001]
    if os.geteuid() or not closed:
        return "ip link set lo up"
    return (
        f"ip link set lo up; mount --bind '{base}' '{_packages()}/base';"
        f" mount -t tmpfs -o mode=755 none '{closed[0]}'; mkdir -p '{base}';"
        f" mount --bind '{_packages()}/base' '{base}'"
    )


def _link(source: str, target: str) -> None:
    """Make a hard link, or a copy where there can be no link."""
    if os.path.islink(source):
        shutil.copy2(source, target, follow_symlinks=False)
        return
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def remove_packages() -> None:
    """Remove the copy of the environment."""
    if _packages.cache_info().currsize:
        shutil.rmtree(_packages(), ignore_errors=True)


def _fill(cache: pathlib.Path) -> None:
    """Put PgBouncer, the exporter and Prometheus into a cache, as if they had been fetched before."""
    own = binaries.default_cache()
    program = binaries.pgbouncer(own, print)
    if program.parent.parent == own:
        shutil.copytree(program.parent, cache / program.parent.name, symlinks=True)
    for path in (binaries.exporter(own, print), binaries.prometheus(own, print)):
        if path.is_relative_to(own):
            name = path.relative_to(own).parts[0]
            (cache / name).mkdir()
            (cache / name / "root").symlink_to(own / name / "root")
