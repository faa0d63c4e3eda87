"""Write a directory into the file that is deployed, so that equal files give equal bytes."""

from __future__ import annotations

import hashlib
import os
import pathlib
import time
import zipfile

from packing.failed import Failed

# 1980-01-01, the first date that a zip file can have.
FIRST_DATE = 315532800

# charmcraft writes this file, too, and this version of charmcraft writes the same keys. Juju reads `bases`.
MANIFEST = """\
analysis:
  attributes:
  - name: language
    result: python
  - name: framework
    result: operator
bases:
- architectures:
  - {architecture}
  channel: '{channel}'
  name: {name}
charmcraft-started-at: '{date}'
charmcraft-version: 4.5.0
"""


def date() -> time.struct_time:
    """Return the date of all files: $SOURCE_DATE_EPOCH, or a fixed date. Raises Failed."""
    given = os.environ.get("SOURCE_DATE_EPOCH") or str(FIRST_DATE)
    if not given.isdecimal():
        raise Failed(f"SOURCE_DATE_EPOCH is {given}: set it to seconds since 1970, or unset it")
    return time.gmtime(max(int(given), FIRST_DATE))


def manifest(base: str, architecture: str) -> str:
    """Return the text of manifest.yaml."""
    name, _, channel = base.partition("@")
    started = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", date())
    return MANIFEST.format(architecture=architecture, name=name, channel=channel, date=started)


def write(root: pathlib.Path, target: pathlib.Path) -> str:
    """Write the file, and return its SHA-256 sum. The order, the dates and the modes of its entries are fixed."""
    new = target.with_suffix(".new")
    with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(file for file in root.rglob("*") if file.is_file()):
            entry = zipfile.ZipInfo(file.relative_to(root).as_posix(), date()[:6])
            # Entries of a Unix have modes.
            entry.create_system = 3
            mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    new.replace(target)
    return hashlib.sha256(target.read_bytes()).hexdigest()
