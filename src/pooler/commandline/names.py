"""Read names for completion from files, without the modules that know PgBouncer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from pooler.home import home
from pooler.version import ROOT

# A shell expands what a name contains, so other names are not completed.
_SAFE = re.compile(r"[A-Za-z0-9_/-]{1,80}")


def applications() -> list[str]:
    """Return the names of related applications."""
    return _safe(client["application"] for client in _stored("clients").values())


def units() -> list[str]:
    """Return the numbers of units."""
    return _safe(name.rpartition("/")[2] for name in _stored("units"))


def options() -> list[str]:
    """Return the names of options in config.yaml."""
    text = (ROOT / "config.yaml").read_text()
    return re.findall(r"^  ([a-z_-]+):$", text, re.MULTILINE)


def _stored(key: str) -> dict[str, dict[str, object]]:
    return json.loads((home() / "state.json").read_text())["model"][key]


def _safe(names: Iterable[object]) -> list[str]:
    return sorted(name for name in names if isinstance(name, str) and _SAFE.fullmatch(name))
