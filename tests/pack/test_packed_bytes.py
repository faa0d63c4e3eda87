"""Two builds of the same sources give the same bytes."""

import hashlib
import os
import stat
import subprocess
import sys
import zipfile

from pack.deployed import checkout
from packing import archive


def test_make_pack_in_another_directory_gives_the_same_bytes(packed, folder):
    other = checkout(folder / "another" / "directory")
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        ["make", "-s", "pack", f"PYTHON={sys.executable}"],
        cwd=other,
        env=environment,
        umask=0o077,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == packed.sums
    for file in (packed.amd64, packed.arm64):
        assert (other / file.name).read_bytes() == file.read_bytes()


def test_the_sums_that_are_printed_are_those_of_the_files(packed):
    files = (packed.amd64, packed.arm64)
    sums = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}" for file in files]
    assert packed.sums == sums


def test_entries_are_in_order_with_one_date_and_two_modes(packed):
    for file in (packed.amd64, packed.arm64):
        entries = zipfile.ZipFile(file).infolist()
        names = [entry.filename for entry in entries]
        assert names == sorted(names, key=lambda name: name.split("/"))
        assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
        modes = {entry.filename: entry.external_attr >> 16 for entry in entries}
        executable = {name for name, mode in modes.items() if mode == stat.S_IFREG | 0o755}
        assert executable == {"dispatch", "src/charm.py"}
        assert {modes[name] for name in names if name not in executable} == {stat.S_IFREG | 0o644}


def test_source_date_epoch_is_the_date_of_all_entries(tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    charm, file = tmp_path / "charm", tmp_path / "packed.charm"
    charm.mkdir()
    (charm / "manifest.yaml").write_text(archive.manifest("ubuntu@24.04", "amd64"))
    archive.write(charm, file)
    packed = zipfile.ZipFile(file)
    assert {entry.date_time for entry in packed.infolist()} == {(2023, 11, 14, 22, 13, 20)}
    manifest = packed.read("manifest.yaml").decode()
    assert "charmcraft-started-at: '2023-11-14T22:13:20+00:00'" in manifest
