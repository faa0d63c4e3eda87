"""Refresh the units to the next release and back, one after another, while clients come and go.

Each hook of a unit runs with the code of the release that the unit has: a copy of this release, and a copy in
which every value that units share has a further field. The leader is refreshed last. As with a partition in
Kubernetes, a unit is refreshed when the unit before it has let it go.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator

from load import Load, ledger, writes_now_and_then_slowly
from report import Row
from stage import Platform, Server, Stage, server

TITLE = "8 a refresh breaks nothing"

HERE = pathlib.Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
CLIENTS = 8
REST = 0.1  #: seconds between two transactions of a client
UNITS = (
    "pgbouncer/2",
    "pgbouncer/1",
    "pgbouncer/0",
)  #: in the order of a refresh: the leader is the last
SECONDS = 60  #: for the hooks of a unit

# Values that units share, with the modules of the domain in which they are.
SHARED = {
    "plan": ("Plan", "Member", "Upstream", "Serving"), "ledger": ("Ledger",), "users": ("Grant",),
    "budget": ("UnitBudget",), "applied": ("AppliedState",),
}  # fmt: skip


async def demonstrate(stage: Stage) -> None:
    """Refresh to the next release, back, and to a release that fails."""
    with tempfile.TemporaryDirectory(prefix="releases-", dir="/tmp") as name:
        releases = _releases(pathlib.Path(name))
        options = ("pool_mode=transaction", "--units", "3")
        async with server() as backend, stage.platform(backend, *options) as pooler:
            await ledger(await pooler.login())
            refresh = _Refresh(stage, pooler, backend, releases)
            for done, release in (("to the next release", "next"), ("and back", "this")):
                async with refresh.case(done) as (row, load):
                    await refresh.rolls(row, load, release)
            async with refresh.case("to a release that fails, and back") as (row, load):
                await refresh.fails(row, load)
                await refresh.rolls(row, load, "this")


class _Refresh:
    """The units, each with its release."""

    def __init__(
        self,
        stage: Stage,
        pooler: Platform,
        backend: Server,
        releases: dict[str, pathlib.Path],
    ) -> None:
        self._stage, self._pooler, self._backend = stage, pooler, backend
        self._releases = releases
        self._release = dict.fromkeys(UNITS, "this")

    @contextlib.asynccontextmanager
    async def case(self, done: str) -> AsyncIterator[tuple[Row, Load]]:
        """Let clients write over a new connection for each transaction, to whichever unit accepts it."""
        with self._stage.case(done) as row:
            login = await self._pooler.login()
            load = Load(login, CLIENTS, writes_now_and_then_slowly, rest=REST, each=1)
            try:
                async with load:
                    yield row, load
                    await asyncio.sleep(self._stage.seconds / 2)
            finally:
                load.account(row)
                row.note(load.summary)
                load.check(row, self._backend)

    async def rolls(self, row: Row, load: Load, release: str) -> None:
        """Refresh every unit, each after the unit before it has let it go."""
        for unit in UNITS:
            await self._replace(unit, release)
            # The leader hears of the unit, with the release that the leader has.
            if not await self._lets_next_go(unit):
                row.fail(f"{unit} holds the refresh to release {release} back")
                return
            await load.goes_on()
        await self._hear(*UNITS)

    async def fails(self, row: Row, load: Load) -> None:
        """Refresh to a release whose hooks fail: the first unit never lets the next unit go."""
        first = UNITS[0]
        await self._run(self._release[first], "end", first)
        self._release[first] = "bad"
        try:
            await self._run("bad", "start", first)
        except subprocess.CalledProcessError:
            self._stage.say(f"the hooks of {first} fail")
        else:
            row.fail("the release does not fail")
        await load.goes_on()
        if first in await self._hear(*UNITS):
            row.fail(f"{first} lets the next unit go, and serves nothing")

    async def _replace(self, unit: str, release: str) -> None:
        # Where hooks fail, the hook stop fails, too, and nothing runs that has to end.
        if self._release[unit] != "bad":
            await self._run(self._release[unit], "end", unit)
        self._release[unit] = release
        await self._run(release, "start", unit)
        self._stage.say(f"{unit} runs release {release}")

    async def _lets_next_go(self, unit: str) -> bool:
        """Run hooks of the peer relation until the unit lets the next unit go; return whether it does."""
        leader = UNITS[-1]
        for heard in ((leader,), *[(leader, unit)] * 4):
            if unit in await self._hear(*heard):
                return True
        return False

    async def _hear(self, *names: str) -> list[str]:
        """Run the hook of the peer relation, the leader first; return which units let the next unit go."""
        found: list[str] = []
        for release in dict.fromkeys(reversed(self._release.values())):
            units = [name for name in reversed(UNITS) if self._release[name] == release]
            units = [name for name in units if name in names]
            if not units or release == "bad":
                continue
            found = await self._run(release, "hear", *units)
        return found

    async def _run(self, release: str, what: str, *units: str) -> list[str]:
        """Run hooks with the code of a release. Raises CalledProcessError."""
        here = {"PYTHONPATH": str(self._releases[release])}
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, HERE / "release.py", self._pooler.pooler.home, what, *units],
            env=self._pooler.pooler.environment | here,
            capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip
        if done.returncode and release != "bad":
            raise RuntimeError(f"{what} {units} with release {release}: {done.stderr[-600:]}")
        done.check_returncode()
        return json.loads(done.stdout)


def _releases(place: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return the directories of the code of three releases."""
    place.chmod(0o711)
    found = {name: place / name for name in ("this", "next", "bad")}
    for directory in found.values():
        shutil.copytree(SOURCE, directory, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(SOURCE.parent / "templates", place / "templates")
    for module, classes in SHARED.items():
        file = found["next"] / "domain" / f"{module}.py"
        text = file.read_text()
        for name in classes:
            text, count = re.subn(
                rf'(^class {name}\(.*\):\n    """[^"]*"""\n)',
                r'\1\n    from_the_next_release: tuple[str, ...] = ("a", "b")\n',
                text,
                flags=re.MULTILINE,
            )
            assert count == 1, name
        file.write_text(text)
    start = found["bad"] / "app" / "hooks" / "start.py"
    start.write_text('raise RuntimeError("this release fails")\n')
    return found
