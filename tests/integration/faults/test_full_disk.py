"""The disk is full: every verb says so and what to do, nothing is lost, and with room all goes on."""

import contextlib
import os
import pathlib
import subprocess
import tempfile

import psycopg
import pytest
from crash_cli import MortalPooler, differences, end_state, processes
from platform_under_test import value

# A small file system can be mounted by root only.
pytestmark = pytest.mark.root

SIZE = "96m"
MORE = "insert into kept select repeat('x', 1000) from generate_series(1, 100)"
NO_ROOM = "No space left on device"


class Disk:
    """A small file system."""

    def __init__(self, place):
        self.place = place
        self._filler = place / "filler"

    def fill(self, leave=0):
        """So many bytes are free."""
        self.empty()
        with open(self._filler, "wb", buffering=0) as file:
            room = os.statvfs(self.place)
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - leave)

    def empty(self):
        self._filler.unlink(missing_ok=True)


@pytest.fixture
def disk():
    # Servers run as another user, who could not enter pytest's own.
    place = pathlib.Path(tempfile.mkdtemp(prefix="disk-", dir="/tmp"))
    options = f"size={SIZE},mode=711"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], check=True)
    try:
        yield Disk(place)
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)
        place.rmdir()


@pytest.fixture
def pooler(disk):
    pooler = MortalPooler(home=disk.place / "home")
    try:
        yield pooler
    finally:
        disk.empty()
        pooler.close()


def refused(pooler, *words):
    done = pooler.run(*words)
    assert done.returncode == 1, done.stdout
    assert NO_ROOM in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def half_written(pooler):
    return [one.name for one in pooler.home.rglob("*.new") if "postgresql" not in one.parts]


def test_a_first_up_says_so_and_goes_on_when_there_is_room(pooler, disk):
    disk.fill()
    assert "free some space there" in refused(pooler, "up")
    disk.fill(leave=20 * 2**20)
    refused(pooler, "up")
    disk.empty()
    assert "active" in pooler.up()
    assert not list(pooler.home.glob("postgresql-*"))


def test_no_verb_leaves_half_of_its_work(pooler, disk):
    pooler.up()
    pooler("relate", "shop")
    pooler("unrelate", "shop")
    with pooler.client("demo") as connection:
        connection.execute("create table kept (number int)")
        connection.execute("insert into kept values (1)")
    before = end_state(pooler)
    disk.fill()
    for words in (
        "relate shop", "config max_db_connections=40", "scale 3", "scale 1", "pause",
        f"config listen_port={pooler.port + 1}",
    ):  # fmt: skip
        assert "free some space there" in refused(pooler, *words.split())
        assert not half_written(pooler)
    assert "active" in pooler("status")
    with pooler.client("demo") as connection:
        assert value(connection, "select count(*) from kept") == 1
    disk.empty()
    pooler("up")
    assert not differences(end_state(pooler), before)


def test_what_postgresql_acknowledged_is_there_when_there_is_room(pooler, disk):
    pooler.up()
    rows = 0
    with pooler.client("demo") as connection:
        connection.execute("create table kept (text text)")
        disk.fill(leave=2**20)
        with contextlib.suppress(psycopg.Error):
            while rows < 10_000:
                connection.execute(MORE)
                rows += 100
    assert 0 < rows < 10_000
    disk.empty()
    pooler("up")
    with pooler.client("demo") as connection:
        assert value(connection, "select count(*) from kept") == rows
        connection.execute("insert into kept values ('more')")


def test_a_full_disk_can_be_emptied_by_going_down(pooler, disk):
    pooler.up()
    disk.fill()
    pooler("down")
    refused(pooler, "up")
    pooler.delete()
    assert not pooler.home.exists()
    assert not processes(pooler.home)
